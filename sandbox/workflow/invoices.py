"""Invoices: the uses of a payer's month, each on exactly one invoice, issued after its end; drafts before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import Connection

from enclave_runner.contract.call import CallReceipt
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.receipt import Receipt
from sandbox.domain.metering import Invoice, MeterEvent
from sandbox.domain.submission import Submission
from sandbox.rules.access import Action, Record
from sandbox.rules.months import SHANGHAI, month_bounds
from sandbox.rules.rating import count_free, meter, meter_call, rate, rate_calls
from sandbox.store import calls, invoices, meter_events
from sandbox.store.database import reading, writing
from sandbox.store.invoices import INVOICES
from sandbox.store.parties import PARTIES
from sandbox.workflow.call_sync import sync_calls
from sandbox.workflow.office import Actor, Office, authorize, is_allowed, note_act


def issue_invoice(office: Office, actor: Actor, payer_id: str, month: str) -> Invoice:
    """Issue a payer's invoice for a month in Shanghai ("2026-11") that has ended; the same month again gives the same
    invoice.

    It covers every use before the month's end that stands on no other invoice: what was settled late goes to the next
    one.

    Raises:
        Refused: by access, `month.malformed`, `record.unknown`, `invoice.month-open` before the month has ended,
            `invoice.empty` when there is nothing to cover.
    """
    authorize(office, actor, Action.ISSUE_INVOICE, Record("invoice", payer_id, (payer_id,)))
    _, end = month_bounds(month)
    if office.clock() < end:
        raise Refused("invoice.month-open", month=month, until=end.astimezone(SHANGHAI).date().isoformat())
    sync_calls(office)
    invoice_id = _id_of(payer_id, month)
    with writing(office.engine) as connection:
        PARTIES.get(connection, payer_id)
        known = INVOICES.find(connection, invoice_id)
        if known is not None:
            return known
        invoice, events = _compute(connection, payer_id, month)
        if not events:
            raise Refused("invoice.empty", party=payer_id, month=month)
        invoices.add(connection, invoice, events)
        note_act(
            office,
            connection,
            actor,
            "invoice.issue",
            invoice_id,
            lines=str(len(invoice.lines)),
            total_fen=str(invoice.total_fen),
        )
    return invoice


def draft_invoice(office: Office, actor: Actor, payer_id: str, month: str) -> Invoice:
    """What the invoice of a month would be now, recorded nowhere; the issued one where there is one.

    For the payer itself and the bureau.

    Raises:
        Refused: by access, `month.malformed`, `month.future`, `record.unknown`.
    """
    authorize(office, actor, Action.READ_INVOICE, Record("invoice", payer_id, (payer_id,)))
    begin, _ = month_bounds(month)
    if begin > office.clock():
        raise Refused("month.future", month=month)
    sync_calls(office)
    with reading(office.engine) as connection:
        PARTIES.get(connection, payer_id)
        known = INVOICES.find(connection, _id_of(payer_id, month))
        return known or _compute(connection, payer_id, month)[0]


def _compute(connection: Connection, payer_id: str, month: str) -> tuple[Invoice, tuple[MeterEvent, ...]]:
    """The invoice over every use that is open at the month's end, and those uses."""
    until = month_bounds(month)[1]
    events = meter_events.open_uses(connection, payer_id, until) + calls.open_uses(connection, payer_id, until)
    invoice = Invoice(
        _id_of(payer_id, month), payer_id, month, rate(events), count_free(events), call_lines=rate_calls(events)
    )
    return invoice, events


def _id_of(payer_id: str, month: str) -> str:
    return f"inv-{month}-{payer_id}"


def list_invoices(office: Office, actor: Actor) -> tuple[Invoice, ...]:
    """The actor's own invoices; all of them for the bureau.

    Raises:
        Refused: by access.
    """
    own = actor.party.party_id
    authorize(office, actor, Action.READ_INVOICE, Record("invoice", own, (own,)))
    everything = is_allowed(office, actor, Action.READ_INVOICE, Record("invoice", "all"))
    with reading(office.engine) as connection:
        return INVOICES.listed(connection) if everything else invoices.of_payer(connection, own)


def recompute_invoice(
    invoice: Invoice,
    receipts: Iterable[Receipt],
    submissions: Mapping[str, Submission],
    called: Iterable[CallReceipt] = (),
) -> bool:
    """Whether an invoice is exactly what follows from the receipts that it covers. Pure: needs no office.

    `submissions` (by id) say who asked, and so who pays; the receipt of a call says it itself.
    """
    events = [meter(receipt, submissions[receipt.submission_id]) for receipt in receipts]
    events += [meter_call(receipt) for receipt in called]
    payers = {event.payer_id for event in events}
    until = month_bounds(invoice.month)[1]
    return (
        payers <= {invoice.payer_id}
        and all(event.occurred_at < until for event in events)
        and (rate(events), count_free(events)) == (invoice.lines, invoice.free_uses)
        and rate_calls(events) == invoice.call_lines
    )
