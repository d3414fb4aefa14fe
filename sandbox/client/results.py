"""What comes of a job: its quote before, its submission while, its result after. They draw themselves in a notebook."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from enclave_runner.contract.errors import Refused
from enclave_runner.contract.privacy import losses_text
from enclave_runner.contract.receipt import DPTable, DPTables, Receipt, Release
from sandbox.client import pages
from sandbox.client.figures import Figure, figure_of, shortened, visible
from sandbox.client.records import FINAL, Ended, Filed, Odometers, Quoted, fen_text
from sandbox.client.svg import Caption, embedded_svg

MAX_SHOWN = 200  # rows of a table in a notebook; the value has them all


@dataclass(frozen=True)
class JobQuote:
    """What a job would spend, give and cost, beside what the odometers say. Nothing was spent by asking."""

    quoted: Quoted
    odometers: Odometers

    @property
    def price_fen(self) -> int:
        """What one use costs, in fen."""
        return self.quoted.charge.unit_price_fen

    @property
    def affordable(self) -> int | None:
        """How many such jobs the entity sets' odometers still allow; None where it loses nothing."""
        left = {one.entity_set: one.lifetime - one.spent - one.reserved for one in self.odometers.readings}
        counts = [
            max(left.get(loss.entity_set, 0), 0) // loss.pico_rho for loss in self.quoted.quote.losses if loss.pico_rho
        ]
        return min(counts, default=None)

    def __repr__(self) -> str:
        facts = "\n".join(f"{name}: {value}" for name, value in self._facts())
        return f"{facts}\n{pages.lines(_MEASURE_HEAD, self._measures())}"

    def _repr_html_(self) -> str:
        facts = [[pages.text(name), pages.text(value)] for name, value in self._facts()]
        rows = [[pages.text(cell) for cell in row] for row in self._measures()]
        bars = [[pages.text(name), pages.bar(spent, asked)] for name, spent, asked in self._shares()]
        return pages.page(
            pages.heading("报价 / quote"),
            pages.table(("", ""), [*facts, *bars]),
            pages.table(_MEASURE_HEAD, rows, numbers=frozenset({2})),
            pages.note("未花费任何预算。/ Nothing was spent by asking."),
        )

    def _facts(self) -> list[tuple[str, str]]:
        quote, more = self.quoted.quote, self.affordable
        facts = [
            ("隐私损失 / loss", losses_text(quote.losses) or "0"),
            ("价格 / price", fen_text(self.price_fen)),
            ("依据 / legal basis", self.quoted.charge.legal_basis),
            ("读取 / reads", "; ".join(f"{name}: {', '.join(columns)}" for name, columns in quote.datasets.items())),
        ]
        if quote.seconds:
            facts.append(("用时 / takes", f"{quote.seconds} s"))
        if more is not None:
            facts.append(("还可运行 / such jobs left", str(more)))
        return facts

    def _measures(self) -> list[list[str]]:
        return [[one.name, one.unit, one.half_width or "—"] for one in self.quoted.quote.measures]

    def _shares(self) -> list[tuple[str, float, float]]:
        """Every entity set that the job loses of: its name, the part spent, the part asked."""
        known = {one.entity_set: one for one in self.odometers.readings}
        return [
            (loss.entity_set, (one.spent + one.reserved) / one.lifetime, loss.pico_rho / one.lifetime)
            for loss in self.quoted.quote.losses
            if (one := known.get(loss.entity_set)) is not None and one.lifetime
        ]


_MEASURE_HEAD = ("输出 / measure", "单位 / unit", "± (95 %)")


@dataclass(frozen=True)
class Submission:
    """A job that was filed; `Workbench.wait` and `Workbench.result` take it."""

    filed: Filed

    @property
    def submission_id(self) -> str:
        """Its id."""
        return self.filed.submission_id

    @property
    def status(self) -> str:
        """Where it stood when it was last asked for."""
        return self.filed.status

    @property
    def is_final(self) -> bool:
        """Whether nothing more will come."""
        return self.status in FINAL

    def __repr__(self) -> str:
        return f"Submission({self.submission_id!r}, {self.status!r})"


@dataclass(frozen=True)
class Submissions:
    """The submissions that the caller may see, oldest first."""

    filed: tuple[Submission, ...]

    def __iter__(self) -> Iterator[Submission]:
        return iter(self.filed)

    def __len__(self) -> int:
        return len(self.filed)

    def __repr__(self) -> str:
        return pages.lines(_JOB_HEAD, self._rows())

    def _repr_html_(self) -> str:
        return pages.page(pages.table(_JOB_HEAD, [[pages.text(cell) for cell in row] for row in self._rows()]))

    def _rows(self) -> list[list[str]]:
        return [
            [
                one.submission_id,
                one.filed.job.mode.value,
                one.filed.grant_id,
                one.status,
                one.filed.submitted_at.isoformat(timespec="seconds"),
            ]
            for one in self.filed
        ]


