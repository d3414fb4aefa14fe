"""What this control plane has seen of its enclave, as a file: what a restored enclave is held against."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Connection

from enclave_runner.contract.archive import write_new
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.evidence import Exchange, Seen, write_evidence
from sandbox.store import receipts, submissions, tickets
from sandbox.store.database import reading
from sandbox.workflow.office import Office


def export_evidence(office: Office, path: Path) -> int:
    """Write every settled ticket with its receipt, then every ticket that is under way; how many there are.

    Raises:
        Failed: `backup.exists`, `backup.unwritable`.
    """
    with reading(office.engine) as connection:
        return write_evidence(path, Seen(checkpoint=receipts.newest_checkpoint(connection)), _exchanges(connection))


def export_checkpoint(office: Office, path: Path) -> str:
    """Write the newest checkpoint that was settled here, as the signed note that it is.

    Raises:
        Refused: `record.unknown` before the first receipt.
        Failed: `backup.exists`, `backup.unwritable`.
    """
    with reading(office.engine) as connection:
        note = receipts.newest_checkpoint(connection)
    if note is None:
        raise Refused("record.unknown", what="checkpoint")
    write_new(path, note.encode())
    return note


def _exchanges(connection: Connection) -> Iterator[Exchange]:
    yield from receipts.exchanges(connection)
    for submission in submissions.dispatched(connection):
        signed = tickets.of_submission(connection, submission.submission_id)
        yield Exchange(ticket=signed, receipt=None, release=None)
