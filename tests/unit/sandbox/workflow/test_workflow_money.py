"""Meter, invoices and budget: what was used, what it costs, what is left."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from enclave_runner.contract.errors import Refused
from enclave_runner.contract.receipt import Receipt
from sandbox.domain.metering import Invoice, InvoiceLine
from sandbox.domain.submission import Submission
from sandbox.store import audit_log, receipts
from sandbox.store.database import reading
from sandbox.store.submissions import SUBMISSIONS
from sandbox.workflow.budget import read_budget
from sandbox.workflow.consents import file_consent
from sandbox.workflow.dispatch import dispatch
from sandbox.workflow.invoices import draft_invoice, issue_invoice, list_invoices, recompute_invoice
from sandbox.workflow.meter import list_events
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
    """Issued long after."""
    late = replace(bureau.office, clock=lambda: datetime(2028, 1, 1, tzinfo=UTC))
    return issue_invoice(late, bureau.actor(), payer, month)


def lines(issued: Invoice) -> list[str]:
    return [line.receipt_id for line in issued.lines]


@pytest.mark.parametrize("month", ["", "2026-13", "2026-00", "2026-1", "26-11", "2026-11-01", "2026-11\n", "1999-01"])
def test_anything_else_is_no_month(bureau: Bureau, month: str) -> None:
    with refused_by("month.malformed"):
        list_events(bureau.office, bureau.actor(), month)
    with refused_by("month.malformed"):
        draft_invoice(bureau.office, bureau.actor(), OPERATOR, month)
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
    with refused_by("invoice.empty", party=OPERATOR, month="2026-12"):
        invoice(bureau, "2026-12")
    assert [item.month for item in list_invoices(bureau.office, bureau.actor())] == ["2026-11"]


def test_refused_and_failed_jobs_are_on_the_meter_and_on_no_invoice(bureau: Bureau) -> None:
    bureau.enclave.refuse_next = Refused("odometer.spent", entity_set="resident", asked=1, left=0)
    use(bureau)
    bureau.enclave.fail_next = True
    use(bureau)
    assert [event.units for event in list_events(bureau.office, bureau.actor())] == [0, 0]
    with refused_by("invoice.empty"):
        invoice(bureau, "2026-11")


def test_whoever_asked_pays(bureau: Bureau) -> None:
    file_consent(bureau.office, bureau.actor(), PRODUCT, BANK, RESIDENT, CLOSE)
    verify(bureau.office, bureau.actor(BANK), PRODUCT, RESIDENT, "true")
    assert invoice(bureau, "2026-11", BANK).total_fen == 50
    with refused_by("invoice.empty"):
        invoice(bureau, "2026-11", OPERATOR)
    for who, seen in ((BANK, 1), (OPERATOR, 1), (OTHER, 0), ("bureau", 1)):
        assert len(list_events(bureau.office, bureau.actor(who))) == seen


def test_only_the_bureau_issues_and_a_payer_reads_its_own(bureau: Bureau) -> None:
    file_consent(bureau.office, bureau.actor(), PRODUCT, BANK, RESIDENT, CLOSE)
    verify(bureau.office, bureau.actor(BANK), PRODUCT, RESIDENT, "true")
    use(bureau)
    invoice(bureau, "2026-11", BANK)
    invoice(bureau, "2026-11", OPERATOR)
    with refused_by("access.bureau-only"):
        issue_invoice(bureau.office, bureau.actor(OPERATOR), OPERATOR, "2026-11")
    assert [item.payer_id for item in list_invoices(bureau.office, bureau.actor(BANK))] == [BANK]
    assert len(list_invoices(bureau.office, bureau.actor())) == 2


@pytest.mark.parametrize("moment", [CLOSE - timedelta(days=20), CLOSE - timedelta(seconds=1)])
def test_no_invoice_before_the_month_has_ended_in_shanghai(bureau: Bureau, moment: datetime) -> None:
    use(bureau)
    bureau.clock.now = moment
    with refused_by("invoice.month-open", month="2026-11", until="2026-12-01"):
        issue_invoice(bureau.office, bureau.actor(), OPERATOR, "2026-11")
    assert list_invoices(bureau.office, bureau.actor()) == ()
    bureau.clock.now = CLOSE
    assert issue_invoice(bureau.office, bureau.actor(), OPERATOR, "2026-11").total_fen == 20_000


def test_a_draft_is_what_the_invoice_would_be_and_leaves_nothing_behind(bureau: Bureau) -> None:
    use(bureau)
    with reading(bureau.office.engine) as connection:
        before = audit_log.frontier(connection)
    drafts = [draft_invoice(bureau.office, bureau.actor(who), OPERATOR, "2026-11") for who in ("bureau", OPERATOR)]
    with reading(bureau.office.engine) as connection:
        assert audit_log.frontier(connection) == before
    assert list_invoices(bureau.office, bureau.actor()) == ()
    assert drafts == [invoice(bureau, "2026-11")] * 2
    use(bureau)
    assert draft_invoice(bureau.office, bureau.actor(), OPERATOR, "2026-11") == drafts[0]


def test_a_draft_is_for_its_payer_and_for_a_month_that_has_begun(bureau: Bureau) -> None:
    assert draft_invoice(bureau.office, bureau.actor(BANK), BANK, "2026-11").total_fen == 0
    with refused_by("access.foreign"):
        draft_invoice(bureau.office, bureau.actor(BANK), OPERATOR, "2026-11")
    with refused_by("month.future", month="2026-12"):
        draft_invoice(bureau.office, bureau.actor(), OPERATOR, "2026-12")
    for ask in (invoice, lambda *asked: draft_invoice(bureau.office, bureau.actor(), "nobody", "2026-11")):
        with refused_by("record.unknown", what="party"):
            ask(bureau, "2026-11", "nobody")


def evidence(bureau: Bureau, issued: Invoice) -> tuple[tuple[Receipt, ...], dict[str, Submission]]:
    with reading(bureau.office.engine) as connection:
        found = receipts.on_invoice(connection, issued.invoice_id)
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
