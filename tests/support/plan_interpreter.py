"""What a bound plan means, in plain Python integers: the second opinion on the SQL that is rendered from it.

Also random databases and random SQL for it: adversarial on purpose, and shrinkable.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import product

from hypothesis import strategies as st

from enclave_runner.contract.dataset import ColumnType, DatasetSpec, KeyKind
from enclave_runner.contract.grant import Scope
from enclave_runner.plan.bind import BoundAggregate, BoundFilter, BoundTable, bind_table
from enclave_runner.plan.nodes import AggregateKind
from enclave_runner.plan.parse import parse_table
from tests.support.enclave_home import column

Cell = str | int | bool | date | None
Row = tuple[Cell, ...]
COMPARE: dict[str, Callable[[object, object], bool]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def interpret(plan: BoundTable, spec: DatasetSpec, rows: Sequence[Row]) -> tuple[tuple[int, ...], ...]:
    """The exact vectors of a plan, by definition."""
    names = [item.name for item in spec.columns]
    entity = names.index(spec.entity_column)
    rows_of = Counter(row[entity] for row in rows)
    groups = {key: [0] * len(plan.aggregates) for key in product(*(key.domain for key in plan.keys))}
    for row in rows:
        cells = dict(zip(names, row, strict=True))
        key = tuple(_text(cells[item.column]) for item in plan.keys)
        if key not in groups or not all(_keeps(item, cells[item.column]) for item in plan.filters):
            continue
        bound = plan.rows_per_entity
        weight = 1 if spec.unique else min(plan.weight_scale, plan.weight_scale * bound // rows_of[row[entity]])
        for at, item in enumerate(plan.aggregates):
            groups[key][at] += _term(item, cells) * weight  # type: ignore[index]
    return tuple(
        tuple(cells[at] // item.coarsening for cells in groups.values()) for at, item in enumerate(plan.aggregates)
    )


def _text(cell: Cell) -> str | None:
    if isinstance(cell, bool):
        return "true" if cell else "false"
    return None if cell is None else str(cell)


def _keeps(item: BoundFilter, cell: Cell) -> bool:
    if cell is None:
        return False
    value: object = cell if item.type in (ColumnType.INTEGER, ColumnType.DECIMAL) else _text(cell)
    if item.operator == "in":
        return value in item.constants
    return COMPARE[item.operator](value, item.constants[0])


def _term(item: BoundAggregate, cells: dict[str, Cell]) -> int:
    if item.column is None:
        return 1
    cell = cells[item.column]
    if cell is None:
        return 0
    if item.kind is AggregateKind.COUNT:
        return 1
    assert isinstance(cell, int)
    return max(item.low, min(item.high, cell))


@dataclass(frozen=True)
class Case:
    """A database, a query over it, and the proof that the query got."""

    spec: DatasetSpec
    rows: tuple[Row, ...]
    sql: str
    plan: BoundTable


KEYS = ("a", "it's", '"q"', "党", "none")
ENTITIES = ("e0", "e1", "e2", "e3")


@st.composite
def specs(draw: st.DrawFn) -> DatasetSpec:
    """Bounds of either sign, small and enormous caps (the latter coarsen), unique or not."""
    low = draw(st.integers(-50, 20))
    high = draw(st.integers(low, 50))
    unique = draw(st.booleans())
    enormous = draw(st.booleans())
    wide = (-(10**15), 10**15) if enormous and draw(st.booleans()) else (low, high)
    return DatasetSpec(
        dataset_id="events",
        columns=(
            column("who", ColumnType.TEXT),
            column("kind", ColumnType.TEXT, domain=KEYS, nullable=True),
            column("flag", ColumnType.BOOLEAN, nullable=True),
            column("level", ColumnType.INTEGER, domain=("-1", "0", "7"), bounds=(-1, 7), nullable=True),
            column("amount", ColumnType.INTEGER, bounds=wide, nullable=True),
            column("money", ColumnType.DECIMAL, scale=2, bounds=(low * 7, high * 7), nullable=True),
            column("day", ColumnType.DATE, nullable=True),
            column("note", ColumnType.TEXT, nullable=True),
        ),
        entity_set="resident",
        entity_column="who",
        key_kind=KeyKind.OPAQUE,
        population_cap=2 * 10**9 if enormous else 1000,
        unique=unique,
        rows_per_entity=1 if unique else draw(st.sampled_from([1, 2, 3, 5, 5000])),
    )


@st.composite
def databases(draw: st.DrawFn, spec: DatasetSpec) -> tuple[Row, ...]:
    """A few entities with none, one or many rows; values inside and far outside bounds and domains."""
    rows: list[Row] = []
    for entity in ENTITIES:
        count = draw(st.sampled_from([0, 1, 1] if spec.unique else [0, 1, 2, 4, 9]))
        rows += [(entity, *draw(cells())) for _ in range(count)]
    return tuple(draw(st.permutations(rows)))


def cells() -> st.SearchStrategy[tuple[Cell, ...]]:
    """The columns after the entity."""
    numbers = st.one_of(
        st.none(), st.integers(-60, 60), st.sampled_from([10**15, -(10**15), 2**63 - 1, -(2**63), 2**31])
    )
    return st.tuples(
        st.sampled_from([*KEYS, "outside", None]),
        st.sampled_from([True, False, None]),
        st.sampled_from([-1, 0, 7, 3, None]),
        numbers,
        numbers,
        st.sampled_from([date(2020, 2, 29), date(1999, 12, 31), date(2020, 3, 1), None]),
        st.sampled_from(["x", "it's", "", None]),
    )


CONDITIONS = (
    "amount > 0", "amount <= -3", "amount <> 5", "amount IN (1, 2, -7)", "money >= 1.25", "money < -0.5", "flag = true",
    "flag <> false", "kind = 'it''s'", "kind IN ('a', '\"q\"')", "day >= DATE '2020-02-29'", "day <> '1999-12-31'",
    "note = 'it''s'", "note <> ''", "3 < amount", "amount BETWEEN -10 AND 10", "level IN (-1, 7)",
)  # fmt: skip
OUTPUTS = ("COUNT(*)", "COUNT(amount)", "COUNT(note)", "SUM(amount)", "SUM(money)", "SUM(level)")


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A random plan over a random database."""
    spec = draw(specs())
    keys = draw(st.lists(st.sampled_from(["kind", "flag", "level"]), unique=True, max_size=2))
    outputs = draw(st.lists(st.sampled_from(OUTPUTS), unique=True, min_size=1, max_size=3))
    conditions = draw(st.lists(st.sampled_from(CONDITIONS), max_size=2))
    sql = f"SELECT {', '.join([*keys, *outputs])} FROM events"
    sql += f" WHERE {' AND '.join(conditions)}" if conditions else ""
    sql += f" GROUP BY {', '.join(keys)}" if keys else ""
    return Case(spec, draw(databases(spec)), sql, bound(sql, spec))


def bound(sql: str, spec: DatasetSpec) -> BoundTable:
    """The plan of a query over a dataset of which every column is granted."""
    scope = Scope(dataset_id=spec.dataset_id, columns=tuple(item.name for item in spec.columns))
    return bind_table(parse_table(sql), spec, scope, 10_000)
