"""A receipt is recorded only if the enclave signed it and it answers exactly the ticket that was sent."""

from __future__ import annotations

from datetime import timedelta

import pytest

from enclave_runner.contract.codec import decode, digest, encode
from enclave_runner.contract.grant import Mode, Purpose
from enclave_runner.contract.merkle import Checkpoint, sign_checkpoint
from enclave_runner.contract.privacy import PrivacyLoss
from enclave_runner.contract.receipt import PURPOSE, Outcome, Receipt
from enclave_runner.contract.signing import KeyFile, Signed, seal, unseal
from enclave_runner.contract.ticket import Charge, Ticket
from enclave_runner.contract.wire import FetchSettlement, Settlement
from sandbox.domain.submission import Submission, SubmissionStatus
from sandbox.store import audit_log, schema, tickets
from sandbox.store.database import reading
from sandbox.store.meter_events import EVENTS
from sandbox.store.receipts import listed
from sandbox.store.submissions import SUBMISSIONS
from sandbox.workflow.audit import verify_audit
from sandbox.workflow.dispatch import dispatch
from sandbox.workflow.recover import recover
from sandbox.workflow.settle import Outcome as Ended
from sandbox.workflow.settle import outcome_of, settle
from sandbox.workflow.submit import submit
from tests.support.bureau import COUNT, FREE, OPERATOR, PAID, START, Bureau, LostConnection, with_door
from tests.support.refusals import failed_at, refused_by
from tests.support.simulated_enclave import ORIGIN


@pytest.fixture
def sent(bureau: Bureau) -> Submission:
    """A paid query whose job ended while the connection was lost."""
    submission = submit(bureau.office, bureau.actor(OPERATOR), PAID, COUNT)
    office = with_door(bureau.office, LostConnection(bureau.enclave, after=True))
    with failed_at("enclave.lost"):
        dispatch(office, submission.submission_id)
    return submission


@pytest.fixture
def genuine(bureau: Bureau, sent: Submission) -> Settlement:
    """What the enclave has to say about it."""
    with reading(bureau.office.engine) as connection:
        ticket = connection.execute(schema.tickets.select()).one()
    reply = bureau.enclave.call(FetchSettlement(ticket_id=ticket.ticket_id))
    assert isinstance(reply, Settlement)
    return reply


def receipt_in(bureau: Bureau, settlement: Settlement) -> Receipt:
    assert settlement.receipt is not None
    return unseal(settlement.receipt, PURPOSE, (bureau.enclave.key.public_key,), Receipt)


def resigned(bureau: Bureau, settlement: Settlement, **changes: object) -> Settlement:
    """The same settlement with other claims, under the enclave's own signature."""
    receipt = receipt_in(bureau, settlement)
    fields = {name: getattr(receipt, name) for name in receipt.__struct_fields__} | changes
    return Settlement(
        receipt=seal(Receipt(**fields), PURPOSE, bureau.enclave.key),
        release=settlement.release,
        checkpoint=settlement.checkpoint,
    )


def nothing_recorded(bureau: Bureau, submission: Submission) -> bool:
    with reading(bureau.office.engine) as connection:
        status = SUBMISSIONS.get(connection, submission.submission_id).status
        return listed(connection) == () and EVENTS.listed(connection) == () and status is SubmissionStatus.DISPATCHED


def test_settling_records_everything_in_one_transaction(bureau: Bureau, sent: Submission, genuine: Settlement) -> None:
    outcome = settle(bureau.office, genuine)
    assert outcome.submission.status is SubmissionStatus.RELEASED
    assert outcome.charge.unit_price_fen == 20_000
    assert outcome.release_bytes == genuine.release
    with reading(bureau.office.engine) as connection:
        (event,) = EVENTS.listed(connection)
        last = audit_log.entries(connection)[-1]
    assert (event.payer_id, event.amount_fen) == (OPERATOR, 20_000)
    assert (last.act, last.facts["outcome"], last.facts["log_size"]) == ("receipt.settle", "released", "1")


def test_settling_twice_changes_nothing(bureau: Bureau, sent: Submission, genuine: Settlement) -> None:
    first = settle(bureau.office, genuine)
    with reading(bureau.office.engine) as connection:
        before = audit_log.frontier(connection)
    assert settle(bureau.office, genuine) == first
    assert recover(bureau.office) == ()
    with reading(bureau.office.engine) as connection:
        assert audit_log.frontier(connection) == before
        assert len(listed(connection)) == len(EVENTS.listed(connection)) == 1


def test_a_second_receipt_for_the_same_ticket_is_refused(bureau: Bureau, sent: Submission, genuine: Settlement) -> None:
    settle(bureau.office, genuine)
    with refused_by("receipt.second"):
        settle(bureau.office, resigned(bureau, genuine, receipt_id="rcpt-other"))


