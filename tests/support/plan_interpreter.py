"""What a plan means, unit by unit, in plain Python integers: the second opinion on the SQL that is rendered from it.

Expressions are read from `SelectPlan` (what the operator asked), constants of the proof (clips, steps, multipliers)
from `BoundSelect`. Everything is a sum over units of a function of one unit's rows, so that removing a unit is cheap.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from hashlib import md5
from itertools import product

from enclave_runner.contract.dataset import Column, ColumnType, DatasetSpec
from enclave_runner.kinds.tasks import CellQuery
from enclave_runner.plan.bound import WEIGHT_SCALE, BoundSelect, Clipping, NormKind
from enclave_runner.plan.nodes import Aggregate, AggregateKind, Expression, Name, SelectPlan
from tests.support.plan_expressions import Cell, Row, Value, clipped, column_cell, evaluate, holds, key_text

WIDE = 1 << 62
# What stands for a row that is not joined yet: a norm that is measured before does not depend on it.
ANY: dict[ColumnType, Value] = {
    ColumnType.TEXT: "",
    ColumnType.INTEGER: 0,
    ColumnType.DECIMAL: 0,
    ColumnType.BOOLEAN: True,
    ColumnType.DATE: date(1970, 1, 1),
}
Database = Mapping[str, Sequence[Row]]
Key = tuple[str | None, ...]


@dataclass(frozen=True)
class Clips:
    """The clip of the joint vector and of every histogram."""

    sums: int
    histograms: tuple[int, ...]


@dataclass
class Share:
    """What one unit adds to each exact vector, sparsely: by statistic and key, key, value, or key and bin."""

    sums: Counter[tuple[int, Key]] = field(default_factory=Counter)
    units: list[Counter[Key]] = field(default_factory=list)
    values: list[Counter[str]] = field(default_factory=list)
    histograms: list[Counter[tuple[Key, int]]] = field(default_factory=list)
    candidates: Counter[Key] = field(default_factory=Counter)
    norms: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Environment:
    """One joined row: a row of each table by number, where it has one."""

    places: Places
    rows: tuple[Row | None, ...]

    def __call__(self, name: Name) -> Cell:
        index, place, column = self.places.of(name)
        row = self.rows[index]
        return column_cell(column, ANY[column.type] if row is None else row[place])

    def with_row(self, index: int, row: Row) -> Environment:
        """The same with a row of one more table."""
        return Environment(self.places, (*self.rows[:index], row, *self.rows[index + 1 :]))


class Places:
    """Where the columns that a plan names lie."""

    def __init__(self, plan: SelectPlan, specs: tuple[DatasetSpec, ...]) -> None:
        self._plan, self._specs = plan, specs
        self._known: dict[tuple[str | None, str], tuple[int, int, Column]] = {}

    def of(self, name: Name) -> tuple[int, int, Column]:
        """Table, place in its rows, and the column."""
        found = self._known.get((name.table, name.column))
        if found is None:
            ((index, spec),) = (
                (index, spec)
                for index, (source, spec) in enumerate(zip(self._plan.sources, self._specs, strict=True))
                if name.table in (None, source.alias) and spec.has_column(name.column)
            )
            place = [column.name for column in spec.columns].index(name.column)
            found = self._known[name.table, name.column] = (index, place, spec.columns[place])
        return found


class Interpreter:
    """One plan over one catalogue."""

    def __init__(self, plan: SelectPlan, bound: BoundSelect, specs: Mapping[str, DatasetSpec]) -> None:
        self.plan, self.bound = plan, bound
        self.specs = tuple(specs[source.dataset_id] for source in plan.sources)
        self._places = Places(plan, self.specs)
        self._empty = Environment(self._places, (None,) * len(self.specs))

    def shares(self, database: Database, clips: Clips) -> dict[object, Share]:
        """What every unit of the root table adds."""
        tables: list[dict[object, list[Row]]] = [defaultdict(list) for _ in self.specs]
        for index, spec in enumerate(self.specs):
            place = [column.name for column in spec.columns].index(spec.entity_column)
            for row in database[spec.dataset_id]:
                tables[index][None if spec.public else row[place]].append(row)
        units = dict.fromkeys(tables[self.bound.root])
        return {unit: self._share([table.get(None, table.get(unit, [])) for table in tables], clips) for unit in units}

    def _share(self, tables: Sequence[Sequence[Row]], clips: Clips) -> Share:
        """The function of one unit's rows (public rows beside them) whose sum over units is the exact answer."""
        made = Share(
            units=[Counter() for _ in self.bound.units],
            values=[Counter() for _ in self.bound.values],
            histograms=[Counter() for _ in self.bound.histograms],
        )
        if len(tables) == 1:  # the condition is the unit's own matter: rows that fail it are not even counted
            root = [[row for row in tables[0] if holds(self.plan.condition, self._empty.with_row(0, row))]]
            tables = root
        norms = self._norms(tables)
        if norms.get("measured", 0) >= WIDE or not tables[self.bound.root]:
            return made
        made.norms = norms
        kept = [row for row in self._joined(tables) if holds(self.plan.condition, row)]
        cells = [(row, self._key(row)) for row in kept]
        self._add_sums(made, cells, norms, clips.sums)
        self._add_distinct(made, cells)
        self._add_histograms(made, cells, norms, clips.histograms)
        return made

    def _joined(self, tables: Sequence[Sequence[Row]]) -> Iterator[Environment]:
        """Every combination of rows that meets all join conditions."""
        pairs = [pair for join in self.plan.joins for pair in join.pairs]

        def extend(row: Environment, index: int) -> Iterator[Environment]:
            if index == len(tables):
                yield row
                return
            for candidate in tables[index]:
                longer = row.with_row(index, candidate)
                ready = [pair for pair in pairs if max(self._places.of(name)[0] for name in pair) == index]
                if all((a := longer(x).value) is not None and a == longer(y).value for x, y in ready):
                    yield from extend(longer, index + 1)

        return extend(self._empty, 0)

    def _key(self, row: Environment) -> Key:
        return tuple(key_text(evaluate(key.expression, row)) for key in self.plan.keys)

    def _norms(self, tables: Sequence[Sequence[Row]]) -> dict[str, int]:
        several = [
            index for index, spec in enumerate(self.specs) if not spec.public and not spec.unique
        ]  # at most the product of the unit's rows come out of the join
        norms = {"rows": math.prod(len(tables[index]) for index in several)}
        if self.bound.sums is not None and self.bound.sums.clipping.kind is NormKind.MEASURED:
            root = self.bound.root
            rows = (self._empty.with_row(root, row) for row in tables[root])
            norms["measured"] = sum(self._row_norm(self._entries(row)) for row in rows)
        return norms

    def _row_norm(self, entries: Sequence[int]) -> int:
        if self.bound.power == 1 or len(entries) == 1:
            return sum(map(abs, entries))
        squares = 0.0
        for entry in entries:
            squares = squares + float(abs(entry)) * float(abs(entry))
        norm = math.ceil(math.sqrt(squares) * 1.000000000001)
        assert norm * norm >= sum(entry * entry for entry in entries)
        return norm

    def _entries(self, row: Environment) -> list[int]:
        """The row vector: every estimate says what its statistics are, and they must agree where two share one."""
        sums = self.bound.sums
        assert sums is not None
        entries: dict[int, int] = {}

        def put(at: int | None, value: int, scale: int) -> None:
            if at is None or sums is None:
                return
            statistic = sums.statistics[at]
            assert statistic.scale == scale, (statistic, scale)
            assert abs(value * statistic.multiplier) <= statistic.magnitude, (value, statistic)
            assert entries.setdefault(at, value * statistic.multiplier) == value * statistic.multiplier

        for aggregate, estimate in zip(self.plan.aggregates, self.bound.estimates, strict=True):
            if estimate.vector is not None:
                continue
            cell = self._argument(aggregate, row)
            counted = cell is not None
            put(estimate.count, int(counted), 0)
            if estimate.total is not None and cell is not None:
                value = clipped(cell)
                assert value is not None
                centre = sums.statistics[estimate.total].centre
                put(estimate.total, value - centre, cell.scale)
                put(estimate.square, (value - centre) ** 2, 2 * cell.scale)
            elif estimate.total is not None:
                put(estimate.total, 0, sums.statistics[estimate.total].scale)
                put(estimate.square, 0, sums.statistics[estimate.square or 0].scale)
        assert len(entries) == len(sums.statistics)
        return [entries[at] for at in range(len(entries))]

    def _argument(self, aggregate: Aggregate, row: Environment) -> Cell | None:
        """The argument's value on a row that the aggregate counts, None on one that it does not."""
        if not holds(aggregate.condition, row):
            return None
        if aggregate.argument is None:
            return Cell(1)
        cell = evaluate(aggregate.argument, row)
        return None if cell.value is None else cell

    def weight(self, clipping: Clipping, norms: Mapping[str, int], clip: int) -> int:
        """floor(S · min(1, C / N)); 1 without a norm."""
        if clipping.kind is NormKind.NONE:
            return 1
        norm = norms[clipping.kind.value]
        return WEIGHT_SCALE if norm <= clip else clip * WEIGHT_SCALE // norm

    def _add_sums(
        self, made: Share, cells: Sequence[tuple[Environment, Key]], norms: Mapping[str, int], clip: int
    ) -> None:
        if self.bound.sums is None:
            return
        weight = self.weight(self.bound.sums.clipping, norms, clip)
        for row, key in cells:
            for at, entry in enumerate(self._entries(row)):
                made.sums[at, key] += weight * entry

    def _add_distinct(self, made: Share, cells: Sequence[tuple[Environment, Key]]) -> None:
        opened = [at for at, axis in enumerate(self.bound.axes) if axis.is_open]
        told = {key for _, key in cells if all(key[at] is not None for at in opened)}
        made.candidates.update(_first(told, self.bound.open_groups))
        by_vector = {
            (estimate.unit == "values", estimate.vector): aggregate
            for aggregate, estimate in zip(self.plan.aggregates, self.bound.estimates, strict=True)
            if estimate.kind is AggregateKind.COUNT_DISTINCT
        }
        for index in range(len(self.bound.units)):
            condition = by_vector[False, index].condition
            made.units[index].update({key for row, key in cells if holds(condition, row)})
        for index, values in enumerate(self.bound.values):
            aggregate = by_vector[True, index]
            argument: Expression | None = aggregate.argument
            assert argument is not None
            shown = {key_text(evaluate(argument, row)) for row, _ in cells if holds(aggregate.condition, row)} - {None}
            made.values[index].update(str(value) for (value,) in _first({(value,) for value in shown}, values.limit))

    def _add_histograms(
        self,
        made: Share,
        cells: Sequence[tuple[Environment, Key]],
        norms: Mapping[str, int],
        clips: Sequence[int],
    ) -> None:
        for aggregate, estimate in zip(self.plan.aggregates, self.bound.estimates, strict=True):
            if estimate.kind is not AggregateKind.QUANTILE or estimate.vector is None:
                continue
            histogram = self.bound.histograms[estimate.vector]
            found: Counter[tuple[Key, int]] = Counter()
            for row, key in cells:
                cell = self._argument(aggregate, row)
                if cell is None:
                    continue
                value = clipped(cell)
                assert value is not None and value >= histogram.low and cell.scale == histogram.scale
                found[key, (value - histogram.low) // histogram.step] += self.weight(
                    histogram.clipping, norms, clips[estimate.vector]
                )
            made.histograms[estimate.vector] = found


def _first(keys: set[Key], limit: int) -> list[Key]:
    """As many keys as one unit may count in, by the digest that fixes their order; nulls last, as in the engine."""

    def order(key: Key) -> tuple[str, list[tuple[bool, bytes]]]:
        digest = md5("yunei".join(part for part in key if part is not None).encode(), usedforsecurity=False)
        return digest.hexdigest(), [(part is None, (part or "").encode()) for part in key]

    return sorted(keys, key=order)[:limit]


def dense(cells: Counter[Key], axes: Sequence[Sequence[str]]) -> list[int]:
    """The vector over all public keys in order; other keys are left out."""
    return [cells[key] for key in product(*axes)]


def sized(cells: Counter[tuple[Key, int]], query: CellQuery) -> list[int]:
    """The vector over all public keys and bins."""
    *axes, bins = query.axes
    assert isinstance(bins, int)
    keys = product(*(axis for axis in axes if not isinstance(axis, int)))
    return [cells[key, at] for key in keys for at in range(bins)]
