from __future__ import annotations

import io

import pytest
from rich.console import Console

from enclave_runner.contract.wire import Reading
from sandbox.cli.money import budget_table, invoice_table, yuan
from sandbox.domain.metering import Invoice, InvoiceLine
from sandbox.workflow.budget import Budgets


@pytest.mark.parametrize(
    ("fen", "text"),
    [
        (0, "¥0.00"),
        (1, "¥0.01"),
        (50, "¥0.50"),
        (100, "¥1.00"),
        (80_000, "¥800.00"),
        (123_456_789, "¥1,234,567.89"),
        (10**20 + 7, "¥1,000,000,000,000,000,000.07"),
    ],
)
def test_fen_become_yuan_exactly(fen: int, text: str) -> None:
    assert yuan(fen) == text


@pytest.mark.parametrize("is_draft", [True, False])
def test_an_invoice_shows_every_line_the_total_and_whether_it_is_a_draft(is_draft: bool) -> None:
    lines = tuple(
        InvoiceLine(f"rcpt-{n}", "query-industry", price, 1, price, "第三十五条")
        for n, price in enumerate((50, 20_000))
    )
    out = io.StringIO()
    Console(file=out, width=160).print(invoice_table(Invoice("inv-1", "biz-bank", "2026-11", lines, 3), is_draft))
    text = out.getvalue()
    assert all(part in text for part in ("inv-1", "biz-bank", "2026-11", "rcpt-0", "rcpt-1", "¥0.50", "¥200.00"))
    assert "¥200.50" in text
    assert "free uses 3" in text
    assert ("draft" in text) == is_draft


def test_the_odometer_shows_rho_delta_and_what_they_are_as_epsilon() -> None:
    reading = Reading(
        entity_set="resident",
        spent=10**11,
        reserved=10**10,
        lifetime=8 * 10**12,
        spent_delta=10**12,
        reserved_delta=5 * 10**11,
        lifetime_delta=10**14,
        epsilon="2.4700",
        at_delta="2.5e-6",
    )
    out = io.StringIO()
    Console(file=out, width=160).print(budget_table(Budgets((reading,), ())))
    shown = out.getvalue()
    for part in ("resident", "0.110000", "8.000000", "1.5e-6", "1e-4", "2.4700, 2.5e-6"):
        assert part in shown
