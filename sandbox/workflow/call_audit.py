"""Checking the recorded calls: the whole chain of batches again, against the audit log and against the enclave."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection

from enclave_runner.contract.codec import decode
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.standing import StandingTicket
from enclave_runner.contract.wire import BatchRecord
from sandbox.domain.audit import AuditEntry
from sandbox.store import calls
from sandbox.store.standing import ORDERS
from sandbox.workflow.call_sync import Place, mismatch, open_after, stands
from sandbox.workflow.office import Office


def check_calls(
    office: Office, connection: Connection, settled: Iterable[AuditEntry], restores: int
) -> tuple[int, str | None]:
    """How many calls are recorded, and what is wrong with them, if anything is.

    `settled` are the entries of the audit log that recorded batches: each names the newest batch of its time.
    `restores` is how many restores the enclave states.

    Raises:
        Refused, ValueError: a stored value cannot be read, or does not verify.
        Failed: when the enclave cannot be asked.
    """
    tickets = {order.ticket_id: decode(order.ticket.payload, StandingTicket) for order in ORDERS.unaltered(connection)}
    place, count = Place(), 0
    digests: dict[int, str] = {}
    known: set[str] = set()
    for number, signed, written in calls.batches(connection):
        record = BatchRecord(batch=signed, receipts=written)
        try:
            found = open_after(record, place, office.enclave_key, restores, known.__contains__)
        except Refused as refused:
            return count, f"batch {number}: {refused.rule}"
        for receipt in found.receipts:
            ticket = tickets.get(receipt.ticket_id)
            wrong = "ticket" if ticket is None else mismatch(receipt, ticket)
            if wrong is not None:
                return count, f"call {receipt.sequence} does not fit its standing ticket: {wrong}"
        count += len(written)
        place = found.after
        digests[number] = place.previous
        known.add(place.previous)
    for entry in settled:
        number = int(entry.target.rpartition("-")[2])
        if digests.get(number) != entry.facts.get("batch_sha256"):
            return count, f"batch {number} is not the one that the audit log recorded"
    return count, None if stands(office, place) else f"batch {place.number - 1} is not in the enclave"
