from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from sqlalchemy import update

from enclave_runner.contract.errors import Refused
from enclave_runner.contract.job import Answer
from enclave_runner.contract.receipt import VerificationAnswer
from sandbox.domain.consent import Consent
from sandbox.domain.party import PartyStatus
from sandbox.domain.submission import SubmissionStatus
from sandbox.store import audit_log, schema, submissions
from sandbox.store.database import reading, writing
from sandbox.store.submissions import SUBMISSIONS
from sandbox.workflow.consents import file_consent, list_consents, withdraw_consent
from sandbox.workflow.dispatch import dispatch
from sandbox.workflow.grants import revoke_grant
from sandbox.workflow.parties import set_party_status
from sandbox.workflow.products import suspend_product
from sandbox.workflow.releases import get_release
from sandbox.workflow.verify import file_question, verify
from tests.support.bureau import BANK, DEPARTMENT, OPERATOR, PAID, PRODUCT, RESIDENT, SHOP, START, Bureau
from tests.support.refusals import failed_at, refused_by

CLAIM = "true"


def consent(bureau: Bureau, business: str = BANK, subject: str = RESIDENT, days: float = 30) -> Consent:
    until = bureau.clock.now + timedelta(days=days)
    return file_consent(bureau.office, bureau.actor(), PRODUCT, business, subject, until)


def ask(bureau: Bureau, who: str = BANK, subject: str = RESIDENT, claim: str = CLAIM) -> VerificationAnswer:
    release = verify(bureau.office, bureau.actor(who), PRODUCT, subject, claim).release
    assert isinstance(release, VerificationAnswer)
    return release


def test_a_business_with_consent_gets_one_word_and_pays(bureau: Bureau) -> None:
    consent(bureau)
    outcome = verify(bureau.office, bureau.actor(BANK), PRODUCT, f" {RESIDENT} ", CLAIM)
    assert isinstance(outcome.release, VerificationAnswer)
    assert outcome.release.answer is Answer.YES
    assert (outcome.submission.requester_id, outcome.submission.operator_id) == (BANK, OPERATOR)
    assert (outcome.charge.tariff_id, outcome.charge.unit_price_fen) == ("verification-industry", 50)
    assert bureau.enclave.questions[0].subject == RESIDENT
    assert get_release(bureau.office, bureau.actor(BANK), outcome.submission.submission_id) == outcome
    with refused_by("access.foreign"):
        get_release(bureau.office, bureau.actor(OPERATOR), outcome.submission.submission_id)


def test_equal_questions_have_different_digests(bureau: Bureau) -> None:
    consent(bureau)
    first, second = ask(bureau), ask(bureau)
    assert first.question_sha256 != second.question_sha256


def test_neither_identifier_nor_claim_is_stored_anywhere(bureau: Bureau) -> None:
    claim = "canary-claim-77120"
    consent(bureau)
    ask(bureau, claim=claim)
    with refused_by("consent.missing"):
        ask(bureau, subject="990001199001015678")
    with refused_by("scenario.recipient"):
        ask(bureau, SHOP, subject="990001199001015678")
    written = b"".join(path.read_bytes() for path in bureau.office.home.folder.rglob("*") if path.is_file())
    assert bureau.enclave.identity().key.raw
    assert PRODUCT.encode() in written
    for secret in (RESIDENT, "990001199001015678", claim):
        assert secret.encode() not in written


def test_without_a_fitting_consent_there_is_no_answer(bureau: Bureau) -> None:
    with refused_by("consent.missing", product=PRODUCT):
        ask(bureau)
    consent(bureau, business=SHOP)
    consent(bureau, subject="990001199001015678")
    with refused_by("consent.missing"):
        ask(bureau)
    assert bureau.enclave.questions == []


def test_a_consent_ends_with_its_day_or_its_withdrawal(bureau: Bureau) -> None:
    filed = consent(bureau, days=1)
    assert ask(bureau).answer is Answer.YES
    withdrawn = withdraw_consent(bureau.office, bureau.actor(), filed.consent_id)
    assert withdrawn.withdrawn_at == START
    with refused_by("consent.missing"):
        ask(bureau)
    bureau.clock.forward(hours=1)
    assert withdraw_consent(bureau.office, bureau.actor(), filed.consent_id) == withdrawn
    consent(bureau, days=1)
    bureau.clock.forward(hours=23, minutes=59)
    ask(bureau)
    bureau.clock.forward(minutes=1)
    with refused_by("consent.missing"):
        ask(bureau)


