"""`yunei release`: what left the domain, fetched again, drawn, or exported, at no new loss and no new price."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.receipt import DPTable, DPTables, VerificationAnswer
from sandbox.cli.exports import chart_of, check_target, csv_of, variances_of, write_file
from sandbox.cli.session import EXIT_OK, Session, built, report_failed, report_refused
from sandbox.cli.tables import receipt_line, show_release
from sandbox.workflow.releases import get_release
from sandbox.workflow.settle import Outcome

app = typer.Typer(help="出域结果 / Releases", no_args_is_help=True)

SubmissionId = Annotated[str, typer.Argument(help="提交编号 / submission id")]
ChartFile = Annotated[Path | None, typer.Option("--chart", help="另存为 SVG 图 / also draw to an SVG file")]
CsvFile = Annotated[Path | None, typer.Option("--csv", help="另存为 CSV / also write a CSV file")]
MeasureName = Annotated[str | None, typer.Option(help="画哪一列 / which column to draw (default: the first)")]


@dataclass(frozen=True)
class Exports:
    """The files that a release is to be written to as well."""

    json: Path | None = None
    chart: Path | None = None
    csv: Path | None = None

    def check(self) -> None:
        """Before anything is spent: whether all of them can be put where they are asked for.

        Raises:
            Failed: `file.unwritable`.
        """
        for path in (self.json, self.chart, self.csv):
            if path is not None:
                check_target(path)

    def write(self, outcome: Outcome) -> None:
        """Write them, each whole or not at all; charts and CSV are of tables only, one file for each of several.

        Raises:
            Failed: `file.unwritable`, `release.no-table`.
        """
        if self.json is not None:
            write_file(self.json, outcome.release_bytes or b"null")
        if outcome.receipt.rule is not None or outcome.receipt.fault is not None:
            return
        for path, make in ((self.csv, csv_of), (self.chart, lambda table: chart_of(table, outcome.receipt))):
            if path is not None:
                tables = tables_of(outcome)
                for place, table in zip(numbered(path, len(tables)), tables, strict=True):
                    write_file(place, make(table))


def numbered(path: Path, count: int) -> tuple[Path, ...]:
    """The path itself for one file; `name-1.csv`, `name-2.csv`, … for several."""
    if count == 1:
        return (path,)
    return tuple(path.with_name(f"{path.stem}-{number}{path.suffix}") for number in range(1, count + 1))


def tables_of(outcome: Outcome) -> tuple[DPTable, ...]:
    """The released table, or those of a workload in the order of its statements.

    Raises:
        Failed: `release.no-table` for an answer, or when nothing was released.
    """
    match outcome.release:
        case DPTable() as table:
            return (table,)
        case DPTables(tables=tables):
            return tables
    raise Failed("release.no-table")


def chart(outcome: Outcome, number: int = 1, measure: str | None = None, title: str | None = None) -> bytes:
    """A released table as SVG; typer.BadParameter for a table or a measure that there is not."""
    tables = tables_of(outcome)
    if not 1 <= number <= len(tables):
        raise typer.BadParameter(f"--table: 1 to {len(tables)}")
    return built(lambda: chart_of(tables[number - 1], outcome.receipt, measure, title))


@app.command(name="get", help="取回出域结果与回执 / The release and its receipt")
def get(
    context: typer.Context,
    submission_id: SubmissionId,
    out: Annotated[Path | None, typer.Option(help="另存为 JSON / also write JSON to")] = None,
    chart: ChartFile = None,
    csv: CsvFile = None,
) -> None:
    """The released value, as often as needed, at no new loss and no new price."""
    session: Session = context.obj
    with session.office() as (office, actor):
        outcome = get_release(office, actor, submission_id)
    show_outcome(session, outcome, Exports(out, chart, csv))


@app.command(name="chart", help="把出域结果画成 SVG / Draw a released table as SVG")
def draw(
    context: typer.Context,
    submission_id: SubmissionId,
    out: Annotated[Path, typer.Option(help="SVG 文件 / SVG file")],
    measure: MeasureName = None,
    table: Annotated[int, typer.Option(help="批量查询的第几张表 / which table of a workload")] = 1,
    title: Annotated[str | None, typer.Option(help="图题 / title")] = None,
) -> None:
    """One file that needs nothing else: no script, no font, no network."""
    session: Session = context.obj
    check_target(out)
    with session.office() as (office, actor):
        outcome = get_release(office, actor, submission_id)
    write_file(out, chart(outcome, table, measure, title))
    session.show({"chart": str(out)}, lambda console: console.print(Text(f"已写入 / written: {out}")))


def show_outcome(session: Session, outcome: Outcome, exports: Exports = Exports()) -> None:
    """The release with its receipt, or why there is none: then the exit code is 3 or 4.

    For scripts `variances` stands beside a table: the variance of every cell, row by row as in `half_widths`; beside
    the tables of a workload a list of such.
    """
    receipt, code = outcome.receipt, EXIT_OK
    beside = {"submission": outcome.submission, "receipt": receipt, "charge": outcome.charge}
    exports.write(outcome)
    if receipt.rule is not None:
        code = report_refused(session, Refused(receipt.rule, **receipt.facts), beside)
    elif receipt.fault is not None:
        code = report_failed(session, Failed("job.failed", receipt.fault), beside)
    else:
        document = {**beside, "release": outcome.release}
        if isinstance(outcome.release, DPTable):
            document["variances"] = variances_of(outcome.release)
        elif isinstance(outcome.release, DPTables):
            document["variances"] = [variances_of(table) for table in outcome.release.tables]
        session.show(document, lambda console: _draw_release(console, outcome))
    if not session.as_json:
        price, basis = outcome.charge.unit_price_fen, outcome.charge.legal_basis
        session.console.print(receipt_line(receipt, price, basis))
    if code != EXIT_OK:
        raise typer.Exit(code)


def _draw_release(console: Console, outcome: Outcome) -> None:
    match outcome.release:
        case DPTable() as table:
            show_release(console, table)
        case DPTables(tables=tables):
            for number, table in enumerate(tables, start=1):
                console.print(Text(f"表 / table {number} / {len(tables)}", style="bold"))
                show_release(console, table)
        case VerificationAnswer(answer=answer):
            console.print(answer.value, style="bold")
