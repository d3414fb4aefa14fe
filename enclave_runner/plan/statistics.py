"""Linear aggregates → the joint row vector. Each statistic is one integer entry, and all share one clip and one noise.

COUNT is a sum of ones; AVG and VARIANCE, and SUM beside them, are sums of centred values and squares: the less a value
differs from its centre, the less it costs. A SUM without them is centred only where its range is far from zero.
Entries are scaled to comparable magnitudes, since one noise serves all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from enclave_runner.contract.errors import Refused
from enclave_runner.plan.bound import Estimate, Statistic
from enclave_runner.plan.expression import Resolve, scalar, truth_sql
from enclave_runner.plan.nodes import Aggregate, AggregateKind, Name
from enclave_runner.plan.scalar import SAFE, Scalar, ends, guarded, number

LINEAR = frozenset(
    {AggregateKind.COUNT, AggregateKind.SUM, AggregateKind.AVG, AggregateKind.VARIANCE, AggregateKind.STDDEV}
)
RATIOS = frozenset({AggregateKind.AVG, AggregateKind.VARIANCE, AggregateKind.STDDEV})
# A row counts like a value of that part of the range; the nearer a mean is to its centre, the less rows matter to it.
ROW_WEIGHT, RATIO_ROW_WEIGHT = 4, 8


@dataclass
class Entry:
    """A statistic before its multiplier is known: value - centre, counted where `condition` holds."""

    sql: str
    condition: str | None
    magnitude: int
    scale: int
    centre: int = 0
    reach: int = 1  # what one row is weighed against: the width of the values' range


@dataclass
class Collector:
    """The entries that a statement's linear aggregates need, each once."""

    resolve: Resolve
    has_ratios: bool
    entries: list[Entry] = field(default_factory=list)

    def estimate(self, aggregate: Aggregate) -> Estimate:
        """Take an aggregate in. Raises as the expressions do, and `sql.type`."""
        condition = truth_sql(aggregate.condition, self.resolve)
        if aggregate.argument is None:
            return Estimate(kind=AggregateKind.COUNT, unit="rows", scale=0, count=self._count(condition))
        value = scalar(aggregate.argument, self.resolve)
        condition = both(condition, f"{value.sql} IS NOT NULL" if value.nullable else None)
        if aggregate.kind is AggregateKind.COUNT:
            return Estimate(kind=AggregateKind.COUNT, unit="rows", scale=0, count=self._count(condition))
        value = guarded(value)
        unit = aggregate.argument.column if isinstance(aggregate.argument, Name) else ""
        centre = self._centre(value)
        total = self._total(value, condition, centre)
        if aggregate.kind is AggregateKind.SUM and not centre:
            return Estimate(kind=AggregateKind.SUM, unit=unit, scale=value.scale, total=total)
        count = self._count(condition)
        square = None
        if aggregate.kind in (AggregateKind.VARIANCE, AggregateKind.STDDEV):
            square = self._square(value, condition, centre)
        return Estimate(kind=aggregate.kind, unit=unit, scale=value.scale, count=count, total=total, square=square)

    def statistics(self) -> tuple[Statistic, ...]:
        """The entries with multipliers that bring them to one magnitude.

        Raises:
            Refused: `sql.overflow`.
        """
        largest = max(entry.magnitude for entry in self.entries)
        reach = max(entry.reach for entry in self.entries)
        widest = max((entry.magnitude for entry in self.entries if entry.reach > 1), default=1)
        weight = RATIO_ROW_WEIGHT if self.has_ratios else ROW_WEIGHT
        rows = min(largest, largest * reach // (weight * widest))
        return tuple(_scaled(entry, largest, rows) for entry in self.entries)

    def _count(self, condition: str | None) -> int:
        return self._add(Entry("CAST(1 AS BIGINT)", condition, 1, 0))

    def _centre(self, value: Scalar) -> int:
        """The middle of a range; a quarter into one that begins near zero, as amounts do, whose values crowd there."""
        low, high = ends(value)
        width = high - low
        if not self.has_ratios:
            return (low + high) // 2 if low > width or -high > width else 0
        if 0 <= low <= width // 8:
            return low + width // 4
        return high - width // 4 if -width // 8 <= high <= 0 else (low + high) // 2

    def _total(self, value: Scalar, condition: str | None, centre: int) -> int:
        low, high = ends(value)
        sql = f"({value.sql} - {number(centre)})" if centre else value.sql
        magnitude = max(abs(low - centre), abs(high - centre), 1)
        return self._add(Entry(sql, condition, magnitude, value.scale, centre, max(high - low, 1)))

    def _square(self, value: Scalar, condition: str | None, centre: int) -> int:
        """(value - centre)², in units coarse enough to leave room for weights."""
        low, high = ends(value)
        magnitude = max(abs(low - centre), abs(high - centre), 1)
        if magnitude**2 >= SAFE:
            raise Refused("sql.overflow", position=value.position)
        sql = f"(({value.sql} - {number(centre)}) * ({value.sql} - {number(centre)}))"
        return self._add(Entry(sql, condition, magnitude**2, 2 * value.scale, 0))

    def _add(self, entry: Entry) -> int:
        for index, known in enumerate(self.entries):
            if (known.sql, known.condition, known.scale) == (entry.sql, entry.condition, entry.scale):
                return index
        self.entries.append(entry)
        return len(self.entries) - 1


def has_ratios(aggregates: Sequence[Aggregate]) -> bool:
    """Whether a mean, a variance or a deviation is asked for."""
    return any(item.kind in RATIOS for item in aggregates)


def row_bound(statistics: Sequence[Statistic], power: int) -> int:
    """The largest L1 (power 1) or L2 (power 2) norm of one row's vector, rounded up."""
    if power == 1:
        return sum(item.magnitude for item in statistics)
    return rounded_root(sum(item.magnitude**2 for item in statistics))


def row_norm(statistics: Sequence[Statistic], power: int) -> str:
    """The SQL of that norm of one row, never rounded down: the factor exceeds the error of the float square root."""
    entries = [f"abs({item.sql})" for item in statistics]
    if len(entries) == 1 or power == 1:
        return f"({' + '.join(entries)})"
    squares = " + ".join(f"CAST({entry} AS DOUBLE) * CAST({entry} AS DOUBLE)" for entry in entries)
    return f"CAST(ceil(sqrt({squares}) * CAST(1.000000000001 AS DOUBLE)) AS BIGINT)"


def rounded_root(square: int) -> int:
    """The least integer not below the square root."""
    root = math.isqrt(square)
    return root if root * root == square else root + 1


def _scaled(entry: Entry, largest: int, rows: int) -> Statistic:
    """Values and squares are brought to the largest magnitude, a row to that part of it that its weight is."""
    is_count = entry.magnitude == 1 and entry.reach == 1
    multiplier = max(1, rows if is_count else largest // entry.magnitude)
    sql = f"({entry.sql} * {number(multiplier)})" if multiplier > 1 else entry.sql
    if entry.condition is not None:
        sql = f"CASE WHEN {entry.condition} THEN {sql} ELSE CAST(0 AS BIGINT) END"
    return Statistic(
        sql=sql,
        magnitude=entry.magnitude * multiplier,
        multiplier=multiplier,
        centre=entry.centre,
        scale=entry.scale,
    )


def both(left: str | None, right: str | None) -> str | None:
    """Two conditions, either of which may be none."""
    if left is None or right is None:
        return left or right
    return f"({left} AND {right})"
