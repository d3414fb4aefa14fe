"""Calls of open products: who may call, consents, what passes through and what is written down."""

from __future__ import annotations

import secrets
from dataclasses import replace
from datetime import timedelta

import pytest

from enclave_runner.contract.call import CallReceipt, PlainAnswer, commitment
from enclave_runner.contract.codec import decode, digest, encode
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.wire import Closed, Reply, Request, RunCall
from sandbox.domain.consent import Consent
from sandbox.domain.dataset import Dataset
from sandbox.domain.party import PartyStatus
from sandbox.domain.product import ProductStatus
from sandbox.store import audit_log
from sandbox.store.database import reading
from sandbox.store.datasets import DATASETS
from sandbox.workflow.calls import (
    consents_reference,
    get_offer,
    list_calls,
    read_hint,
    run_call,
    run_call_with_key,
)
from sandbox.workflow.consents import file_consent, withdraw_consent
from sandbox.workflow.grants import revoke_grant
from sandbox.workflow.keys import create_api_key, revoke_api_key
from sandbox.workflow.meter import list_events
from sandbox.workflow.parties import set_party_status
from sandbox.workflow.products import draft_product, publish_product, suspend_product
from sandbox.workflow.scenarios import end_scenario
from sandbox.workflow.standing import close_product
from tests.support.bureau import BANK, DEPARTMENT, OPERATOR, PRODUCT, RESIDENT, SHOP, START, Bureau, import_rows
from tests.support.called import (
    FIRM,
    INSURED,
    LICENCE,
    OPENING,
    a_call,
    ask,
    equality,
    furnish_firms,
    insured,
    licence,
    offer_of,
    opened,
    plain,
)
from tests.support.refusals import failed_at, refused_by
from tests.support.simulated_calls import HINT

OTHER_RESIDENT = "990001199001015678"


@pytest.fixture
def firms(bureau: Bureau) -> Bureau:
    """A bureau with an open product about firms."""
    furnish_firms(bureau)
    opened(bureau)
    return bureau


@pytest.fixture
def residents(bureau: Bureau) -> Bureau:
    """A bureau with an open product about residents."""
    publish_product(bureau.office, bureau.actor(OPERATOR), insured())
    opened(bureau, INSURED)
    bureau.enclave.calls.values.update({RESIDENT: "true", OTHER_RESIDENT: "false"})
    return bureau


def consent(bureau: Bureau, subject: str = RESIDENT, days: int = 10) -> Consent:
    until = bureau.clock.now + timedelta(days=days)
    return file_consent(bureau.office, bureau.actor(), INSURED, BANK, subject, until)


def refusals(bureau: Bureau) -> list[tuple[str, str]]:
    with reading(bureau.office.engine) as connection:
        found = [entry for entry in audit_log.entries(connection) if entry.act == "call.refuse"]
    return [(entry.actor, entry.facts["rule"]) for entry in found]


def test_a_call_is_answered_with_its_receipt_and_leaves_nothing_here(firms: Bureau) -> None:
    with reading(firms.office.engine) as connection:
        before = audit_log.frontier(connection)
    reply = ask(firms)
    assert reply.answer == PlainAnswer(verdicts=("yes",))
    with reading(firms.office.engine) as connection:
        assert audit_log.frontier(connection) == before
    (request,) = firms.enclave.calls.asked
    assert (request.caller_id, request.consents) == (BANK, None)


def test_neither_subject_nor_claim_reaches_the_database(firms: Bureau) -> None:
    ask(firms, asked=plain("91CANARY0000000001", claim="CANARY-CLAIM"))
    ask(firms, asked=equality("91CANARY0000000002"))
    list_events(firms.office, firms.actor())
    files = firms.office.home.bureau.rglob("control.db*")
    assert not any(b"CANARY" in path.read_bytes() for path in files)


def test_a_call_that_the_enclave_refuses_has_its_receipt_and_costs_nothing(firms: Bureau) -> None:
    firms.enclave.calls.refuse_next = Refused("guess.spent", left=0)
    reply = ask(firms)
    assert (reply.answer, reply.rule, reply.facts) == (None, "guess.spent", {"left": "0"})
    assert [event.units for event in list_events(firms.office, firms.actor(BANK))] == [0]


