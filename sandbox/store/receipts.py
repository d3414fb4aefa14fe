"""Receipts and releases as settled: added once, never changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select

from enclave_runner.contract.codec import decode, encode
from enclave_runner.contract.evidence import Exchange
from enclave_runner.contract.receipt import Receipt
from enclave_runner.contract.signing import Signed
from sandbox.store import schema

RECEIPTS, RELEASES, LINES = schema.receipts, schema.releases, schema.invoice_lines
TICKETS = schema.tickets


@dataclass(frozen=True)
class StoredReceipt:
    """A receipt as the enclave signed it, with what it says."""

    signed: Signed
    receipt: Receipt


def add(connection: Connection, stored: StoredReceipt, checkpoint: str, release: bytes | None) -> None:
    """Record a receipt, the log checkpoint that came with it, and the released bytes."""
    receipt = stored.receipt
    connection.execute(
        insert(RECEIPTS).values(
            receipt_id=receipt.receipt_id,
            sequence=receipt.sequence,
            ticket_id=receipt.ticket_id,
            submission_id=receipt.submission_id,
            doc=encode(stored.signed),
            checkpoint=checkpoint.encode(),
        )
    )
    if release is not None:
        connection.execute(insert(RELEASES).values(receipt_id=receipt.receipt_id, content=release))


def of_submission(connection: Connection, submission_id: str) -> StoredReceipt | None:
    """The receipt of a submission, or None."""
    query = select(RECEIPTS.c.doc).where(RECEIPTS.c.submission_id == submission_id)
    doc = connection.execute(query).scalar_one_or_none()
    return None if doc is None else _stored(doc)


def find(connection: Connection, receipt_id: str) -> Receipt | None:
    """A receipt by its id, or None."""
    doc = connection.execute(select(RECEIPTS.c.doc).where(RECEIPTS.c.receipt_id == receipt_id)).scalar_one_or_none()
    return None if doc is None else _stored(doc).receipt


def release_of(connection: Connection, receipt_id: str) -> bytes | None:
    """The released bytes of a receipt, or None."""
    query = select(RELEASES.c.content).where(RELEASES.c.receipt_id == receipt_id)
    return connection.execute(query).scalar_one_or_none()


def listed(connection: Connection) -> tuple[StoredReceipt, ...]:
    """Every receipt in the order of the enclave's log."""
    query = select(RECEIPTS.c.doc).order_by(RECEIPTS.c.sequence)
    return tuple(_stored(doc) for doc in connection.execute(query).scalars())


def newest_checkpoint(connection: Connection) -> str | None:
    """The checkpoint that came with the newest receipt of the enclave's log; None before any."""
    query = select(RECEIPTS.c.checkpoint).order_by(RECEIPTS.c.sequence.desc()).limit(1)
    note = connection.execute(query).scalar_one_or_none()
    return None if note is None else note.decode()


def exchanges(connection: Connection) -> Iterator[Exchange]:
    """Every settled ticket with its receipt and release, in the order of the enclave's log."""
    joined = RECEIPTS.join(TICKETS, TICKETS.c.ticket_id == RECEIPTS.c.ticket_id).outerjoin(
        RELEASES, RELEASES.c.receipt_id == RECEIPTS.c.receipt_id
    )
    query = select(TICKETS.c.doc.label("ticket"), RECEIPTS.c.doc, RELEASES.c.content).select_from(joined)
    for row in connection.execute(query.order_by(RECEIPTS.c.sequence)):
        yield Exchange(ticket=decode(row.ticket, Signed), receipt=decode(row.doc, Signed), release=row.content)


def on_invoice(connection: Connection, invoice_id: str) -> tuple[Receipt, ...]:
    """The receipts that an invoice covers, in the order of the enclave's log."""
    covered = RECEIPTS.join(LINES, LINES.c.receipt_id == RECEIPTS.c.receipt_id)
    query = select(RECEIPTS.c.doc).select_from(covered).where(LINES.c.invoice_id == invoice_id)
    query = query.order_by(RECEIPTS.c.sequence)
    return tuple(_stored(doc).receipt for doc in connection.execute(query).scalars())


def _stored(doc: bytes) -> StoredReceipt:
    signed = decode(doc, Signed)
    return StoredReceipt(signed, decode(signed.payload, Receipt))
