"""Tickets as sent: kept, so that a crash between dispatch and settle is found and ended."""

from __future__ import annotations

from sqlalchemy import Connection, insert, select

from enclave_runner.contract.codec import decode, encode
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.signing import Signed
from enclave_runner.contract.ticket import Ticket
from sandbox.store import schema

TICKETS = schema.tickets


def add(connection: Connection, ticket: Ticket, signed: Signed) -> None:
    """Record a ticket before it goes out."""
    connection.execute(
        insert(TICKETS).values(ticket_id=ticket.ticket_id, submission_id=ticket.submission_id, doc=encode(signed))
    )


def find(connection: Connection, ticket_id: str) -> Ticket | None:
    """A ticket by its nonce, or None when this control plane never ordered it."""
    doc = connection.execute(select(TICKETS.c.doc).where(TICKETS.c.ticket_id == ticket_id)).scalar_one_or_none()
    return None if doc is None else decode(decode(doc, Signed).payload, Ticket)


def of_submission(connection: Connection, submission_id: str) -> Signed:
    """The signed ticket of a dispatched submission.

    Raises:
        Refused: `record.unknown`.
    """
    query = select(TICKETS.c.doc).where(TICKETS.c.submission_id == submission_id)
    doc = connection.execute(query).scalar_one_or_none()
    if doc is None:
        raise Refused("record.unknown", what="ticket")
    return decode(doc, Signed)
