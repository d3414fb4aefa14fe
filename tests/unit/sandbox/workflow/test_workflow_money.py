"""Meter, invoices and budget: what was used, what it costs, what is left."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from enclave_runner.contract.errors import Refused
from enclave_runner.contract.receipt import Receipt
from sandbox.domain.metering import Invoice, InvoiceLine
from sandbox.domain.submission import Submission
from sandbox.store import invoices as stored
from sandbox.store import receipts
from sandbox.store.database import reading
from sandbox.store.submissions import SUBMISSIONS
from sandbox.workflow.budget import read_budget
from sandbox.workflow.consents import file_consent
from sandbox.workflow.dispatch import dispatch
from sandbox.workflow.invoices import issue_invoice, list_invoices, recompute_invoice
from sandbox.workflow.meter import list_events, month_bounds
from sandbox.workflow.submit import submit
from sandbox.workflow.verify import verify
from tests.support.bureau import BANK, COUNT, FREE, OPERATOR, OTHER, PAID, PRODUCT, RESIDENT, Bureau
from tests.support.refusals import refused_by

# Midnight between November and December in Shanghai.
CLOSE = datetime(2026, 11, 30, 16, 0, tzinfo=UTC)


def use(bureau: Bureau, grant_id: str = PAID) -> str:
    """One query; its receipt."""
    submission = submit(bureau.office, bureau.actor(OPERATOR), grant_id, COUNT)
    return dispatch(bureau.office, submission.submission_id).receipt.receipt_id


def invoice(bureau: Bureau, month: str, payer: str = OPERATOR) -> Invoice:
    return issue_invoice(bureau.office, bureau.actor(), payer, month)


def lines(issued: Invoice) -> list[str]:
    return [line.receipt_id for line in issued.lines]


@pytest.mark.parametrize(
    ("month", "begin", "end"),
    [
        ("2026-11", datetime(2026, 10, 31, 16, tzinfo=UTC), CLOSE),
        ("2026-12", CLOSE, datetime(2026, 12, 31, 16, tzinfo=UTC)),
        ("2028-02", datetime(2028, 1, 31, 16, tzinfo=UTC), datetime(2028, 2, 29, 16, tzinfo=UTC)),
    ],
)
def test_a_month_begins_and_ends_at_midnight_in_shanghai(month: str, begin: datetime, end: datetime) -> None:
    assert month_bounds(month) == (begin, end)


@pytest.mark.parametrize("month", ["", "2026-13", "2026-00", "2026-1", "26-11", "2026-11-01", "2026-11\n", "1999-01"])
def test_anything_else_is_no_month(bureau: Bureau, month: str) -> None:
    for ask in (month_bounds, lambda text: list_events(bureau.office, bureau.actor(), text)):
        with refused_by("month.malformed"):
            ask(month)
    with refused_by("month.malformed"):
        invoice(bureau, month)


def test_the_last_second_belongs_to_the_month_and_midnight_to_the_next(bureau: Bureau) -> None:
    bureau.clock.now = CLOSE - timedelta(seconds=1)
    last = use(bureau)
    bureau.clock.now = CLOSE
    first = use(bureau)
    assert lines(invoice(bureau, "2026-11")) == [last]
    assert lines(invoice(bureau, "2026-12")) == [first]
    for month, receipt in (("2026-11", last), ("2026-12", first)):
        assert [event.receipt_id for event in list_events(bureau.office, bureau.actor(), month)] == [receipt]


def test_the_same_month_again_gives_the_same_invoice(bureau: Bureau) -> None:
    use(bureau)
    issued = invoice(bureau, "2026-11")
    late = use(bureau)
    assert invoice(bureau, "2026-11") == issued
    assert issued.total_fen == 20_000
    bureau.clock.now = CLOSE
    assert lines(invoice(bureau, "2026-12")) == [late]


def test_free_uses_are_counted_once_and_cost_nothing(bureau: Bureau) -> None:
    use(bureau, FREE)
    use(bureau, FREE)
    use(bureau)
    issued = invoice(bureau, "2026-11")
    assert (issued.free_uses, len(issued.lines), issued.total_fen) == (2, 1, 20_000)
    bureau.clock.now = CLOSE
    assert (invoice(bureau, "2026-12").free_uses, invoice(bureau, "2026-12").lines) == (0, ())


def test_refused_and_failed_jobs_are_on_the_meter_and_on_no_invoice(bureau: Bureau) -> None:
    bureau.enclave.refuse_next = Refused("odometer.spent", entity_set="resident", asked=1, left=0)
    use(bureau)
    bureau.enclave.fail_next = True
    use(bureau)
    assert [event.units for event in list_events(bureau.office, bureau.actor())] == [0, 0]
    issued = invoice(bureau, "2026-11")
    assert (issued.lines, issued.free_uses, issued.total_fen) == ((), 0, 0)


def test_whoever_asked_pays(bureau: Bureau) -> None:
    file_consent(bureau.office, bureau.actor(), PRODUCT, BANK, RESIDENT, CLOSE)
    verify(bureau.office, bureau.actor(BANK), PRODUCT, RESIDENT, "true")
    assert invoice(bureau, "2026-11", BANK).total_fen == 50
    assert invoice(bureau, "2026-11", OPERATOR).total_fen == 0
    for who, seen in ((BANK, 1), (OPERATOR, 1), (OTHER, 0), ("bureau", 1)):
        assert len(list_events(bureau.office, bureau.actor(who))) == seen


def test_only_the_bureau_issues_and_a_payer_reads_its_own(bureau: Bureau) -> None:
    invoice(bureau, "2026-11", BANK)
    invoice(bureau, "2026-11", OPERATOR)
    with refused_by("access.bureau-only"):
        issue_invoice(bureau.office, bureau.actor(OPERATOR), OPERATOR, "2026-11")
    assert [item.payer_id for item in list_invoices(bureau.office, bureau.actor(BANK))] == [BANK]
    assert len(list_invoices(bureau.office, bureau.actor())) == 2


def test_no_invoice_for_a_month_to_come_or_an_unknown_payer(bureau: Bureau) -> None:
    with refused_by("month.future", month="2026-12"):
        invoice(bureau, "2026-12")
    with refused_by("record.unknown", what="party"):
        invoice(bureau, "2026-11", "nobody")


def evidence(bureau: Bureau, issued: Invoice) -> tuple[tuple[Receipt, ...], dict[str, Submission]]:
    with reading(bureau.office.engine) as connection:
        found = receipts.named(connection, stored.covered(connection, issued.invoice_id))
        asked = {item.submission_id: SUBMISSIONS.get(connection, item.submission_id) for item in found}
    return found, asked


def test_an_invoice_follows_from_its_receipts_and_from_nothing_else(bureau: Bureau) -> None:
    use(bureau, FREE)
    use(bureau)
    use(bureau)
    issued = invoice(bureau, "2026-11")
    found, asked = evidence(bureau, issued)
    assert recompute_invoice(issued, found, asked)
    assert recompute_invoice(issued, tuple(reversed(found)), asked)
    first = issued.lines[0]
    cheaper = InvoiceLine(first.receipt_id, first.tariff_id, 1, 1, 1, first.legal_basis)
    for wrong in (
        replace(issued, lines=issued.lines[:1]),
        replace(issued, lines=(cheaper, *issued.lines[1:])),
        replace(issued, lines=(*issued.lines, issued.lines[0])),
        replace(issued, free_uses=0),
        replace(issued, payer_id=BANK),
        replace(issued, month="2026-10"),
    ):
        assert not recompute_invoice(wrong, found, asked)
    assert not recompute_invoice(issued, found[1:], asked)


def test_budgets_are_those_of_the_enclave_and_of_the_own_grants(bureau: Bureau) -> None:
    use(bureau)
    budgets = read_budget(bureau.office, bureau.actor(OPERATOR))
    assert [(item.entity_set, item.spent) for item in budgets.readings] == [("resident", 50_000_000_000)]
    assert [(item.grant_id, item.uses) for item in budgets.grants] == [(PAID, 1)]
    assert read_budget(bureau.office, bureau.actor()).grants == budgets.grants
    assert read_budget(bureau.office, bureau.actor(OTHER)).grants == ()
    with refused_by("access.denied"):
        read_budget(bureau.office, bureau.actor(BANK))
