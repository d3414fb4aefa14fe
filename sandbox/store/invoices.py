"""Invoices as issued. Every use of an invoice has a row of its own, free uses too, so that none is counted twice."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, insert

from sandbox.domain.metering import Invoice, MeterEvent
from sandbox.store import schema
from sandbox.store.documents import Documents

INVOICES = Documents(
    schema.invoices,
    Invoice,
    lambda invoice: {"invoice_id": invoice.invoice_id, "payer_id": invoice.payer_id, "month": invoice.month},
)
LINES = schema.invoice_lines


def add(connection: Connection, invoice: Invoice, events: Iterable[MeterEvent]) -> None:
    """Record an invoice with the uses that it covers."""
    INVOICES.add(connection, invoice)
    for event in events:
        connection.execute(
            insert(LINES).values(
                receipt_id=event.receipt_id, invoice_id=invoice.invoice_id, amount_fen=event.amount_fen
            )
        )


def of_payer(connection: Connection, payer_id: str) -> tuple[Invoice, ...]:
    """A payer's invoices."""
    return INVOICES.listed(connection, schema.invoices.c.payer_id == payer_id)
