"""`yunei quote`: what a query would spend, how exact it would be, what it would cost. No data are touched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from enclave_runner.contract.dataset import DatasetSpec
from enclave_runner.contract.grant import Grant
from enclave_runner.contract.privacy import PrivacyLoss
from enclave_runner.contract.receipt import Measure
from enclave_runner.contract.wire import Reading
from sandbox.cli.charts import Glyphs, glyphs_of, spent_bar
from sandbox.cli.jobs import Delta, Epsilon, GrantOption, OneSql, Workload, query_job, text_of
from sandbox.cli.money import yuan
from sandbox.cli.session import Session
from sandbox.cli.statement import pointing_into
from sandbox.cli.tables import LAWS
from sandbox.client.figures import visible
from sandbox.workflow.budget import Budgets, read_budget
from sandbox.workflow.datasets import get_dataset
from sandbox.workflow.grants import get_grant
from sandbox.workflow.quote import JobQuote, quote


@dataclass(frozen=True)
class Share:
    """How much of one budget is spent, what the query would add, and how large the budget is, all in ρ·10¹²."""

    entity_set: str
    budget: str
    spent: int
    asked: int
    total: int


def add_commands(app: typer.Typer) -> None:
    """Register `quote`."""
    app.command(name="quote", help="运行前报价：隐私损失、精度、价格 / Loss, accuracy and price before running")(
        show_quote
    )


def show_quote(
    context: typer.Context,
    grant: GrantOption,
    sql: OneSql = None,
    workload: Workload = None,
    epsilon: Epsilon = "1",
    delta: Delta = "1e-6",
) -> None:
    """A quote touches no data and spends nothing."""
    session: Session = context.obj
    job = query_job(text_of(sql, workload), epsilon, delta)
    with pointing_into(session, job.sql), session.office() as (office, actor):
        offered = quote(office, actor, grant, job)
        granted = get_grant(office, actor, grant).grant
        shares = shares_of(offered.quote.losses, granted, read_budget(office, actor))
        specs = [get_dataset(office, actor, name).spec for name in offered.quote.datasets]
    blurred = tuple(item.name for item in offered.quote.measures if is_blurred(item, specs, offered.quote.cells))
    document = {"quote": offered.quote, "charge": offered.charge, "shares": shares, "blurred": blurred}
    session.show(document, lambda console: draw_quote(console, offered, shares, blurred))


def shares_of(losses: tuple[PrivacyLoss, ...], grant: Grant, budgets: Budgets) -> tuple[Share, ...]:
    """For every entity set: the grant's budget, and its lifetime budget where the odometer shows one."""
    used = {item.grant_id: item.losses for item in budgets.grants}.get(grant.grant_id, ())
    readings: dict[str, Reading] = {item.entity_set: item for item in budgets.readings}
    found = []
    for loss in losses:
        spent = sum(item.pico_rho for item in used if item.entity_set == loss.entity_set)
        found.append(Share(loss.entity_set, "grant", spent, loss.pico_rho, grant.budget(loss.entity_set)))
        reading = readings.get(loss.entity_set)
        if reading is not None:
            spent = reading.spent + reading.reserved
            found.append(Share(loss.entity_set, "lifetime", spent, loss.pico_rho, reading.lifetime))
    return tuple(found)


def is_blurred(measure: Measure, specs: Sequence[DatasetSpec], cells: int) -> bool:
    """Whether the noise is larger than an average cell can be at all, by the catalogue's bounds alone.

    `specs` are the datasets that the query reads; where they differ, the largest bound counts.
    """
    if not measure.half_width:
        return False
    largest = max(_largest_total(measure.unit, spec) for spec in specs) / max(cells, 1)
    return Decimal(measure.half_width) > largest


def _largest_total(unit: str, spec: DatasetSpec) -> Decimal:
    """The largest count of rows, or sum of the column that the unit names."""
    rows = Decimal(spec.population_cap) * (spec.rows_per_entity or 1)
    column = spec.column(unit)
    if column is None or column.bounds is None:
        return rows
    return rows * max(abs(bound) for bound in column.bounds) / Decimal(10**column.scale)


def draw_quote(console: Console, offered: JobQuote, shares: tuple[Share, ...], blurred: tuple[str, ...]) -> None:
    asked, glyphs = offered.quote, glyphs_of(console)
    console.print(Text("报价 / quote", style="bold"))
    for loss in asked.losses:
        within = f"; ε ≤ {asked.budget.epsilon}, δ = {asked.budget.delta}" if asked.budget is not None else ""
        noise = f" · 噪声 / noise: {LAWS[asked.noise]}" if asked.noise in LAWS else ""
        console.print(Text(f"损失 / loss {loss.text}{within}{noise}"))
        for share in shares:
            if share.entity_set == loss.entity_set:
                console.print(Text("  " + share_line(share, glyphs)))
    table = Table(header_style="bold")
    for name, justify in (("列 / column", "left"), ("单位 / unit", "left"), ("95 % 区间 / interval", "right")):
        table.add_column(name, justify="right" if justify == "right" else "left")
    for measure in asked.measures:
        width = f"± {measure.half_width}" if measure.half_width else "因格而异 / differs by cell"
        table.add_row(visible(measure.name), visible(measure.unit), width)
    console.print(table)
    reads = ", ".join(name + (f"({', '.join(columns)})" if columns else "") for name, columns in asked.datasets.items())
    console.print(Text(f"格数 / cells {asked.cells} · 读取 / reads {reads}"))
    price = f"价格 / price {yuan(offered.charge.unit_price_fen)} ({offered.charge.legal_basis})"
    console.print(Text(f"{price} · 未读数据，未作消耗 / no data were touched, nothing was spent"))
    if blurred:
        console.print(Text(_warning(blurred), style="yellow"))


def share_line(share: Share, glyphs: Glyphs) -> str:
    """`grant ███▒▒······ 30 % spent + 20 % now, of ρ = 1`."""
    names = {"grant": "本授权 / grant   ", "lifetime": "终身 / lifetime "}
    spent, asked = (100 * part / share.total if share.total else 100.0 for part in (share.spent, share.asked))
    bar = spent_bar(spent / 100, asked / 100, glyphs)
    total = PrivacyLoss(entity_set=share.entity_set, pico_rho=share.total).rho
    over = "  超出 / more than is left" if share.spent + share.asked > share.total else ""
    return f"{names[share.budget]} {bar} {spent:.1f} % 已用 / spent + {asked:.1f} % 本次 / now, of ρ = {total}{over}"


def _warning(names: tuple[str, ...]) -> str:
    listed = ", ".join(visible(name) for name in names)
    return (
        f"注意 / note: {listed}：噪声大于每格平均可能的最大值；请加大 ε、减少分组或放宽条件 / "
        "the noise is larger than an average cell can be; ask with a larger ε or for fewer groups"
    )