@pytest.mark.parametrize("how", ["withdrawn", "expired", "lost"])
def test_a_consent_that_ends_between_filing_and_ticket_does_not_count(bureau: Bureau, how: str) -> None:
    given = consent(bureau, days=1)
    filed = file_question(bureau.office, bureau.actor(BANK), PRODUCT, RESIDENT, CLAIM)
    if how == "withdrawn":
        withdraw_consent(bureau.office, bureau.actor(), given.consent_id)
    elif how == "expired":
        bureau.clock.forward(days=1)
    else:
        with writing(bureau.office.engine) as connection:
            connection.execute(update(submissions.TABLE).values(consent_id=None))
    with refused_by("consent.missing", product=PRODUCT):
        dispatch(bureau.office, filed.submission_id, filed.question)
    assert bureau.enclave.questions == []
    with reading(bureau.office.engine) as connection:
        assert connection.execute(schema.tickets.select()).all() == []
        assert SUBMISSIONS.get(connection, filed.submission_id).status is SubmissionStatus.REFUSED
        last = audit_log.entries(connection)[-1]
    assert (last.act, last.target, last.facts["rule"]) == ("submission.refuse", filed.submission_id, "consent.missing")


def test_a_consent_that_holds_until_the_ticket_is_enough(bureau: Bureau) -> None:
    short, long = consent(bureau, days=1), consent(bureau, days=2)
    filed = file_question(bureau.office, bureau.actor(BANK), PRODUCT, RESIDENT, CLAIM)
    with reading(bureau.office.engine) as connection:
        assert submissions.filing(connection, filed.submission_id).consent_id == long.consent_id
    withdraw_consent(bureau.office, bureau.actor(), short.consent_id)
    bureau.clock.forward(hours=47)
    outcome = dispatch(bureau.office, filed.submission_id, filed.question)
    assert outcome.submission.status is SubmissionStatus.RELEASED


def test_only_an_authorized_recipient_calls(bureau: Bureau) -> None:
    consent(bureau, business=SHOP)
    with refused_by("scenario.recipient", party=SHOP):
        ask(bureau, SHOP)
    with refused_by("access.caller-only"):
        ask(bureau, "bureau")
    with refused_by("scenario.recipient"):
        ask(bureau, DEPARTMENT)


def test_a_product_out_of_service_does_not_answer(bureau: Bureau) -> None:
    consent(bureau)
    suspend_product(bureau.office, bureau.actor(), PRODUCT)
    with refused_by("product.not-published", status="suspended"):
        ask(bureau)
    with refused_by("record.unknown", what="product"):
        verify(bureau.office, bureau.actor(BANK), RESIDENT, RESIDENT, CLAIM)
    with reading(bureau.office.engine) as connection:
        last = audit_log.entries(connection)[-1]
    assert (last.actor, last.target, last.facts) == (f"{BANK}/clerk", "-", {"rule": "record.unknown"})


def test_grant_and_parties_must_still_be_good(bureau: Bureau) -> None:
    consent(bureau)
    set_party_status(bureau.office, bureau.actor(), OPERATOR, PartyStatus.SUSPENDED, "整改")
    with refused_by("party.inactive", party=OPERATOR):
        ask(bureau)
    set_party_status(bureau.office, bureau.actor(), OPERATOR, PartyStatus.ACTIVE, "恢复")
    set_party_status(bureau.office, bureau.actor(), BANK, PartyStatus.SUSPENDED, "整改")
    with refused_by("access.suspended"):
        ask(bureau)
    set_party_status(bureau.office, bureau.actor(), BANK, PartyStatus.ACTIVE, "恢复")
    revoke_grant(bureau.office, bureau.actor(), PAID)
    with refused_by("grant.not-signed"):
        ask(bureau)
    assert bureau.enclave.questions == []


