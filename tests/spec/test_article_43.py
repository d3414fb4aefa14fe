"""第四十三条：敏感数据经数据主体授权同意后，提供给被授权的第三方使用。同意限于一个主体、一家企业、一个产品，到期或撤回即止。"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from msgspec import structs

from enclave_runner.contract.check import Check, CheckKind, VerificationMode
from enclave_runner.contract.dataset import KeyKind
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.grant import Purpose
from enclave_runner.contract.job import Predicate, VerificationJob
from enclave_runner.contract.signing import Signed
from enclave_runner.contract.standing import StandingTicket
from enclave_runner.contract.ticket import Charge
from sandbox.domain.consent import Consent
from sandbox.domain.product import Product
from sandbox.rules.admission import decide_consent, decide_question
from tests.support.articles import NOW, a_dataset, a_spec

SUBJECT = "5" * 64
CONSENT = Consent("c-1", SUBJECT, "bank-a", "income-check", Purpose.INDUSTRY, NOW + timedelta(days=30))


def test_a_consent_covers_what_it_names_until_it_expires() -> None:
    assert CONSENT.covers(SUBJECT, "bank-a", "income-check", Purpose.INDUSTRY, NOW)
    assert not CONSENT.covers(SUBJECT, "bank-a", "income-check", Purpose.INDUSTRY, NOW + timedelta(days=30))


@pytest.mark.parametrize(
    ("subject", "business", "product"),
    [("6" * 64, "bank-a", "income-check"), (SUBJECT, "bank-b", "income-check"), (SUBJECT, "bank-a", "tax-check")],
)
def test_a_consent_covers_nothing_else(subject: str, business: str, product: str) -> None:
    assert not CONSENT.covers(subject, business, product, Purpose.INDUSTRY, NOW)
    assert not CONSENT.covers(SUBJECT, "bank-a", "income-check", Purpose.GOVERNANCE, NOW)


def test_a_withdrawn_consent_covers_nothing() -> None:
    assert not replace(CONSENT, withdrawn_at=NOW).covers(SUBJECT, "bank-a", "income-check", Purpose.INDUSTRY, NOW)


def test_a_consent_never_holds_an_identifier() -> None:
    with pytest.raises(Refused) as refused:
        replace(CONSENT, subject="110105194912310021")
    assert refused.value.rule == "consent.incomplete"
    assert "110105194912310021" not in str(refused.value)


def test_a_consent_ends_at_a_certain_moment() -> None:
    with pytest.raises(Refused) as refused:
        replace(CONSENT, expires_at=datetime(2027, 1, 1))
    assert refused.value.rule == "consent.incomplete"


def test_a_question_about_people_needs_their_consent_as_the_catalogue_says() -> None:
    job = VerificationJob(dataset_id="insurance", attribute="amount", predicate=Predicate.EXISTS)
    asking = Product("income-check", "operator-a", "g-1", "核验", job, needs_consent=False)
    about_firms = a_dataset(spec=a_spec(key_kind=KeyKind.OPAQUE), personal=False)
    about_people = replace(about_firms, personal=True)
    assert decide_question(asking, about_firms).allowed
    assert decide_question(asking, about_people).rule == "product.consent-needed"
    assert decide_question(replace(asking, needs_consent=True), about_people).allowed


def test_a_consent_still_holds_when_the_question_is_asked() -> None:
    job = VerificationJob(dataset_id="insurance", attribute="amount", predicate=Predicate.EXISTS)
    asking = Product("income-check", "operator-a", "g-1", "核验", job, needs_consent=True)
    assert decide_consent(asking, CONSENT, "bank-a", Purpose.INDUSTRY, NOW).allowed
    for ended in (replace(CONSENT, withdrawn_at=NOW), replace(CONSENT, expires_at=NOW), None):
        assert decide_consent(asking, ended, "bank-a", Purpose.INDUSTRY, NOW).rule == "consent.missing"
    assert decide_consent(asking, CONSENT, "bank-a", Purpose.PUBLIC_INTEREST, NOW).rule == "consent.missing"
    assert decide_consent(asking, CONSENT, "bank-b", Purpose.INDUSTRY, NOW).rule == "consent.missing"
    assert (
        decide_consent(replace(asking, product_id="tax-check"), CONSENT, "bank-a", Purpose.INDUSTRY, NOW).rule
        == "consent.missing"
    )
    assert decide_consent(replace(asking, needs_consent=False), None, "bank-a", Purpose.INDUSTRY, NOW).allowed


@pytest.mark.parametrize("mode", [VerificationMode.BUCKET, VerificationMode.LOOKUP])
def test_a_question_that_needs_consent_does_not_hide_whom_it_is_about(mode: VerificationMode) -> None:
    """A withdrawal must end the next call: nobody can honour it for a subject that nobody sees."""
    hiding = Check(dataset_id="insurance", attribute="amount", kind=CheckKind.EXISTS, modes=(mode,))
    asking = Product("income-check", "operator-a", "g-1", "核验", hiding, needs_consent=True)
    about_people = a_dataset(spec=a_spec(key_kind=KeyKind.OPAQUE), personal=True)
    assert decide_question(asking, about_people).rule == "product.hidden-consent"
    assert decide_question(replace(asking, needs_consent=False), about_people).rule == "product.consent-needed"
    plain = replace(asking, job=structs.replace(hiding, modes=(VerificationMode.PLAIN,)))
    assert decide_question(plain, about_people).allowed
    with pytest.raises(ValueError, match="cannot hide its subject"):
        StandingTicket(
            ticket_id="t",
            product_id="income-check",
            grant=Signed(purpose="grant", key_id="", algorithm="", payload=b"", signature=b""),
            check=hiding,
            data_versions={},
            policy_sha256="",
            charge=Charge(tariff_id="t", unit_price_fen=0, legal_basis="x"),
            calls=1,
            issued_at=NOW,
            expires_at=NOW + timedelta(days=1),
            needs_consent=True,
        )


def test_resident_identity_numbers_are_always_personal() -> None:
    with pytest.raises(Refused) as refused:
        a_dataset(personal=False)
    assert refused.value.rule == "dataset.personal"