_JOB_HEAD = ("提交 / submission", "方式 / mode", "授权 / grant", "状态 / status", "提交时间 / submitted (UTC)")


@dataclass(frozen=True)
class Result:
    """A release with its receipt. What a table does not say is in `release` itself."""

    ended: Ended

    @property
    def release(self) -> Release:
        """What was released."""
        if self.ended.release is None:
            raise Refused("client.no-table", what="nothing was released")
        return self.ended.release

    @property
    def receipt(self) -> Receipt:
        """The enclave's receipt, as the platform shows it."""
        if self.ended.receipt is None:
            raise Refused("client.no-table", what="there is no receipt")
        return self.ended.receipt

    @property
    def table(self) -> DPTable:
        """The released table.

        Raises:
            Refused: `client.no-table` for a workload's several tables, or for an answer.
        """
        if not isinstance(self.release, DPTable):
            raise Refused("client.no-table", what=type(self.release).__name__)
        return self.release

    def figure(self, measure: str | None = None) -> Figure:
        """One measure as marks with their 95 % intervals; the first unless it is named."""
        return figure_of(self.table, measure)

    def svg(self, measure: str | None = None) -> str:
        """The figure as an SVG element for a page."""
        return _drawn(self.table, measure)

    def to_pandas(self) -> Any:
        """The table as a DataFrame: keys as text, values and half widths (`… ±`) as floats. Needs pandas."""
        table, keys = self.table, len(self.table.keys)
        columns: dict[str, list[Any]] = {name: [row[at] for row in table.rows] for at, name in enumerate(table.keys)}
        for at, measure in enumerate(table.measures):
            columns[measure.name] = [_float(row[keys + at]) for row in table.rows]
            columns[f"{measure.name} ±"] = [_float(widths[at]) for widths in table.widths]
        return import_module("pandas").DataFrame(columns)

    def __repr__(self) -> str:
        shown = "\n\n".join(pages.lines(_head(table), _rows(table)) for table in self._tables())
        return f"{shown or self.release}\n{self._told()}"

    def _repr_html_(self) -> str:
        parts = []
        for table in self._tables():
            cells = [[pages.text(cell) for cell in row] for row in _rows(table)]
            numbers = frozenset(range(len(table.keys), len(table.keys) + 2 * len(table.measures)))
            parts += [_drawn(table, None), pages.table(_head(table), cells, numbers)]
            if len(table.rows) > MAX_SHOWN:
                parts.append(pages.note(f"前 {MAX_SHOWN} 行 / first {MAX_SHOWN} of {len(table.rows)} rows"))
        return pages.page(*(parts or [pages.text(self.release)]), pages.note(self._told()))

    def _tables(self) -> tuple[DPTable, ...]:
        if isinstance(self.release, DPTables):
            return self.release.tables
        return (self.release,) if isinstance(self.release, DPTable) else ()

    def _told(self) -> str:
        receipt = self.receipt
        loss = losses_text(receipt.losses) or "ρ=0"
        price = fen_text(receipt.charge.unit_price_fen)
        return f"收据 / receipt {receipt.receipt_id} · {loss} · {price} · {receipt.charge.legal_basis}"


def _head(table: DPTable) -> list[str]:
    return [visible(key) for key in table.keys] + [
        head for one in table.measures for head in (f"{one.name} ({one.unit})" if one.unit else one.name, "± 95 %")
    ]


def _rows(table: DPTable) -> list[list[str]]:
    keys = len(table.keys)
    return [
        [visible(key) for key in row[:keys]]
        + [
            cell
            for value, width in zip(row[keys:], widths, strict=True)
            for cell in ("—" if value is None else shortened(value), "?" if not width else shortened(width))
        ]
        for row, widths in zip(table.rows[:MAX_SHOWN], table.widths, strict=False)
    ]


def _drawn(table: DPTable, measure: str | None) -> str:
    figure = figure_of(table, measure)
    described = f"{figure.measure}: {len(figure.marks)} 个值及 95 % 区间 / values with their 95 % intervals"
    note = f"ε={table.epsilon}, δ={table.delta}, {table.noise}"
    return embedded_svg(figure, Caption(figure.measure, described, (note,)))


def _float(text: str | None) -> float | None:
    return float(text) if text else None
