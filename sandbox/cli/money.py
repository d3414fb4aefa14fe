"""`yunei budget`, `meter`, `invoice`: what was spent and what it cost."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.progress_bar import ProgressBar
from rich.table import Table

from enclave_runner.contract.privacy import RHO_UNIT, delta_text, losses_text
from sandbox.cli.session import Session
from sandbox.domain.metering import Invoice
from sandbox.rules.months import month_bounds
from sandbox.workflow.budget import Budgets, read_budget
from sandbox.workflow.invoices import draft_invoice, issue_invoice
from sandbox.workflow.meter import list_events

Month = Annotated[str, typer.Option(help="月份（上海时间）/ month in Shanghai, 2026-11")]


def add_commands(app: typer.Typer) -> None:
    """Register the three commands."""
    app.command(name="budget", help="隐私里程计 / The privacy odometer")(budget)
    app.command(name="meter", help="计量事件 / Meter events")(meter)
    app.command(name="invoice", help="月度账单，当月为草稿 / The month's invoice; a draft while it runs")(invoice)


def budget(context: typer.Context) -> None:
    """Lifetime loss of every entity set across all operators, and of every grant."""
    session: Session = context.obj
    with session.office() as (office, actor):
        budgets = read_budget(office, actor)
    session.show(budgets, lambda console: _draw_budgets(console, budgets))


def _draw_budgets(console: Console, budgets: Budgets) -> None:
    console.print(budget_table(budgets))
    for grant in budgets.grants:
        console.print(f"{grant.grant_id}: {grant.uses} uses, {losses_text(grant.losses) or '-'}")


def budget_table(budgets: Budgets) -> Table:
    """Every odometer: what was spent for life in ρ and δ, and what that is as an ε at a δ."""
    table = Table(title="隐私里程计 / odometer", title_justify="left")
    table.add_column("entity set")
    for name in ("spent ρ", "lifetime ρ", "spent δ", "lifetime δ"):
        table.add_column(name, justify="right")
    table.add_column("")
    table.add_column("= (ε, δ)")
    for reading in budgets.readings:
        used, used_delta = reading.spent + reading.reserved, reading.spent_delta + reading.reserved_delta
        table.add_row(
            reading.entity_set,
            _rho(used),
            _rho(reading.lifetime),
            delta_text(used_delta),
            delta_text(reading.lifetime_delta),
            ProgressBar(total=reading.lifetime, completed=used, width=20),
            f"{reading.epsilon}, {reading.at_delta}",
        )
    return table


def _rho(pico_rho: int) -> str:
    return f"{pico_rho / RHO_UNIT:.6f}"


def meter(context: typer.Context, month: Annotated[str | None, typer.Option(help="2026-11")] = None) -> None:
    """One event per receipt."""
    session: Session = context.obj
    with session.office() as (office, actor):
        events = list_events(office, actor, month)
    rows = [
        (e.occurred_at.isoformat(), e.payer_id, e.mode.value, e.purpose.value, e.units, e.amount_fen, e.receipt_id)
        for e in events
    ]
    columns = ("at (UTC)", "payer", "kind", "purpose", ">units", ">fen", "receipt")
    session.table(events, "计量 / meter", columns, rows)


def invoice(context: typer.Context, payer: Annotated[str, typer.Argument(help="付费方 / payer")], month: Month) -> None:
    """A draft while the month runs. Once it has ended, the same month again gives the same invoice."""
    session: Session = context.obj
    with session.office() as (office, actor):
        is_open = office.clock() < month_bounds(month)[1]
        issued = (draft_invoice if is_open else issue_invoice)(office, actor, payer, month)
    document = {"invoice": issued, "total_fen": issued.total_fen, "draft": is_open}
    session.show(document, lambda console: console.print(invoice_table(issued, is_open)))


def invoice_table(issued: Invoice, is_draft: bool) -> Table:
    """An invoice, or its draft, as people read it."""
    what = "账单草稿 / draft of invoice" if is_draft else "账单 / invoice"
    title = f"{what} {issued.invoice_id} · {issued.payer_id} · {issued.month}"
    caption = f"合计 / total {yuan(issued.total_fen)}; 无偿使用 / free uses {issued.free_uses}"
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    for name in ("receipt", "tariff", "legal basis"):
        table.add_column(name)
    table.add_column("amount", justify="right")
    for line in issued.lines:
        table.add_row(line.receipt_id, line.tariff_id, line.legal_basis, yuan(line.amount_fen))
    for sum_of in issued.call_lines:
        calls = f"{sum_of.product_id}: {sum_of.calls} 次调用 / calls, {sum_of.units} × {yuan(sum_of.unit_price_fen)}"
        table.add_row(calls, sum_of.tariff_id, sum_of.legal_basis, yuan(sum_of.amount_fen))
    return table


def yuan(fen: int) -> str:
    """Fen as yuan, exactly."""
    return f"¥{fen // 100:,}.{fen % 100:02d}"