def test_a_receipt_of_a_stranger_is_refused(
    bureau: Bureau, sent: Submission, genuine: Settlement, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stranger = KeyFile.create(tmp_path_factory.mktemp("keys") / "stranger.key")
    forged = seal(receipt_in(bureau, genuine), PURPOSE, stranger)
    with refused_by("signature.invalid"):
        settle(bureau.office, Settlement(receipt=forged, release=genuine.release, checkpoint=genuine.checkpoint))
    assert nothing_recorded(bureau, sent)


def test_an_edited_receipt_is_refused(bureau: Bureau, sent: Submission, genuine: Settlement) -> None:
    assert genuine.receipt is not None
    fields = {name: getattr(genuine.receipt, name) for name in genuine.receipt.__struct_fields__}
    payload = fields["payload"].replace(b'"unit_price_fen":20000', b'"unit_price_fen":00000')
    for change in ({"payload": payload}, {"purpose": "grant"}, {"signature": b"\0" * 64}, {"key_id": "0" * 16}):
        forged = Signed(**{**fields, **change})
        with refused_by("signature.invalid"):
            settle(bureau.office, Settlement(receipt=forged, release=genuine.release, checkpoint=genuine.checkpoint))
    assert nothing_recorded(bureau, sent)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"submission_id": "sub-other"}, "submission"),
        ({"grant_id": "other"}, "grant"),
        ({"operator_id": "operator-b"}, "operator"),
        ({"purpose": Purpose.PUBLIC_INTEREST}, "purpose"),
        ({"mode": Mode.MODEL}, "mode"),
        ({"charge": Charge(tariff_id="query-industry", unit_price_fen=0, legal_basis="-")}, "charge"),
        ({"input_sha256": "0" * 64}, "input"),
        ({"data_versions": {"insurance": "v-other"}}, "data version"),
        ({"audit_size": 1}, "audit"),
        ({"audit_root": "0" * 64}, "audit"),
        ({"policy_sha256": "0" * 64}, "policy"),
        ({"release_sha256": "0" * 64}, "release"),
        ({"release_sha256": None}, "release"),
        ({"outcome": Outcome.REFUSED, "rule": "odometer.spent"}, "release"),
        ({"repeats": "rcpt-never"}, "repeat"),  # it says that it lost nothing, and tells a loss
        ({"sequence": 1}, "checkpoint"),
    ],
)
def test_a_signed_receipt_that_does_not_fit_its_ticket_is_refused(
    bureau: Bureau, sent: Submission, genuine: Settlement, changes: dict[str, object], what: str
) -> None:
    with refused_by("receipt.mismatch", what=what):
        settle(bureau.office, resigned(bureau, genuine, **changes))
    assert nothing_recorded(bureau, sent)


def test_a_receipt_for_a_ticket_that_was_never_sent_is_refused(
    bureau: Bureau, sent: Submission, genuine: Settlement
) -> None:
    with refused_by("receipt.unknown-ticket"):
        settle(bureau.office, resigned(bureau, genuine, ticket_id="tick-other"))
    assert nothing_recorded(bureau, sent)


def test_another_release_than_the_signed_one_is_refused(bureau: Bureau, sent: Submission, genuine: Settlement) -> None:
    for release in (None, b"", (genuine.release or b"").replace(b"42", b"43")):
        with refused_by("receipt.mismatch", what="release"):
            settle(bureau.office, Settlement(receipt=genuine.receipt, release=release, checkpoint=genuine.checkpoint))
    assert nothing_recorded(bureau, sent)


def test_a_release_that_is_no_release_is_refused(bureau: Bureau, sent: Submission, genuine: Settlement) -> None:
    from_gate = genuine.release or b""
    spaced = from_gate.replace(b",", b", ", 1)
    for release, rule in ((spaced, "receipt.mismatch"), (b'{"type":"rows"}', "wire.malformed")):
        forged = resigned(bureau, genuine, release_sha256=digest(release))
        with refused_by(rule):
            settle(bureau.office, Settlement(receipt=forged.receipt, release=release, checkpoint=genuine.checkpoint))
    assert nothing_recorded(bureau, sent)


def test_a_checkpoint_of_a_stranger_or_of_another_log_is_refused(
    bureau: Bureau, sent: Submission, genuine: Settlement
) -> None:
    stranger = sign_checkpoint(Checkpoint(origin=ORIGIN, size=1, root=b"\0" * 32), bureau.officer)
    other = sign_checkpoint(Checkpoint(origin="another", size=1, root=b"\0" * 32), bureau.enclave.key)
    for note in (stranger, other, "", genuine.checkpoint.replace("\n1\n", "\n2\n")):
        with refused_by("checkpoint.invalid"):
            settle(bureau.office, Settlement(receipt=genuine.receipt, release=genuine.release, checkpoint=note))
    assert nothing_recorded(bureau, sent)