def test_the_same_call_again_is_answered_again_and_paid_once(firms: Bureau) -> None:
    call = a_call(offer_of(firms).version, plain())
    first = run_call(firms.office, firms.actor(BANK), LICENCE, call)
    assert run_call(firms.office, firms.actor(BANK), LICENCE, call) == first
    with refused_by("call.used"):
        run_call(firms.office, firms.actor(BANK), LICENCE, a_call(call.version, plain("x"), call.call_id))
    assert len(list_events(firms.office, firms.actor())) == 1


def test_two_callers_may_use_the_same_call_id(firms: Bureau) -> None:
    call = a_call(offer_of(firms).version, plain())
    run_call(firms.office, firms.actor(BANK), LICENCE, call)
    assert run_call(firms.office, firms.actor(OPERATOR), LICENCE, call).rule is None
    assert len(list_events(firms.office, firms.actor())) == 2


@pytest.mark.parametrize(("who", "rule"), [(SHOP, "scenario.recipient"), (DEPARTMENT, "scenario.recipient")])
def test_only_recipients_of_the_scenario_call(firms: Bureau, who: str, rule: str) -> None:
    with refused_by(rule, party=who):
        ask(firms, caller=who)
    with refused_by(rule):
        read_hint(firms.office, firms.actor(who), LICENCE, offer_of(firms).version, 0)
    assert firms.enclave.calls.asked == []


def test_the_bureau_calls_nothing_and_reads_the_offer(firms: Bureau) -> None:
    with refused_by("access.caller-only"):
        ask(firms, caller="bureau")
    assert get_offer(firms.office, firms.actor(), LICENCE) == get_offer(firms.office, firms.actor(BANK), LICENCE)


def test_a_refused_call_stands_in_the_audit_log_by_its_rule_alone(firms: Bureau) -> None:
    with refused_by("scenario.recipient"):
        ask(firms, caller=SHOP, asked=plain("91CANARY0000000001"))
    assert refusals(firms) == [(f"{SHOP}/clerk", "scenario.recipient")]


def test_a_suspended_product_answers_no_call(firms: Bureau) -> None:
    suspend_product(firms.office, firms.actor(), LICENCE)
    with refused_by("product.not-published"):
        ask(firms)
    with refused_by("access.foreign"):
        get_offer(firms.office, firms.actor(BANK), LICENCE)
    assert publish_product(firms.office, firms.actor(OPERATOR), licence()).status is ProductStatus.PUBLISHED
    assert ask(firms).rule is None


def test_a_suspended_operator_or_caller_a_revoked_grant_and_an_ended_scenario_refuse_the_next_call(
    firms: Bureau,
) -> None:
    office, bureau = firms.office, firms.actor()
    assert ask(firms).rule is None
    set_party_status(office, bureau, OPERATOR, PartyStatus.SUSPENDED, "整改")
    with refused_by("party.inactive", party=OPERATOR):
        ask(firms)
    set_party_status(office, bureau, OPERATOR, PartyStatus.ACTIVE, "整改完成")
    set_party_status(office, bureau, BANK, PartyStatus.SUSPENDED, "整改")
    with refused_by("access.suspended"):
        ask(firms)
    set_party_status(office, bureau, BANK, PartyStatus.ACTIVE, "整改完成")
    assert ask(firms).rule is None
    revoke_grant(office, bureau, "grant-firms")
    with refused_by("grant.not-signed"):
        ask(firms)


def test_an_ended_scenario_refuses_the_next_call(firms: Bureau) -> None:
    end_scenario(firms.office, firms.actor(), "credit")
    with refused_by("scenario.expired"):
        ask(firms)


def test_a_closed_or_unopened_product_answers_no_call(firms: Bureau) -> None:
    call = a_call(offer_of(firms).version, plain())
    close_product(firms.office, firms.actor(), LICENCE)
    for act in (
        lambda: run_call(firms.office, firms.actor(BANK), LICENCE, call),
        lambda: get_offer(firms.office, firms.actor(BANK), LICENCE),
        lambda: read_hint(firms.office, firms.actor(BANK), LICENCE, call.version, 0),
    ):
        with refused_by("product.not-open"):
            act()


def test_a_draft_and_what_is_asked_by_ticket_and_nothing_are_not_called(firms: Bureau) -> None:
    draft_product(firms.office, firms.actor(OPERATOR), licence(product_id="draft"))
    call = a_call("v", plain())
    for product_id, rule in (
        ("draft", "product.not-published"),
        (PRODUCT, "product.one-by-one"),
        ("nothing", "record.unknown"),
    ):
        with refused_by(rule):
            run_call(firms.office, firms.actor(BANK), product_id, call)
    with refused_by("product.one-by-one"):
        get_offer(firms.office, firms.actor(BANK), PRODUCT)


