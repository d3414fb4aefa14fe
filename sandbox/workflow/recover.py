"""After a crash: every ticket that went out and was not settled is brought to its one receipt; calls are fetched."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

from enclave_runner.contract.codec import decode
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.signing import Signed
from enclave_runner.contract.ticket import Ticket
from enclave_runner.contract.wire import AskHoldings, FetchSettlement, Holdings, Settlement
from sandbox.domain.submission import Submission
from sandbox.store import datasets, submissions, tickets
from sandbox.store.database import reading, writing
from sandbox.store.datasets import DATASETS
from sandbox.store.meter_events import stamp
from sandbox.workflow.call_sync import sync_calls
from sandbox.workflow.continuity import check_continuity
from sandbox.workflow.dispatch import dispatch, send_ticket
from sandbox.workflow.office import Office, note_act
from sandbox.workflow.settle import Outcome, settle
from sandbox.workflow.standing import OPEN_STAGE, ask_progress, finish_closing, finish_opening, under_way

# So old, a ticket was sent long ago, if its sender lives.
UNDER_WAY = timedelta(minutes=1)


def recover(office: Office, older_than: timedelta = timedelta(0)) -> tuple[Outcome, ...]:
    """Carry on every submission that a crash left between its admission and its receipt.

    A ticket that the enclave never saw is sent again. When its input is gone (a question is stored nowhere) or its life
    is over, the enclave refuses it with a receipt, which also uses the ticket up: it can never run later. A job that
    still runs is left alone. Where others may be at work, `older_than` leaves them what they have only just begun.

    Raises:
        Refused: `enclave.rolled-back`: an enclave that has forgotten something is given nothing to do.
        Failed: `enclave.absent`, `enclave.lost`; what was settled until then stays settled.
    """
    check_continuity(office)
    _record_imports(office)
    _catch_up_with_calls(office)
    latest = office.clock() - older_than
    with reading(office.engine) as connection:
        admitted = tuple(item for item in submissions.admitted(connection) if item.submitted_at <= latest)
        sent = tuple(
            tickets.of_submission(connection, item.submission_id) for item in submissions.dispatched(connection)
        )
    outcomes = [_carry_on(office, item) for item in admitted]
    outcomes += [_bring_home(office, signed) for signed in sent if decode(signed.payload, Ticket).issued_at <= latest]
    return tuple(outcome for outcome in outcomes if outcome is not None)


def recover_beside_others(office: Office, is_alone: bool) -> tuple[Outcome, ...]:
    """Recover at the start of a program. Not alone, somebody may be between writing a ticket and sending it."""
    return recover(office, timedelta(0) if is_alone else UNDER_WAY)


def _carry_on(office: Office, submission: Submission) -> Outcome | None:
    """Dispatch what was admitted and then forgotten. A refusal is recorded and ends it."""
    try:
        return dispatch(office, submission.submission_id)
    except Refused:
        return None


def _bring_home(office: Office, signed: Signed) -> Outcome | None:
    ticket = decode(signed.payload, Ticket)
    reply = office.enclave.call(FetchSettlement(ticket_id=ticket.ticket_id))
    if not isinstance(reply, Settlement):
        raise Failed("enclave.answer")
    try:
        return settle(office, reply) if reply.receipt is not None else send_ticket(office, signed, None)
    except Refused:
        # The enclave does not take the order any more, which is recorded; or its receipt does not fit the ticket: then
        # the submission stays as it is for people to look at, and does not keep others from being recovered.
        return None
    except Failed as failed:
        if failed.code == "dispatch.running":
            return None
        raise


def _catch_up_with_calls(office: Office) -> None:
    """Calls that were not fetched, products that were opened or closed half-way. A long opening is not waited for: it
    is carried on by the API, or by the next `product open`."""
    for order in under_way(office):
        with suppress(Refused):  # the enclave has not got that order yet, or does not take it
            if ask_progress(office, order.ticket_id).stage == OPEN_STAGE:
                finish_opening(office, order.ticket_id)
    finish_closing(office)
    with suppress(Refused):  # whoever reads the meter or the audit is told; nobody else is kept from their work
        sync_calls(office)


def _record_imports(office: Office) -> None:
    """Versions that the enclave holds of catalogued datasets and whose import was not recorded here."""
    held = office.enclave.call(AskHoldings())
    if not isinstance(held, Holdings):
        raise Failed("enclave.answer")
    with writing(office.engine) as connection:
        for item in held.items:
            if DATASETS.find(connection, item.dataset_id) is None:
                continue
            if datasets.add_version(connection, item.dataset_id, item.version, stamp(office.clock())):
                note_act(office, connection, None, "dataset.recover", item.dataset_id, version=item.version)
