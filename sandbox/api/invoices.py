"""Invoices: the paid events of one payer in one month."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter
from starlette.responses import Response

from enclave_runner.contract.codec import Value
from sandbox.api.call import Reading, Writing, reply
from sandbox.api.identifiers import MONTH, Slug
from sandbox.api.openapi import operation
from sandbox.domain.metering import Invoice
from sandbox.workflow.invoices import issue_invoice, list_invoices

router = APIRouter(prefix="/v1/invoices", tags=["invoices"])


class NewInvoice(Value, frozen=True):
    """Who pays, for which month in Asia/Shanghai."""

    payer_id: Slug
    month: Annotated[str, msgspec.Meta(pattern=MONTH)]


class IssuedInvoice(Value, frozen=True):
    """The invoice and the sum of its lines, in fen."""

    invoice: Invoice
    total_fen: int


@router.get("", summary="列出账单 / List invoices", **operation(tuple[IssuedInvoice, ...]))
def list_all(call: Reading) -> Response:
    """The invoices that the caller may see."""
    return reply([_with_total(invoice) for invoice in list_invoices(call.office, call.actor)])


@router.post("", summary="开具账单 / Issue an invoice", **operation(IssuedInvoice, takes=NewInvoice, status=201))
def issue(write: Writing) -> Response:
    """The same payer and month always give the same invoice."""
    body = write.read(NewInvoice)

    return write.answer(
        lambda: _with_total(issue_invoice(write.office, write.actor, body.payer_id, body.month)),
        201,
    )


def _with_total(invoice: Invoice) -> IssuedInvoice:
    return IssuedInvoice(invoice=invoice, total_fen=invoice.total_fen)
