"""What may be opened and called: checks against their columns, and the moment."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from enclave_runner.contract.call import (
    Ask,
    Asked,
    BucketAsk,
    EqualityAsk,
    EvaluationAsk,
    LookupAsk,
    OpeningAsk,
    PlainAsk,
    ScoreAsk,
    ThresholdAsk,
)
from enclave_runner.contract.check import Check, CheckKind, VerificationMode
from enclave_runner.contract.dataset import Column, ColumnType, KeyKind
from enclave_runner.contract.grant import Mode, Purpose, Scope
from enclave_runner.contract.rulebook import PolicyPack
from enclave_runner.contract.scoring import Feature, Scorecard, ScoreCheck, Term
from sandbox.domain.dataset import Dataset
from sandbox.domain.grant import GrantRecord, GrantStatus
from sandbox.domain.party import PartyStatus
from sandbox.domain.product import Product, ProductStatus
from sandbox.rules.admission import decide_question
from sandbox.rules.calling import (
    decide_callable,
    decide_check,
    decide_life,
    decide_score_bits,
    life_end,
    read_call_limits,
    subjects_of,
)
from sandbox.settings import pack_folder
from tests.support.articles import NOW, a_dataset, a_grant, a_party, a_scenario, a_spec
from tests.support.refusals import failed_at

POINT = bytes(32)
KEY = b"k"


def about(*columns: Column, **changes: object) -> Dataset:
    return a_dataset(personal=False, spec=a_spec(*columns, key_kind=KeyKind.OPAQUE, **changes))


FIRMS = about(
    Column(name="status", title="状态", type=ColumnType.TEXT),
    Column(name="capital", title="资本", type=ColumnType.DECIMAL, scale=2, bounds=(0, 100)),
    Column(name="founded", title="成立", type=ColumnType.DATE),
    Column(name="listed", title="上市", type=ColumnType.BOOLEAN),
)


def check(attribute: str = "status", kind: CheckKind = CheckKind.EQUALS, **changes: object) -> Check:
    fields: dict[str, object] = {"modes": (VerificationMode.PLAIN,), **changes}
    return Check(dataset_id="insurance", attribute=attribute, kind=kind, **fields)  # type: ignore[arg-type]


def product(job: Check | ScoreCheck, *, needs_consent: bool = False) -> Product:
    return Product("p", "operator-a", "g-1", "核验", job, needs_consent, ProductStatus.PUBLISHED)


def score(*terms: Term) -> ScoreCheck:
    model = Scorecard(features=(Feature(name="f", weight=1, low=0, high=10),))
    return ScoreCheck(dataset_id="insurance", model=model, terms=terms)


@pytest.mark.parametrize(
    ("asked", "rule"),
    [
        (check(), None),
        (check("capital", CheckKind.AT_LEAST), None),
        (check("founded", CheckKind.LEVEL, edges=(0, 100)), None),
        (check("listed", CheckKind.EXISTS), None),
        (check("status", CheckKind.MEMBER, members=("active", "")), None),
        (check("capital", CheckKind.MEMBER, members=("1.50", "2")), None),
        (check("status", CheckKind.AT_LEAST), "verification.claim"),
        (check("listed", CheckKind.LEVEL, edges=(0,)), "verification.claim"),
        (check("capital", CheckKind.MEMBER, members=("much",)), "verification.claim-form"),
        (check("founded", CheckKind.MEMBER, members=("yesterday",)), "verification.claim-form"),
        (check("listed", CheckKind.MEMBER, members=("yes",)), "verification.claim-form"),
        (score(Term(column="capital", weight=1, low=0, high=10)), None),
        (score(Term(column="status", weight=1, low=0, high=10)), "verification.claim"),
    ],
)
def test_a_check_fits_its_column_or_is_not_published(asked: Check | ScoreCheck, rule: str | None) -> None:
    assert decide_check(product(asked), FIRMS).rule == rule


def test_an_entity_of_many_rows_has_no_one_value() -> None:
    several = about(*FIRMS.spec.columns[1:], unique=False, rows_per_entity=3)
    assert decide_check(product(check()), several).rule == "verification.many-rows"


@pytest.mark.parametrize("mode", [VerificationMode.BUCKET, VerificationMode.LOOKUP])
def test_a_product_that_needs_consent_does_not_hide_whose(mode: VerificationMode) -> None:
    hiding = check(modes=(VerificationMode.PLAIN, mode))
    decision = decide_question(product(hiding, needs_consent=True), FIRMS)
    assert (decision.rule, decision.facts) == ("product.hidden-consent", {"product": "p", "mode": mode.value})
    assert decide_question(product(hiding), FIRMS).allowed
    assert decide_question(product(check(), needs_consent=True), FIRMS).allowed


@pytest.mark.parametrize(("high", "weight", "allowed"), [(100, 1, True), (100_000, 1, False), (100, 1000, True)])
def test_a_score_that_would_tell_the_value_itself_is_not_published(high: int, weight: int, allowed: bool) -> None:
    asked = score(Term(column="capital", weight=weight, low=0, high=high))
    assert decide_score_bits(asked, 10).allowed is allowed


def test_life_is_bounded_by_the_pack_the_grant_and_the_scenario() -> None:
    assert decide_life(1, 1, 30, 1000).allowed
    assert decide_life(31, 1, 30, 1000).rule == "standing.life"
    assert decide_life(1, 1001, 30, 1000).rule == "standing.calls"
    record = GrantRecord(a_grant(deadline=NOW + timedelta(days=20)), GrantStatus.DRAFT)
    assert life_end(record, a_scenario(), NOW, 5) == NOW + timedelta(days=5)
    assert life_end(record, a_scenario(), NOW, 50) == NOW + timedelta(days=20)
    assert life_end(record, a_scenario(valid_until=NOW + timedelta(days=3)), NOW, 50) == NOW + timedelta(days=3)


def test_limits_come_from_the_pack_or_nothing_is_opened() -> None:
    pack = PolicyPack(pack_folder())
    limits = read_call_limits(pack)
    assert 0 < limits.score_bits < 64
    assert limits.max_days > 0 < limits.max_calls
    del pack.table("limits.toml")["verification"]
    with failed_at("policy.limits"):
        read_call_limits(pack)


def signed_record(**changes: object) -> GrantRecord:
    grant = a_grant(modes=(Mode.VERIFICATION,), scopes=_scopes("status"), budgets=(), **changes)
    record = GrantRecord(grant, GrantStatus.DRAFT)
    object.__setattr__(record, "status", GrantStatus.SIGNED)  # the signature is not looked at here
    return record


def _scopes(*columns: str) -> tuple[Scope, ...]:
    return (Scope(dataset_id="insurance", columns=columns),)


def test_what_stops_a_product_stops_every_call() -> None:
    asked, record, scenario, operator = product(check()), signed_record(), a_scenario(), a_party()

    def rule(**changes: object) -> str | None:
        given = {
            "product": asked,
            "record": record,
            "scenario": scenario,
            "operator": operator,
            "dataset": FIRMS,
            "now": NOW,
            **changes,
        }
        return decide_callable(**given).rule  # type: ignore[arg-type]

    assert rule() is None
    assert rule(product=replace(asked, status=ProductStatus.SUSPENDED)) == "product.not-published"
    assert rule(operator=replace(operator, status=PartyStatus.SUSPENDED)) == "party.inactive"
    assert rule(record=replace(record, status=GrantStatus.REVOKED)) == "grant.not-signed"
    assert rule(now=NOW + timedelta(days=91)) == "grant.expired"
    assert rule(now=NOW - timedelta(days=1)) == "grant.not-yet"
    assert rule(scenario=a_scenario(valid_until=NOW)) == "scenario.expired"
    assert rule(scenario=a_scenario(purpose=Purpose.INDUSTRY)) == "grant.purpose"
    assert rule(product=product(check("capital"))) == "grant.column"
    assert rule(dataset=None) == "dataset.unknown"
    assert rule(dataset=replace(FIRMS, personal=True)) == "product.consent-needed"


@pytest.mark.parametrize(
    ("ask", "subjects"),
    [
        (PlainAsk(asked=(Asked(subject="a"), Asked(subject="b"), Asked(subject="a"))), ("a", "b", "a")),
        (EqualityAsk(subject="a", blinded=POINT), ("a",)),
        (ThresholdAsk(subject="a", opening=b"o", choice=POINT), ("a",)),
        (ScoreAsk(subjects=("a", "b"), features=(b"x",), key=KEY), ("a", "b")),
        (OpeningAsk(), ()),
        (EvaluationAsk(mode=VerificationMode.LOOKUP, blinded=(POINT,)), ()),
        (BucketAsk(bucket=0), ()),
        (LookupAsk(question=b"q"), ()),
    ],
)
def test_whom_a_call_names(ask: Ask, subjects: tuple[str, ...]) -> None:
    assert subjects_of(ask) == subjects