def test_no_receipt_no_settlement(bureau: Bureau) -> None:
    with failed_at("settle.no-receipt"):
        settle(bureau.office, Settlement(receipt=None, release=None, checkpoint=""))


def test_an_unsettled_submission_has_no_outcome(bureau: Bureau, sent: Submission) -> None:
    with reading(bureau.office.engine) as connection, refused_by("submission.unsettled", status="dispatched"):
        outcome_of(connection, sent.submission_id)


def test_the_receipts_time_is_the_time_of_use(bureau: Bureau, sent: Submission, genuine: Settlement) -> None:
    bureau.clock.forward(days=40)
    settle(bureau.office, genuine)
    with reading(bureau.office.engine) as connection:
        (event,) = EVENTS.listed(connection)
        (entry,) = (item for item in audit_log.entries(connection) if item.act == "receipt.settle")
        ticket = tickets.find(connection, receipt_in(bureau, genuine).ticket_id)
    assert event.occurred_at == START
    assert entry.at == START + timedelta(days=40)
    assert ticket is not None
    assert encode(ticket.job) == encode(COUNT)


def ask(bureau: Bureau, grant_id: str = PAID) -> Ended:
    submission = submit(bureau.office, bureau.actor(OPERATOR), grant_id, COUNT)
    return dispatch(bureau.office, submission.submission_id)


def test_a_repeated_answer_is_a_use_with_a_receipt_and_a_price_and_no_loss(bureau: Bureau) -> None:
    bureau.enclave.repeats = True
    first, again = ask(bureau), ask(bureau)
    assert (first.receipt.repeats, again.receipt.repeats) == (None, first.receipt.receipt_id)
    assert (again.receipt.losses, again.release_bytes) == ((), first.release_bytes)
    assert bureau.enclave.spent("resident") == first.receipt.losses[0].pico_rho
    with reading(bureau.office.engine) as connection:
        events = EVENTS.listed(connection)
    assert {event.receipt_id for event in events} == {first.receipt.receipt_id, again.receipt.receipt_id}
    assert [event.amount_fen for event in events] == [20_000, 20_000]
    report = verify_audit(bureau.office)
    assert (report.ok, [check.entries for check in report.checks if check.name == "repeats"]) == (True, [1])


@pytest.mark.parametrize(
    "changes",
    [
        {"repeats": "the other grant's"},
        {"losses": (PrivacyLoss(entity_set="resident", pico_rho=1),)},
        {"outcome": Outcome.FAILED, "release_sha256": None, "fault": "fault-1"},
    ],
)
def test_what_is_no_repeat_of_that_answer_is_not_recorded(bureau: Bureau, changes: dict[str, object]) -> None:
    bureau.enclave.repeats = True
    first, other = ask(bureau), ask(bureau, FREE)
    submission = submit(bureau.office, bureau.actor(OPERATOR), PAID, COUNT)
    office = with_door(bureau.office, LostConnection(bureau.enclave, after=True))
    with failed_at("enclave.lost"):
        dispatch(office, submission.submission_id)
    with reading(bureau.office.engine) as connection:
        ticket_id = decode(tickets.of_submission(connection, submission.submission_id).payload, Ticket).ticket_id
    genuine = bureau.enclave.call(FetchSettlement(ticket_id=ticket_id))
    assert isinstance(genuine, Settlement)
    assert receipt_in(bureau, genuine).repeats == first.receipt.receipt_id
    if changes.get("repeats"):
        changes = {"repeats": other.receipt.receipt_id}
    forged = resigned(bureau, genuine, **changes)
    if changes.get("release_sha256", "") is None:
        forged = Settlement(receipt=forged.receipt, release=None, checkpoint=forged.checkpoint)
    with refused_by("receipt.mismatch", what="repeat"):
        settle(bureau.office, forged)
    assert settle(bureau.office, genuine).receipt.repeats == first.receipt.receipt_id


def test_a_repeat_may_be_settled_before_the_answer_that_it_repeats(
    bureau: Bureau, sent: Submission, genuine: Settlement
) -> None:
    bureau.enclave.repeats = True
    again = ask(bureau)
    assert again.receipt.repeats == receipt_in(bureau, genuine).receipt_id
    assert verify_audit(bureau.office).ok
    settle(bureau.office, genuine)
    assert verify_audit(bureau.office).ok


def test_the_audit_finds_a_repeat_of_nothing(bureau: Bureau) -> None:
    """An enclave that gives answers away without a loss is seen, whoever has settled what."""
    bureau.enclave.claim_repeat = "rcpt-never"
    assert ask(bureau).receipt.losses == ()
    failing = [check.name for check in verify_audit(bureau.office).checks if not check.ok]
    assert failing == ["repeats"]
