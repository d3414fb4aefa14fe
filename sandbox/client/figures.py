"""A released table as a figure: which marks, on which scale. It is drawn in characters or as SVG elsewhere."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from enum import Enum

from enclave_runner.contract.receipt import DPTable

ALL = "Σ"
SHOWN_DECIMALS = 4
HEAT_FROM = 24  # so many rows of two keys are looked through more easily in two directions
HEAT_COLUMNS = 40


class Shape(Enum):
    """How the marks stand: bars one below the other, a line over days, or a field of two keys."""

    BARS = "bars"
    LINE = "line"
    HEAT = "heat"


@dataclass(frozen=True)
class Mark:
    """One value with its keys and the half width of its 95 % interval, each None where noise leaves it unknown."""

    keys: tuple[str, ...]
    value: Decimal | None
    half_width: Decimal | None

    @property
    def low(self) -> Decimal | None:
        """The lower end of the interval; the value itself where the interval is not known."""
        return None if self.value is None else self.value - (self.half_width or 0)

    @property
    def high(self) -> Decimal | None:
        """The upper end, likewise."""
        return None if self.value is None else self.value + (self.half_width or 0)


@dataclass(frozen=True)
class Figure:
    """One measure of a table over its keys; key texts are fit to be shown (`visible`)."""

    shape: Shape
    keys: tuple[str, ...]
    measure: str
    unit: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Scale:
    """From `low` to `high`, zero among them."""

    low: Decimal
    high: Decimal

    def part(self, value: Decimal) -> float:
        """Where a value stands: 0 at the low end, 1 at the high end."""
        return float((value - self.low) / (self.high - self.low))

    def ticks(self, about: int = 5) -> list[Decimal]:
        """Round numbers within the scale, in steps of 1, 2 or 5 times a power of ten."""
        rough = (self.high - self.low) / about
        power = Decimal(1).scaleb(rough.adjusted())
        step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
        first = (self.low / step).to_integral_value(rounding=ROUND_CEILING)
        last = (self.high / step).to_integral_value(rounding=ROUND_FLOOR)
        return [step * index for index in range(int(first), int(last) + 1)]


def visible(key: str | None) -> str:
    """A key as people may see it: `Σ` where it was rolled up; what steers a terminal or turns text around is �."""
    if key is None:
        return ALL
    return "".join("�" if unicodedata.category(one) in ("Cc", "Cf", "Cs", "Cn", "Zl", "Zp") else one for one in key)


def shortened(number: str) -> str:
    """A number as people read it: what was computed from noisy values may have more decimals than it means."""
    whole, point, decimals = number.partition(".")
    return f"{Decimal(number):.{SHOWN_DECIMALS}f}" if len(decimals) > 2 * SHOWN_DECIMALS else whole + point + decimals


def told(mark: Mark) -> str:
    """A mark in words: its value and how sure it is."""
    if mark.value is None:
        return "—"
    return f"{mark.value:,f}" + (" ± ?" if mark.half_width is None else f" ± {mark.half_width:,f}")


def _decimal(text: str | None) -> Decimal | None:
    return Decimal(shortened(text)) if text else None


def figure_of(release: DPTable, measure: str | None = None) -> Figure:
    """The figure of one measure, the first unless it is named. Totals beside their parts are left out.

    Raises:
        ValueError: no measure of that name.
    """
    names = [item.name for item in release.measures]
    if not names or (measure is not None and measure not in names):
        raise ValueError(f"measures of this release: {', '.join(names)}")
    index = 0 if measure is None else names.index(measure)
    finest = min((_rolled_up(release, row) for row in release.rows), default=0)
    marks = tuple(
        Mark(
            tuple(visible(key) for key in row[: len(release.keys)]),
            _decimal(row[len(release.keys) + index]),
            _decimal(widths[index]),
        )
        for row, widths in zip(release.rows, release.widths, strict=True)
        if _rolled_up(release, row) == finest
    )
    keys = tuple(visible(key) for key in release.keys)
    found = release.measures[index]
    return Figure(_shape_of(marks), keys, visible(found.name), visible(found.unit), marks)


def _rolled_up(release: DPTable, row: Sequence[str | None]) -> int:
    return row[: len(release.keys)].count(None)


def _shape_of(marks: tuple[Mark, ...]) -> Shape:
    keys = [mark.keys for mark in marks]
    if len(set(keys)) < max(len(keys), 2):
        return Shape.BARS
    if len(keys[0]) == 1 and len(keys) > 2 and all(day_of(key) is not None for (key,) in keys):
        return Shape.LINE
    if len(keys[0]) == 2:
        columns = len({inner for _, inner in keys})
        if len(keys) >= HEAT_FROM and columns <= HEAT_COLUMNS:
            return Shape.HEAT
    return Shape.BARS


def day_of(key: str) -> date | None:
    """The day that a key names (ISO 8601), or None."""
    try:
        return date.fromisoformat(key) if len(key) == len("2026-11-24") else None
    except ValueError:
        return None


def scale_of(marks: Sequence[Mark]) -> Scale:
    """The scale on which every mark has room with its whole interval; zero is always on it."""
    low = min([mark.low for mark in marks if mark.low is not None] + [Decimal(0)])
    high = max([mark.high for mark in marks if mark.high is not None] + [Decimal(0)])
    return Scale(low, high if high > low else low + 1)
