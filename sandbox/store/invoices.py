"""Invoices as issued. Every use of an invoice has a row of its own, free uses too, so that none is counted twice."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, insert

from sandbox.domain.metering import Invoice, MeterEvent
from sandbox.rules.rating import sequence_of
from sandbox.store import schema
from sandbox.store.documents import Documents

INVOICES = Documents(
    schema.invoices,
    Invoice,
    lambda invoice: {"invoice_id": invoice.invoice_id, "payer_id": invoice.payer_id, "month": invoice.month},
)
LINES, CALL_LINES = schema.invoice_lines, schema.call_invoice_lines


def add(connection: Connection, invoice: Invoice, events: Iterable[MeterEvent]) -> None:
    """Record an invoice with the uses that it covers, jobs and calls."""
    INVOICES.add(connection, invoice)
    jobs, called = [], []
    for event in events:
        covered = {"invoice_id": invoice.invoice_id, "amount_fen": event.amount_fen}
        if event.is_call:
            called.append({"sequence": sequence_of(event), **covered})
        else:
            jobs.append({"receipt_id": event.receipt_id, **covered})
    for table, rows in ((LINES, jobs), (CALL_LINES, called)):
        if rows:
            connection.execute(insert(table), rows)


def of_payer(connection: Connection, payer_id: str) -> tuple[Invoice, ...]:
    """A payer's invoices."""
    return INVOICES.listed(connection, schema.invoices.c.payer_id == payer_id)