def test_a_product_stops_when_its_dataset_turns_out_to_be_about_people(firms: Bureau) -> None:
    with reading(firms.office.engine) as connection:
        entry: Dataset = DATASETS.get(connection, "firms")
    import_rows(firms, b"header\nanother\n", replace(entry, personal=True))
    with refused_by("product.consent-needed"):
        ask(firms)


def test_a_stale_version_is_refused_by_the_enclave_with_a_receipt(firms: Bureau) -> None:
    old = offer_of(firms).version
    opened(firms, refresh=True)
    reply = run_call(firms.office, firms.actor(BANK), LICENCE, a_call(old, plain()))
    assert reply.rule == "call.stale-version"
    with refused_by("call.stale-version"):
        read_hint(firms.office, firms.actor(BANK), LICENCE, old, 0)


def test_a_hint_is_read_part_by_part(firms: Bureau) -> None:
    version, parts, offset = offer_of(firms).version, [], 0
    while part := read_hint(firms.office, firms.actor(BANK), LICENCE, version, offset):
        parts.append(part)
        offset += len(part)
    assert b"".join(parts) == HINT
    assert len(parts) == 2


class Answering:
    """A door that answers every call with the reply of something else."""

    def call(self, request: Request, descriptor: int | None = None) -> Reply:
        """A progress, whatever was asked."""
        return Closed()


def test_an_answer_of_another_kind_is_a_fault(firms: Bureau) -> None:
    version = offer_of(firms).version
    wrong = replace(firms.office, enclave=Answering())
    for act in (
        lambda: run_call(wrong, firms.actor(BANK), LICENCE, a_call(version, plain())),
        lambda: get_offer(wrong, firms.actor(BANK), LICENCE),
        lambda: read_hint(wrong, firms.actor(BANK), LICENCE, version, 0),
        lambda: list_calls(wrong, firms.actor(BANK)),
    ):
        with failed_at("enclave.answer"):
            act()


def test_a_lost_call_leaves_nothing_and_may_be_sent_again(firms: Bureau) -> None:
    class Lost:
        def call(self, request: Request, descriptor: int | None = None) -> Reply:
            reply = firms.enclave.call(request, descriptor)
            if isinstance(request, RunCall):
                raise Failed("enclave.lost")
            return reply

    call = a_call(offer_of(firms).version, plain())
    with failed_at("enclave.lost"):
        run_call(replace(firms.office, enclave=Lost()), firms.actor(BANK), LICENCE, call)
    assert run_call(firms.office, firms.actor(BANK), LICENCE, call).answer == PlainAnswer(verdicts=("yes",))
    assert [event.units for event in list_events(firms.office, firms.actor())] == [1]


# Consent (article 43)


def test_a_call_about_a_person_needs_their_consent_and_the_receipt_names_it(residents: Bureau) -> None:
    for asked in (plain(RESIDENT, claim="true"), equality(RESIDENT)):
        with refused_by("consent.missing", product=INSURED):
            ask(residents, INSURED, asked)
    assert residents.enclave.calls.asked == []
    filed = consent(residents)
    assert ask(residents, INSURED, plain(RESIDENT, claim="true")).answer == PlainAnswer(verdicts=("yes",))
    assert ask(residents, INSURED, equality(RESIDENT)).rule is None
    assert [request.consents for request in residents.enclave.calls.asked] == [filed.consent_id] * 2
    receipts = list_calls(residents.office, residents.actor(BANK)).receipts
    assert [receipt.consents for receipt in receipts] == [filed.consent_id] * 2
    assert not any(RESIDENT in encode(receipt).decode() for receipt in receipts)


def test_every_subject_of_a_batch_must_have_consented(residents: Bureau) -> None:
    first = consent(residents)
    both = plain(RESIDENT, OTHER_RESIDENT, f" {RESIDENT} ", claim="true")
    with refused_by("consent.missing"):
        ask(residents, INSURED, both)
    second = consent(residents, OTHER_RESIDENT)
    assert ask(residents, INSURED, both).rule is None
    expected = consents_reference([first.consent_id, second.consent_id, first.consent_id])
    assert expected == digest(f"{first.consent_id}\n{second.consent_id}\n{first.consent_id}\n".encode())
    assert residents.enclave.calls.asked[-1].consents == expected


