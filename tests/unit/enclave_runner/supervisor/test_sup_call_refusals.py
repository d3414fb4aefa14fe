"""Calls that are refused: what they may not ask, how much one business may be told, and what they use up."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta

import msgspec
import pytest

from enclave_runner.contract.call import (
    Ask,
    BucketAsk,
    EqualityAsk,
    EvaluationAsk,
    LookupAsk,
    OpeningAnswer,
    OpeningAsk,
    ScoreAsk,
    ThresholdAsk,
)
from enclave_runner.contract.check import CheckKind, VerificationMode
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.protocols import oprf, threshold
from enclave_runner.contract.wire import Alarms, AskAlarms
from enclave_runner.supervisor.ledger import utc_now
from enclave_runner.supervisor.opening import close_product
from enclave_runner.supervisor.service import answer as door
from tests.support.enclave_home import PEOPLE, PEOPLE_CSV, Site, make_bureau, make_grant, running_site, with_enclave
from tests.support.open_products import Product, caller, check_of, equal, opened, plain, product_of, refused, table_of

P0, P1, P2 = VerificationMode.PLAIN, VerificationMode.EQUALITY, VerificationMode.THRESHOLD
P3, P4, P5 = VerificationMode.BUCKET, VerificationMode.LOOKUP, VerificationMode.SCORE
EDGES = (18, 24, 60)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """An enclave whose tables may be small; 4 bits for each subject."""
    limits = {"k_min": "64", "bits_per_subject": '"4"', "alarm_bits": '"6"', "evaluations_per_caller": "8"}
    with running_site(make_bureau(tmp_path_factory.mktemp("calls"), **limits)) as running:  # type: ignore[arg-type]
        running.import_csv(PEOPLE, PEOPLE_CSV)
        yield running


@pytest.fixture(scope="module")
def city(site: Site) -> Product:
    """Is the city y? P0, P1."""
    return product_of(site, "city", CheckKind.EQUALS, "city", P0, P1)


@pytest.fixture(scope="module")
def age(site: Site) -> Product:
    """Is the age at least T? P0, P2."""
    return product_of(site, "age", CheckKind.AT_LEAST, "age", P0, P2, edges=EDGES)


@pytest.fixture(scope="module")
def west(site: Site) -> Product:
    """Is the city in the west? P0, P3, P4."""
    return product_of(site, "west", CheckKind.MEMBER, "city", P0, P3, P4, members=("西城",))


# Refused, with a receipt


POINT = oprf.blind(b"x").element


@pytest.mark.parametrize(
    "ask",
    [
        EqualityAsk(subject="p1", blinded=POINT),
        EvaluationAsk(mode=P3, blinded=(POINT,)),
        EvaluationAsk(mode=P4, blinded=(POINT,)),
        EvaluationAsk(mode=P0, blinded=(POINT,)),
        EvaluationAsk(mode=P2, blinded=(POINT,)),
        BucketAsk(bucket=0),
        LookupAsk(question=bytes(4)),
        ScoreAsk(subjects=("p1",), key=b"", features=(b"",)),
    ],
)
def test_a_mode_that_is_not_offered_is_refused(age: Product, ask: Ask) -> None:
    assert refused(age, age.ask(ask, caller())) == "call.mode"


@pytest.mark.parametrize("version", ["", "0" * 32, "../../raw"])
def test_another_version_is_refused_and_named(age: Product, version: str) -> None:
    reply = age.send(age.call(plain(("p1", "1")), version=version))
    assert refused(age, reply) == "call.stale-version"
    assert reply.facts == {"version": age.offer.version}


@pytest.mark.parametrize("claim", ["", "21.5", "two", "1e3", "99999999999999999999"])
def test_a_claim_that_is_none_is_refused(age: Product, claim: str) -> None:
    assert refused(age, age.ask(plain(("p1", "21"), ("p1", claim)), caller())) in (
        "verification.claim-form",
        "call.claim",
    )


def test_a_claim_where_none_is_compared_is_refused(west: Product) -> None:
    assert refused(west, west.ask(plain(("p1", "西城")), caller())) == "call.claim"


def test_a_batch_has_a_largest_size(site: Site, age: Product) -> None:
    limits = msgspec.structs.replace(
        site.enclave.limits, verification=msgspec.structs.replace(site.enclave.limits.verification, max_batch=2)
    )
    small = Product(with_enclave(site, limits=limits), age.ticket, age.offer)
    assert refused(age, small.ask(plain(*[("p1", "1")] * 3), caller())) == "call.batch"


BAD_POINTS = [bytes(32), b"\xff" * 32, (1).to_bytes(32, "little"), b"\x01" + b"\xff" * 30 + b"\x7f"]


@pytest.mark.parametrize("point", BAD_POINTS)
def test_a_point_that_is_none_is_refused_and_no_guess(site: Site, city: Product, west: Product, point: bytes) -> None:
    who = caller()
    for _ in range(9):
        assert refused(city, city.ask(EqualityAsk(subject="p3", blinded=point), who)) == "verification.point"
        assert refused(west, west.ask(EvaluationAsk(mode=P4, blinded=(point,)), who)) == "verification.point"
    assert equal(city, "p3", "西城", who) == (True, True)
    assert west.answer(EvaluationAsk(mode=P4, blinded=(POINT,)), who) is not None


def test_an_opening_of_somebody_else_is_refused(age: Product) -> None:
    opening = age.answer(OpeningAsk(), caller())
    assert isinstance(opening, OpeningAnswer)
    choice, _ = threshold.choose(opening.point, 0, b"")
    for name in (opening.opening, b"", bytes(64), opening.opening[:-1] + b"x"):
        ask = ThresholdAsk(subject="p3", opening=name, choice=choice)
        assert refused(age, age.ask(ask, caller())) == "verification.opening"


@pytest.mark.parametrize("length", [0, 3, 5, 4096])
def test_a_question_of_another_length_is_refused(west: Product, length: int) -> None:
    assert refused(west, west.ask(LookupAsk(question=bytes(length)), caller())) == "verification.question"


def test_a_bucket_that_is_not_there_is_refused(west: Product) -> None:
    assert refused(west, west.ask(BucketAsk(bucket=table_of(west).columns), caller())) == "verification.bucket"


def test_data_that_are_too_old_cannot_say(site: Site) -> None:
    fields = {"members": ("西城",), "says_unknown": True, "max_age_days": 1}
    product = product_of(site, "old", CheckKind.MEMBER, "city", P0, P3, **fields)
    assert product.verdicts(("p3", ""), caller=caller()) == ("yes",)
    moment = product.offer.source_at + timedelta(days=1, seconds=1)
    late = Product(with_enclave(site, clock=lambda: moment), product.ticket, product.offer)
    assert late.verdicts(("p3", ""), ("p4", ""), caller=caller()) == ("cannot-say", "cannot-say")
    assert refused(late, late.ask(EvaluationAsk(mode=P3, blinded=(POINT,)), caller())) == "verification.stale"


def test_a_product_that_needs_consent_wants_it_named(site: Site) -> None:
    product = product_of(site, "consent", CheckKind.EQUALS, "city", P0, needs_consent=True)
    call = product.call(plain(("p1", "西城")))
    assert refused(product, product.send(call)) == "call.consent"
    reply = product.send(product.call(plain(("p1", "西城"))), consents="consent-1")
    assert product.receipt(reply).consents == "consent-1"


# Guesses


def test_a_subject_has_a_limit_for_each_business_and_each_attribute(site: Site, age: Product, city: Product) -> None:
    who, other = caller(), caller()
    for _ in range(4):
        age.verdicts(("p9", "21"), caller=who)
    reply = age.ask(plain(("p8", "21"), (" p9", "21")), who)
    assert refused(age, reply) == "verification.exhausted"
    assert reply.facts == {"bits": "4", "number": "2"}
    age.verdicts(("p8", "21"), caller=who)
    age.verdicts(("p9", "21"), caller=other)
    city.verdicts(("p9", "西城"), caller=who)


def test_one_batch_cannot_pass_the_limit(age: Product) -> None:
    who = caller()
    assert refused(age, age.ask(plain(*[("p9", str(number)) for number in range(5)]), who)) == "verification.exhausted"
    assert len(age.verdicts(*[("p9", str(number)) for number in range(4)], caller=who)) == 4


def test_guesses_in_all_modes_count_together(city: Product) -> None:
    who = caller()
    for _ in range(2):
        equal(city, "p11", "西城", who)
        city.verdicts(("p11", "西城"), caller=who)
    assert refused(city, city.ask(EqualityAsk(subject="p11", blinded=POINT), who)) == "verification.exhausted"


def test_calls_at_once_do_not_pass_the_limit_together(age: Product) -> None:
    who, answered = caller(), []

    def ask() -> None:
        for _ in range(3):
            if age.ask(plain(("p12", "21")), who).answer is not None:
                answered.append(1)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answered) == 4


def test_evaluations_have_a_limit_for_each_business(west: Product) -> None:
    who = caller()
    assert west.ask(EvaluationAsk(mode=P3, blinded=(POINT,) * 5), who).answer is not None
    reply = west.ask(EvaluationAsk(mode=P4, blinded=(POINT,) * 4), who)
    assert refused(west, reply) == "verification.evaluations"
    assert reply.facts == {"max": "8", "left": "3"}
    assert west.ask(EvaluationAsk(mode=P4, blinded=(POINT,) * 3), who).answer is not None
    assert west.ask(EvaluationAsk(mode=P4, blinded=(POINT,)), caller()).answer is not None


def test_opening_anew_gives_no_fresh_quota_of_evaluations(site: Site) -> None:
    """Neither the same product nor another one over the same attribute, until the data have a new version."""
    who, fields = caller(), {"members": ("东城",)}
    first = product_of(site, "quota", CheckKind.MEMBER, "city", P0, P3, **fields)
    assert first.ask(EvaluationAsk(mode=P3, blinded=(POINT,) * 8), who).answer is not None
    for product_id in ("quota", "quota-2"):
        product = product_of(site, product_id, CheckKind.MEMBER, "city", P0, P3, **fields)
        assert (
            refused(product, product.ask(EvaluationAsk(mode=P3, blinded=(POINT,)), who)) == "verification.evaluations"
        )
        assert refused(product, product.ask(BucketAsk(bucket=0), who)) == "verification.moves"


def test_second_moves_are_four_for_each_evaluation(west: Product) -> None:
    who = caller()
    assert refused(west, west.ask(BucketAsk(bucket=0), who)) == "verification.moves"
    west.ask(EvaluationAsk(mode=P3, blinded=(POINT,)), who)
    question = bytes(4 * table_of(west).columns)
    for ask in (BucketAsk(bucket=0), LookupAsk(question=question)) * 2:
        assert west.ask(ask, who).answer is not None
    assert refused(west, west.ask(LookupAsk(question=question), who)) == "verification.moves"


def test_many_businesses_about_one_subject_are_an_alarm_and_lock_nobody_out(site: Site, age: Product) -> None:
    for _ in range(3):
        who = caller()
        for _ in range(3):
            age.verdicts(("p13", "21"), caller=who)
    assert age.verdicts(("p13", "21"), caller=caller())
    alarms = door(site.enclave, AskAlarms(), None)
    assert isinstance(alarms, Alarms)
    assert (alarms.items[0].milli_bits, alarms.items[0].callers, alarms.items[0].attribute) == (10_000, 4, "age")
    assert len(bytes.fromhex(alarms.items[0].pseudonym)) == 32


# Uses, caps, retries


def test_answered_questions_are_uses_of_the_grant(site: Site) -> None:
    grant = make_grant(max_uses=3)
    product = opened(site, check_of("age", CheckKind.AT_LEAST), grant, product_id="uses")
    assert product.verdicts(("p1", "1"), ("p2", "2"), caller=caller())
    assert refused(product, product.ask(plain(("p1", "1"), ("p2", "2")), caller())) == "grant.uses"
    assert product.verdicts(("p1", "1"), caller=caller())
    assert refused(product, product.ask(plain(("p1", "1")), caller())) == "grant.uses"
    readings = {item.grant_id: item.uses for item in site.enclave.ledger.grant_readings()}
    assert readings[grant.grant_id] == 3


def test_calls_of_a_ticket_are_capped_refused_ones_included(site: Site) -> None:
    product = product_of(site, "cap", CheckKind.AT_LEAST, "age", P0, calls=3)
    who = caller()
    product.verdicts(("p1", "1"), caller=who)
    for _ in range(2):
        refused(product, product.ask(plain(("p1", "")), who))
    with pytest.raises(Refused, match=r"call\.cap"):
        product.verdicts(("p1", "1"), caller=who)


def test_what_one_business_is_refused_does_not_use_up_the_calls_of_others(site: Site) -> None:
    product = product_of(site, "share", CheckKind.AT_LEAST, "age", P0, calls=60)
    who, other = caller(), caller()
    rules = []
    for _ in range(40):
        try:
            rules.append(product.ask(plain(("p1", "")), who).rule)
        except Refused as refusal:
            rules.append(refusal.rule)
    assert rules == ["call.claim"] * 20 + ["call.unpaid"] * 20
    product.verdicts(("p1", "1"), caller=other)


def test_paid_questions_allow_their_free_moves(site: Site, west: Product) -> None:
    product = product_of(site, "free", CheckKind.AT_LEAST, "age", P0, P2, edges=EDGES, calls=200)
    who = caller()
    for number in range(15):
        product.verdicts((f"p{number}", "1"), caller=who)
        for _ in range(5):
            assert product.ask(OpeningAsk(), who).answer is not None


def test_a_retry_is_answered_again_unpaid_and_uncounted(site: Site, age: Product) -> None:
    who, call = caller(), age.call(plain(("p14", "21")))
    first = age.send(call, who)
    for _ in range(9):
        assert age.send(call, who) == first
    for _ in range(3):
        age.verdicts(("p14", "21"), caller=who)
    assert age.send(call, who) == first
    assert age.send(call, caller()) != first  # another business's id is its own
    with pytest.raises(Refused, match=r"call\.used"):
        age.send(msgspec.structs.replace(call, salt=bytes(32)), who)


def test_a_product_that_is_not_open_has_no_receipt(site: Site, age: Product) -> None:
    product = product_of(site, "closed", CheckKind.AT_LEAST, "age", P0)
    close_product(site.enclave, product.ticket.ticket_id)
    with pytest.raises(Refused, match=r"product\.not-open"):
        product.verdicts(("p1", "1"))


def test_a_product_ends_with_its_ticket(site: Site) -> None:
    product = product_of(site, "ends", CheckKind.AT_LEAST, "age", P0, expires_at=utc_now() + timedelta(hours=1))
    late = Product(with_enclave(site, clock=lambda: product.ticket.expires_at), product.ticket, product.offer)
    with pytest.raises(Refused, match=r"product\.not-open"):
        late.verdicts(("p1", "1"))
    with pytest.raises(Refused, match=r"product\.not-open"):  # a clock that goes back does not open it again
        product.verdicts(("p1", "1"))
