"""FROM and JOIN against grant and catalogue: which columns a query may name, and how rows of one unit come together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from enclave_runner.contract.dataset import Column, ColumnType, DatasetSpec
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.grant import Scope
from enclave_runner.plan.bound import UNIT
from enclave_runner.plan.nodes import Join, Name, Source
from enclave_runner.plan.scalar import Scalar, column_scalar

MAX_SOURCES = 4


@dataclass(frozen=True)
class Granted:
    """One dataset as a grant shows it."""

    spec: DatasetSpec
    scope: Scope


@dataclass(frozen=True)
class Tables:
    """The joined tables t0, t1, … and which of their columns were named so far (`used`, in order)."""

    sources: tuple[Source, ...]
    granted: tuple[Granted, ...]
    root: int
    origin: str
    used: tuple[dict[str, None], ...] = field(repr=False)
    joined_by_unit: frozenset[int] = frozenset()

    def resolve(self, name: Name) -> Scalar:
        """A column of the grant.

        Raises:
            Refused: `sql.column`, `sql.ambiguous`, `grant.column`, `dataset.withheld`, `dataset.core-grade`.
        """
        index = self.source_of(name)
        column = granted_column(name, self.granted[index])
        self.used[index][name.column] = None
        return column_scalar(column, f"t{index}.{quote(name.column)}", name.position)

    def source_of(self, name: Name) -> int:
        """The number of the table that a name belongs to."""
        return source_of(name, self.sources, self.granted)

    def is_unit(self, name: Name) -> bool:
        """Whether a name is the key of the privacy unit."""
        granted = self.granted[self.source_of(name)]
        return not granted.spec.public and granted.spec.entity_column == name.column

    @property
    def protected(self) -> tuple[int, ...]:
        """The tables with rows of privacy units."""
        return tuple(index for index, granted in enumerate(self.granted) if not granted.spec.public)

    @property
    def several(self) -> tuple[int, ...]:
        """The protected tables in which one unit may have more than one row."""
        return tuple(index for index in self.protected if not self.granted[index].spec.unique)

    @property
    def rows_bound(self) -> int:
        """The catalogue's clip: how many joined rows of one unit count.

        Raises:
            Refused: `dataset.unit-bound-missing`.
        """
        return math.prod(_rows_bound(self.granted[index].spec) for index in self.protected)


def open_tables(sources: tuple[Source, ...], joins: tuple[Join, ...], catalogue: Mapping[str, Granted]) -> Tables:
    """The tables of a query, its joins checked.

    Every protected table hangs on the root by the key of the unit, every public one by its own unique key: rows of one
    unit meet rows of that unit and public rows, and nothing else.

    Raises:
        Refused: `sql.join`, `sql.unit-missing`, and what naming a column raises.
    """
    if len(sources) > MAX_SOURCES:
        raise Refused("sql.join", what=f"more than {MAX_SOURCES} tables", position=sources[MAX_SOURCES].position)
    granted = tuple(catalogue[source.dataset_id] for source in sources)
    names = [source.dataset_id for source in sources]
    if len(set(names)) != len(names):
        again = next(source for at, source in enumerate(sources) if source.dataset_id in names[:at])
        raise Refused("sql.join", what="a table joined with itself", position=again.position)
    protected = [index for index, item in enumerate(granted) if not item.spec.public]
    if not protected:
        raise Refused("sql.unit-missing", dataset=sources[0].dataset_id)
    # Norms are measured and spread in the root: where only one table has several rows of a unit, it is the root.
    root = next((index for index in protected if not granted[index].spec.unique), protected[0])
    used: tuple[dict[str, None], ...] = tuple({} for _ in sources)
    conditions, by_unit = _attach(sources, joins, granted, root, used)
    origin = f"t{root}"
    for index, condition in conditions:
        origin += f" JOIN t{index} ON {condition}"
    return Tables(sources, granted, root, origin, used, frozenset(by_unit | {root} if by_unit else set()))


def source_of(name: Name, sources: tuple[Source, ...], granted: tuple[Granted, ...]) -> int:
    """The number of the table that a name belongs to.

    Raises:
        Refused: `sql.column`, `sql.ambiguous`.
    """
    found = [
        index
        for index, (source, item) in enumerate(zip(sources, granted, strict=True))
        if name.table in (None, source.alias) and item.spec.has_column(name.column)
    ]
    if not found:
        raise Refused("sql.column", column=name.column[:64], position=name.position)
    if len(found) > 1:
        raise Refused("sql.ambiguous", column=name.column, position=name.position)
    return found[0]


def granted_column(name: Name, granted: Granted) -> Column:
    """The column, if the grant names it and nothing forbids it.

    Raises:
        Refused: `sql.column`, `grant.column`, `dataset.withheld`, `dataset.core-grade`.
    """
    column = granted.spec.column(name.column)
    if column is None:
        raise Refused("sql.column", column=name.column[:64], position=name.position)
    if name.column not in granted.scope.columns:
        raise Refused("grant.column", column=name.column)
    if column.withheld is not None:
        raise Refused("dataset.withheld", column=name.column, basis=column.withheld)
    if column.grade >= 4:
        raise Refused("dataset.core-grade", column=name.column)
    return column


def quote(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def _attach(
    sources: tuple[Source, ...],
    joins: tuple[Join, ...],
    granted: tuple[Granted, ...],
    root: int,
    used: tuple[dict[str, None], ...],
) -> tuple[list[tuple[int, str]], set[int]]:
    """The joins in an order in which each hangs on what is there already; inner joins may be taken in any order."""
    reached, waiting = {root}, [pair for join in joins for pair in join.pairs]
    conditions: list[tuple[int, str]] = []
    by_unit: set[int] = set()
    while waiting:
        for at, pair in enumerate(waiting):
            ends = [(source_of(name, sources, granted), name) for name in pair]
            inside = [end for end in ends if end[0] in reached]
            if len(inside) == 1:
                (index, name) = next(end for end in ends if end[0] not in reached)
                condition, is_unit = _link(inside[0], (index, name), granted, used)
                conditions.append((index, condition))
                by_unit |= {index, inside[0][0]} if is_unit else set()
                reached.add(index)
                del waiting[at]
                break
            if len(inside) == 2:
                raise Refused("sql.join", what="a second condition between two tables", position=pair[0].position)
        else:
            raise Refused("sql.join", what="a table that nothing joins", position=waiting[0][0].position)
    if len(reached) != len(sources):
        missing = next(source for index, source in enumerate(sources) if index not in reached)
        raise Refused("sql.join", what="a table without a join condition", position=missing.position)
    return conditions, by_unit


def _link(
    inside: tuple[int, Name], outside: tuple[int, Name], granted: tuple[Granted, ...], used: tuple[dict[str, None], ...]
) -> tuple[str, bool]:
    """The condition of one join, and whether it is on the key of the unit."""
    (here, left), (there, right) = inside, outside
    known, added = granted[here].spec, granted[there].spec
    if added.public:
        if right.column != added.entity_column:
            raise Refused("sql.join", what="a public table by a column that is not its key", position=right.position)
        columns = [granted_column(name, granted[index]) for index, name in (inside, outside)]
        if len({(column.type, column.scale) for column in columns}) > 1:
            # The engine would convert: that fails on one value and not on another, and makes different keys the same.
            raise Refused("sql.join", what="columns of different types", position=right.position)
        for index, name in (inside, outside):
            used[index][name.column] = None
        return f"t{here}.{quote(left.column)} = t{there}.{quote(right.column)}", False
    if known.public or (left.column, right.column) != (known.entity_column, added.entity_column):
        raise Refused("sql.join", what="two protected tables by anything but their unit", position=right.position)
    if known.entity_set != added.entity_set:
        raise Refused("sql.join", what="tables of different privacy units", position=right.position)
    if _key_type(known) is None or _key_type(known) is not _key_type(added):
        raise Refused("sql.join", what="tables whose keys are of different kinds", position=right.position)
    return f"t{here}.{UNIT} = t{there}.{UNIT}", True


def _key_type(spec: DatasetSpec) -> ColumnType | None:
    """The type of the unit's key; None where the enclave numbers the rows, which means nothing in another table."""
    column = spec.column(spec.entity_column)
    return None if column is None else column.type


def _rows_bound(spec: DatasetSpec) -> int:
    if spec.rows_per_entity is None:
        raise Refused("dataset.unit-bound-missing", dataset=spec.dataset_id)
    return spec.rows_per_entity