@pytest.mark.parametrize("subject", ["", "   ", "x" * 65, "1\x002", "1\n2"])
def test_a_malformed_identifier_is_refused_without_being_quoted(bureau: Bureau, subject: str) -> None:
    with refused_by("subject.malformed", max="64"):
        ask(bureau, subject=subject)
    with refused_by("subject.malformed"):
        consent(bureau, subject=subject)


def test_a_long_claim_is_refused(bureau: Bureau) -> None:
    with refused_by("verification.claim-length", max="200"):
        ask(bureau, claim="x" * 201)


def test_a_failed_answer_is_a_failed_submission(bureau: Bureau) -> None:
    consent(bureau)
    bureau.enclave.fail_next = True
    outcome = verify(bureau.office, bureau.actor(BANK), PRODUCT, RESIDENT, CLAIM)
    assert (outcome.submission.status, outcome.release) == (SubmissionStatus.FAILED, None)


@pytest.mark.parametrize("until", [START, START - timedelta(days=1)])
def test_a_consent_lies_in_the_future(bureau: Bureau, until: datetime) -> None:
    with refused_by("consent.expired"):
        file_consent(bureau.office, bureau.actor(), PRODUCT, BANK, RESIDENT, until)


def test_a_consent_names_known_things_and_is_filed_by_the_bureau(bureau: Bureau) -> None:
    office, until = bureau.office, START + timedelta(days=1)
    with refused_by("consent.incomplete"):
        file_consent(office, bureau.actor(), PRODUCT, BANK, RESIDENT, until.replace(tzinfo=None))
    with refused_by("consent.business"):
        file_consent(office, bureau.actor(), PRODUCT, "bureau", RESIDENT, until)
    with refused_by("record.unknown", what="product"):
        file_consent(office, bureau.actor(), "nothing", BANK, RESIDENT, until)
    with refused_by("record.unknown", what="party"):
        file_consent(office, bureau.actor(), PRODUCT, "nobody", RESIDENT, until)
    with refused_by("record.unknown", what="consent"):
        withdraw_consent(office, bureau.actor(), "nothing")
    for who in (BANK, OPERATOR):
        with refused_by("access.bureau-only"):
            file_consent(office, bureau.actor(who), PRODUCT, BANK, RESIDENT, until)
    with reading(office.engine) as connection:
        assert SUBMISSIONS.listed(connection) == ()


def test_an_enclave_that_answers_something_else_is_a_fault(bureau: Bureau, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bureau.enclave, "call", lambda request, descriptor=None: bureau.enclave.identity())
    with failed_at("enclave.answer"):
        consent(bureau)


def test_a_business_lists_the_consents_that_name_it_and_the_bureau_all(bureau: Bureau) -> None:
    for_bank, for_shop = consent(bureau), consent(bureau, business=SHOP)
    withdrawn = withdraw_consent(bureau.office, bureau.actor(), for_bank.consent_id)
    assert list_consents(bureau.office, bureau.actor(BANK)) == (withdrawn,)
    assert list_consents(bureau.office, bureau.actor(OPERATOR)) == ()
    listed = list_consents(bureau.office, bureau.actor())
    assert sorted(item.consent_id for item in listed) == sorted((for_bank.consent_id, for_shop.consent_id))


@pytest.mark.parametrize(("who", "subject"), [(BANK, ""), ("bureau", RESIDENT)])
def test_a_refusal_never_writes_an_id_that_names_nothing(bureau: Bureau, who: str, subject: str) -> None:
    """Refused before anybody has looked whether there is such a product."""
    with pytest.raises(Refused) as refused:
        verify(bureau.office, bureau.actor(who), RESIDENT, subject, CLAIM)
    assert refused.value.rule != "record.unknown"
    with reading(bureau.office.engine) as connection:
        last = audit_log.entries(connection)[-1]
    assert (last.act, last.target) == ("submission.refuse", "-")


def test_a_refusal_names_the_product_that_there_is(bureau: Bureau) -> None:
    with refused_by("consent.missing"):
        ask(bureau)
    with reading(bureau.office.engine) as connection:
        assert audit_log.entries(connection)[-1].target == PRODUCT