def test_a_withdrawn_or_ended_consent_covers_no_call(residents: Bureau) -> None:
    filed = consent(residents)
    assert ask(residents, INSURED, plain(RESIDENT)).rule is None
    withdraw_consent(residents.office, residents.actor(), filed.consent_id)
    with refused_by("consent.missing"):
        ask(residents, INSURED, plain(RESIDENT))
    consent(residents, days=1)
    assert ask(residents, INSURED, plain(RESIDENT)).rule is None
    residents.clock.forward(days=1)
    with refused_by("consent.missing"):
        ask(residents, INSURED, plain(RESIDENT))
    assert refusals(residents) == [(f"{BANK}/clerk", "consent.missing")] * 2


def test_of_several_consents_the_one_that_lasts_longest_is_named(residents: Bureau) -> None:
    consent(residents, days=5)
    longest = consent(residents, days=20)
    consent(residents, days=10)
    ask(residents, INSURED, plain(RESIDENT))
    assert residents.enclave.calls.asked[-1].consents == longest.consent_id


def test_the_consent_to_one_business_covers_no_other(residents: Bureau) -> None:
    consent(residents)
    with refused_by("consent.missing"):
        ask(residents, INSURED, plain(RESIDENT), caller=OPERATOR)


def test_a_first_move_names_nobody_and_needs_no_consent(residents: Bureau) -> None:
    assert ask(residents, INSURED, OPENING).rule is None
    assert residents.enclave.calls.asked[-1].consents is None
    assert [event.units for event in list_events(residents.office, residents.actor())] == [0]


def test_a_batch_of_ten_thousand_people_is_looked_up_at_once(residents: Bureau) -> None:
    subjects = [f"99000119900101{number:04d}" for number in range(1200)]
    for subject in subjects[:1100]:
        consent(residents, subject)
    assert ask(residents, INSURED, plain(*subjects[:1100])).rule is None
    with refused_by("consent.missing"):
        ask(residents, INSURED, plain(*subjects))


@pytest.mark.parametrize("subject", [" ", "\x00", "a\nb"])
def test_what_is_no_identifier_is_refused_without_being_quoted(residents: Bureau, subject: str) -> None:
    with refused_by("subject.malformed"):
        ask(residents, INSURED, plain(subject))


# With an API key


def test_a_key_is_looked_up_in_the_same_snapshot(firms: Bureau) -> None:
    token = create_api_key(firms.office, firms.actor(), BANK, "clerk")
    call = a_call(offer_of(firms).version, plain())
    reply = run_call_with_key(firms.office, token, LICENCE, call)
    assert reply.answer == PlainAnswer(verdicts=("yes",))
    for wrong in ("", "yunei_000000000000_" + "x" * 43, token[:-1] + ("a" if token[-1] != "a" else "b")):
        with refused_by("key.unknown"):
            run_call_with_key(firms.office, wrong, LICENCE, call)
    set_party_status(firms.office, firms.actor(), BANK, PartyStatus.SUSPENDED, "整改")
    with refused_by("party.inactive"):
        run_call_with_key(firms.office, token, LICENCE, call)
    set_party_status(firms.office, firms.actor(), BANK, PartyStatus.ACTIVE, "整改完成")
    revoke_api_key(firms.office, firms.actor(), token.split("_")[1])
    with refused_by("key.unknown"):
        run_call_with_key(firms.office, token, LICENCE, call)


# Receipts of calls


def test_receipts_are_listed_for_payer_operator_and_bureau(firms: Bureau) -> None:
    ask(firms)
    ask(firms, caller=OPERATOR)
    for who, count in ((BANK, 1), (OPERATOR, 2), ("bureau", 2), (SHOP, 0)):
        assert len(list_calls(firms.office, firms.actor(who)).receipts) == count
    page = list_calls(firms.office, firms.actor(), since=1)
    assert [receipt.sequence for receipt in page.receipts] == [1]
    assert page.following is None


def test_a_receipt_opens_with_the_salt_and_the_transcript(firms: Bureau) -> None:
    call = a_call(offer_of(firms).version, plain())
    reply = run_call(firms.office, firms.actor(BANK), LICENCE, call)
    (stored,) = list_calls(firms.office, firms.actor(BANK)).receipts
    assert stored == decode(reply.settled.receipt, CallReceipt)
    assert stored.commitment == commitment(call.salt, call.ask, reply.answer)
    assert stored.commitment != commitment(secrets.token_bytes(32), call.ask, reply.answer)
    assert stored.finished_at == START
    assert FIRM not in encode(stored).decode()
