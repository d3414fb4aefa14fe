"""Invoices: the uses of one payer in one month, issued when it has ended; a draft at any time."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter
from starlette.responses import Response

from enclave_runner.contract.codec import Value
from sandbox.api.call import Reading, Writing, reply
from sandbox.api.identifiers import MONTH, BilledMonth, Slug, SlugInQuery
from sandbox.api.openapi import operation
from sandbox.domain.metering import Invoice
from sandbox.workflow.invoices import draft_invoice, issue_invoice, list_invoices

router = APIRouter(prefix="/v1/invoices", tags=["invoices"])


class NewInvoice(Value, frozen=True):
    """Who pays, for which month in Asia/Shanghai."""

    payer_id: Slug
    month: Annotated[str, msgspec.Meta(pattern=MONTH)]


class IssuedInvoice(Value, frozen=True):
    """The invoice, or its draft, and the sum of its lines, in fen."""

    invoice: Invoice
    total_fen: int


@router.get("", summary="列出账单 / List invoices", **operation(tuple[IssuedInvoice, ...]))
def list_all(call: Reading) -> Response:
    """The invoices that the caller may see."""
    return reply([_with_total(invoice) for invoice in list_invoices(call.office, call.actor)])


@router.get("/draft", summary="账单草稿 / The draft of an invoice", **operation(IssuedInvoice))
def draft(call: Reading, payer_id: SlugInQuery, month: BilledMonth) -> Response:
    """What the month's invoice would be now; nothing is recorded. The issued invoice where there is one."""
    return reply(_with_total(draft_invoice(call.office, call.actor, payer_id, month)))


@router.post("", summary="开具账单 / Issue an invoice", **operation(IssuedInvoice, takes=NewInvoice, status=201))
def issue(write: Writing) -> Response:
    """Once the month has ended in Asia/Shanghai. The same payer and month always give the same invoice."""
    body = write.read(NewInvoice)

    return write.answer(
        lambda: _with_total(issue_invoice(write.office, write.actor, body.payer_id, body.month)),
        201,
    )


def _with_total(invoice: Invoice) -> IssuedInvoice:
    return IssuedInvoice(invoice=invoice, total_fen=invoice.total_fen)
