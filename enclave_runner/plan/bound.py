"""A plan that is bound to bounds: what runs, and what one privacy unit can change at most. Frozen and complete.

The privacy unit is the entity of the root table; neighbours differ by one unit with all of its rows in all its tables.
Every vector here is a sum over units of a clipped function of one unit's rows: docs/dp.md has the proofs.
"""

from __future__ import annotations

import math
from enum import StrEnum
from fractions import Fraction

from enclave_runner.contract.codec import Value
from enclave_runner.contract.dataset import ColumnType
from enclave_runner.plan.nodes import AggregateKind, Expression, Options, Order, Output

WEIGHT_SCALE = 1 << 20
# Columns that the builder of the extract adds; catalogue names start with a letter.
UNIT, ROWS, NORM = "_unit", "_rows", "_norm"


class Axis(Value, frozen=True):
    """A group key: `sql` gives its value as text; `labels` are its public values in order, none where they are not
    public, and the key is then found by threshold."""

    name: str
    sql: str
    labels: tuple[str, ...]
    is_number: bool = False

    @property
    def is_open(self) -> bool:
        """Whether the values of the key are not public."""
        return not self.labels


class BoundSource(Value, frozen=True):
    """One table of the extract, t0, t1, …: its used columns, and what the builder adds per unit.

    `entity_set` is None for a public table. `rows` asks for the unit's rows beside each of its rows; `norm` is the SQL
    of one row's norm, whose sum over the unit's rows (those that meet `condition`) is stored beside each of them.
    """

    dataset_id: str
    entity_set: str | None
    columns: tuple[str, ...]
    unit: bool
    rows: bool
    norm: str | None
    condition: str | None


class NormKind(StrEnum):
    """Which norm clips a vector: none (one row per unit), the unit's rows, or its measured norm."""

    NONE = "none"
    ROWS = "rows"
    MEASURED = "measured"


class Clipping(Value, frozen=True):
    """How one unit's contribution is bounded: its weight is floor(S · min(1, clip / norm)).

    `norm` is the SQL of the unit's norm beside a row, `limit` the catalogue's clip, `factor` the vector's norm per unit
    of that norm: with weight scale S one unit moves the vector by at most clip · factor · S. Without a norm S is 1.
    """

    kind: NormKind
    norm: str
    limit: int
    factor: int

    @property
    def weight_scale(self) -> int:
        """S."""
        return 1 if self.kind is NormKind.NONE else WEIGHT_SCALE

    def sensitivity(self, clip: int) -> int:
        """By how much one unit moves the vector at most."""
        return clip * self.factor * self.weight_scale


class Statistic(Value, frozen=True):
    """One entry of the row vector: an integer that is never null, |entry| ≤ `magnitude`.

    It is (value - centre) · `multiplier`, with the value in units of 10^-`scale`; 0 for a row that does not count.
    """

    sql: str
    magnitude: int
    multiplier: int
    centre: int
    scale: int


class Sums(Value, frozen=True):
    """The joint vector of all linear statistics: one clip, one noise scale."""

    statistics: tuple[Statistic, ...]
    clipping: Clipping

    def unit(self, at: int, coarsening: int) -> Fraction:
        """What one unit of a noisy cell of that statistic is in the statistic's own unit."""
        item = self.statistics[at]
        return Fraction(coarsening, self.clipping.weight_scale * item.multiplier * 10**item.scale)


class Units(Value, frozen=True):
    """How many units a group has rows of. One unit counts in at most `groups` of them."""

    condition: str | None
    groups: int


class Values(Value, frozen=True):
    """Which values of a public domain occur, over the whole table: at most `limit` values of one unit count."""

    sql: str
    labels: tuple[str, ...]
    condition: str | None
    limit: int


class Histogram(Value, frozen=True):
    """The weighted histogram of a number over a public grid: bin i holds [low + i·step, low + (i+1)·step)."""

    sql: str
    condition: str | None
    low: int
    step: int
    bins: int
    scale: int
    clipping: Clipping


class Estimate(Value, frozen=True):
    """How an aggregate is computed from what was measured: numbers of statistics, or of another vector (`vector`)."""

    kind: AggregateKind
    unit: str
    scale: int
    count: int | None = None
    total: int | None = None
    square: int | None = None
    vector: int | None = None
    fraction: str | None = None


class BoundSelect(Value, frozen=True):
    """A DP query ready to run."""

    sources: tuple[BoundSource, ...]
    root: int
    origin: str
    condition: str | None
    axes: tuple[Axis, ...]
    grouping_sets: tuple[tuple[int, ...], ...]
    power: int
    sums: Sums | None
    units: tuple[Units, ...]
    values: tuple[Values, ...]
    histograms: tuple[Histogram, ...]
    estimates: tuple[Estimate, ...]
    outputs: tuple[Output, ...]
    having: Expression | None
    order: tuple[Order, ...]
    limit: int | None
    options: Options
    population: int
    open_groups: int  # in how many open keys one unit may count

    @property
    def cells(self) -> int:
        """How many groups the finest grouping set has, empty ones included; 1 where keys are not public."""
        return math.prod(len(axis.labels) for axis in self.axes if not axis.is_open)

    @property
    def is_open(self) -> bool:
        """Whether any key has to be found by threshold."""
        return any(axis.is_open for axis in self.axes)

    @property
    def clippings(self) -> tuple[Clipping, ...]:
        """How every clipped vector is bounded: the histograms', then the joint vector's."""
        sums = () if self.sums is None else (self.sums.clipping,)
        return (*(histogram.clipping for histogram in self.histograms), *sums)

    @property
    def entity_sets(self) -> tuple[str, ...]:
        """Every protected entity set that the query reads."""
        return tuple(dict.fromkeys(source.entity_set for source in self.sources if source.entity_set is not None))


class BoundFeatures(Value, frozen=True):
    """A model's inputs ready to run; `clipping` bounds the weighted histogram of its scores."""

    source: BoundSource
    features: tuple[tuple[str, ColumnType, int], ...]
    condition: str | None
    clipping: Clipping

    @property
    def sensitivity(self) -> int:
        """Of the histogram, in L1 and so in L2."""
        return self.clipping.sensitivity(self.clipping.limit)
