"""After a crash: every ticket that went out and was not settled is brought to its one receipt."""

from __future__ import annotations

from enclave_runner.contract.codec import decode
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.signing import Signed
from enclave_runner.contract.ticket import Ticket
from enclave_runner.contract.wire import AskHoldings, FetchSettlement, Holdings, Settlement
from sandbox.store import datasets, submissions, tickets
from sandbox.store.database import reading, writing
from sandbox.store.datasets import DATASETS
from sandbox.store.meter_events import stamp
from sandbox.workflow.dispatch import send_ticket
from sandbox.workflow.office import Office, note_act
from sandbox.workflow.settle import Outcome, settle


def recover(office: Office) -> tuple[Outcome, ...]:
    """Settle every dispatched submission whose job has ended.

    A ticket that the enclave never saw is sent again. When its input is gone (a question is stored nowhere) or its life
    is over, the enclave refuses it with a receipt, which also uses the ticket up: it can never run later. A job that
    still runs is left alone.

    Raises:
        Failed: `enclave.absent`; what was settled until then stays settled.
    """
    _record_imports(office)
    with reading(office.engine) as connection:
        waiting = submissions.dispatched(connection)
        sent = tuple(tickets.of_submission(connection, item.submission_id) for item in waiting)
    outcomes = (_bring_home(office, signed) for signed in sent)
    return tuple(outcome for outcome in outcomes if outcome is not None)


def _bring_home(office: Office, signed: Signed) -> Outcome | None:
    ticket = decode(signed.payload, Ticket)
    reply = office.enclave.call(FetchSettlement(ticket_id=ticket.ticket_id))
    if not isinstance(reply, Settlement):
        raise Failed("enclave.answer")
    if reply.receipt is not None:
        return settle(office, reply)
    try:
        return send_ticket(office, signed, None)
    except Refused:
        return None  # recorded as refused: the enclave does not take orders under this key or grant any more
    except Failed as failed:
        if failed.code == "dispatch.running":
            return None
        raise


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
