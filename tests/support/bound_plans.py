"""Texts bound to a small catalogue, and their exact vectors over small tables, as the enclave's workers compute them.

One person has many visits and one home; divisions are public; firms are units of another kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

from enclave_runner.contract.dataset import ColumnType, DatasetSpec, KeyKind
from enclave_runner.contract.grant import Scope
from enclave_runner.kinds import aggregate
from enclave_runner.kinds.tasks import Aggregation, CellQuery
from enclave_runner.plan.bind import bind_select
from enclave_runner.plan.bound import BoundSelect
from enclave_runner.plan.parse import parse_select
from enclave_runner.plan.render import render_histogram, render_sums, render_units, render_values
from enclave_runner.plan.tables import Granted
from enclave_runner.supervisor.extracts import query_extraction
from enclave_runner.supervisor.holdings import HeldVersion
from tests.support.enclave_home import column
from tests.support.worker_files import extracted

Row = Sequence[object]
VISITS = DatasetSpec(
    dataset_id="visits",
    columns=(
        column("who", ColumnType.TEXT, grade=3),
        column("kind", ColumnType.TEXT, domain=("a", "b", "c")),
        column("amount", ColumnType.DECIMAL, scale=2, bounds=(-500, 10_000), nullable=True),
        column("day", ColumnType.DATE, bounds=(18_993, 19_357)),
        column("shop", ColumnType.TEXT),
        column("division", ColumnType.TEXT),
        column("flag", ColumnType.BOOLEAN, nullable=True),
        column("free", ColumnType.INTEGER),
        column("core", ColumnType.INTEGER, grade=4, bounds=(0, 1)),
        column("listed", ColumnType.INTEGER, withheld="第二十四条", bounds=(0, 1)),
        column("ungranted", ColumnType.INTEGER, bounds=(0, 1)),
    ),
    entity_set="resident",
    entity_column="who",
    key_kind=KeyKind.OPAQUE,
    population_cap=100_000,
    rows_per_entity=4,
)
HOMES = DatasetSpec(
    dataset_id="homes",
    columns=(
        column("who", ColumnType.TEXT, grade=3),
        column("region", ColumnType.TEXT, domain=("N", "S")),
        column("age", ColumnType.INTEGER, bounds=(0, 120)),
        column("income", ColumnType.INTEGER, bounds=(0, 1000), nullable=True),
    ),
    entity_set="resident",
    entity_column="who",
    key_kind=KeyKind.OPAQUE,
    population_cap=100_000,
    unique=True,
    rows_per_entity=1,
)
CALLS = DatasetSpec(
    dataset_id="calls",
    columns=(column("who", ColumnType.TEXT, grade=3), column("minutes", ColumnType.INTEGER, bounds=(0, 60))),
    entity_set="resident",
    entity_column="who",
    key_kind=KeyKind.OPAQUE,
    population_cap=100_000,
    rows_per_entity=3,
)
DIVISIONS = DatasetSpec(
    dataset_id="divisions",
    columns=(column("code", ColumnType.TEXT), column("city", ColumnType.TEXT, domain=("X", "Y"))),
    entity_set="public",
    entity_column="code",
    key_kind=KeyKind.OPAQUE,
    population_cap=1000,
    unique=True,
    rows_per_entity=1,
    public=True,
)
FIRMS = DatasetSpec(
    dataset_id="firms",
    columns=(column("who", ColumnType.TEXT, grade=3), column("size", ColumnType.INTEGER, bounds=(0, 9))),
    entity_set="enterprise",
    entity_column="who",
    key_kind=KeyKind.OPAQUE,
    population_cap=1000,
    unique=True,
    rows_per_entity=1,
)
SPECS = {spec.dataset_id: spec for spec in (VISITS, HOMES, CALLS, DIVISIONS, FIRMS)}


def granted(spec: DatasetSpec) -> Granted:
    """Every column of a table but the one that is not granted; and the key of a public one."""
    hidden = ("ungranted",) if spec.public else ("ungranted", spec.entity_column)
    columns = tuple(item.name for item in spec.columns if item.name not in hidden)
    return Granted(spec, Scope(dataset_id=spec.dataset_id, columns=columns))


def bound(sql: str, power: int = 2, max_cells: int = 1000, **replaced: DatasetSpec) -> BoundSelect:
    """A text bound to the catalogue, some of whose tables may be replaced."""
    catalogue = {name: granted(spec) for name, spec in {**SPECS, **replaced}.items()}
    return bind_select(parse_select(sql), catalogue, max_cells, power)


def held(plan: BoundSelect, tables: Mapping[str, Sequence[Row]], **replaced: DatasetSpec) -> tuple[HeldVersion, ...]:
    """The data versions of a plan's tables."""
    specs = {**SPECS, **replaced}
    return tuple(
        HeldVersion(
            dataset_id=source.dataset_id,
            version="v1",
            file="",
            rows=len(tables[source.dataset_id]),
            spec=specs[source.dataset_id],
            imported_at="",
        )
        for source in plan.sources
    )


def vectors(
    plan: BoundSelect, tables: Mapping[str, Sequence[Row]], clip: int | None = None, **replaced: DatasetSpec
) -> tuple[tuple[int, ...], ...]:
    """The exact vectors: sums, units, values, histograms, at the catalogue's clips unless another is given."""
    axes = tuple(axis.labels for axis in plan.axes)
    queries = []
    if plan.sums is not None:
        limit = plan.sums.clipping.limit if clip is None else clip
        queries.append(CellQuery(sql=render_sums(plan, limit), axes=axes, width=len(plan.sums.statistics)))
    queries += [CellQuery(sql=render_units(plan, item), axes=axes, width=1) for item in plan.units]
    queries += [CellQuery(sql=render_values(plan, item), axes=(item.labels,), width=1) for item in plan.values]
    for item in plan.histograms:
        sql = render_histogram(plan, item, item.clipping.limit if clip is None else clip)
        queries.append(CellQuery(sql=sql, axes=(*axes, item.bins), width=1))
    order = query_extraction(plan, held(plan, tables, **replaced), spread=False)
    with extracted(order, *(tables[source.dataset_id] for source in plan.sources)) as file:
        task = Aggregation(tables=len(plan.sources), queries=tuple(queries), coarsenings=(1,) * len(queries))
        return aggregate.run(task, [file]).vectors


def visit(who: str, kind: str = "a", amount: int | None = 0, shop: str = "s", **cells: object) -> Row:
    """One row of `visits`."""
    given = {
        "who": who,
        "kind": kind,
        "amount": amount,
        "day": date(2022, 1, 1),
        "shop": shop,
        "division": "d0",
        "flag": True,
        "free": 0,
        "core": 0,
        "listed": 0,
        "ungranted": 0,
        **cells,
    }
    return tuple(given[item.name] for item in VISITS.columns)
