"""Plan + grant + catalogue → what runs and what it can change at most. A missing bound refuses: there is always noise.

Below the clip every operation is local to a row, grouped by the unit, or joined on the unit or to public rows; so each
vector is a sum over units, and removing one unit moves it by that unit's own clipped vector.
Source of the weights: "smoothly bounding user contributions" (Epasto et al., NeurIPS 2020).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from enclave_runner.contract.errors import Refused
from enclave_runner.plan.bound import (
    NORM,
    ROWS,
    Axis,
    BoundFeatures,
    BoundSelect,
    BoundSource,
    Clipping,
    Estimate,
    Histogram,
    NormKind,
    Statistic,
    Sums,
    Units,
    Values,
)
from enclave_runner.plan.expression import scalar, truth_sql
from enclave_runner.plan.nodes import (
    Aggregate,
    AggregateKind,
    Bounds,
    Call,
    Constant,
    Expression,
    FeaturePlan,
    Function,
    Key,
    Literal,
    Name,
    SelectPlan,
    Source,
)
from enclave_runner.plan.scalar import SAFE, Kind, ends, guarded, whole_labels
from enclave_runner.plan.statistics import LINEAR, Collector, both, has_ratios, row_bound, row_norm
from enclave_runner.plan.tables import Granted, Tables, open_tables

MAX_BINS = 1 << 14
DEFAULT_GROUPS = 4  # in how many open keys one unit counts, where the query says nothing


@dataclass
class Vectors:
    """What the aggregates need, as far as it was collected."""

    collector: Collector
    estimates: list[Estimate] = field(default_factory=list)
    units: list[Units] = field(default_factory=list)
    values: list[Values] = field(default_factory=list)
    histograms: list[Histogram] = field(default_factory=list)


def bind_select(plan: SelectPlan, catalogue: Mapping[str, Granted], max_cells: int, power: int) -> BoundSelect:
    """Check every name against grant and catalogue, and prove sensitivities and the absence of overflow.

    `power` is 2 for Gaussian noise (vectors are clipped in L2), 1 for Laplace.

    Raises:
        Refused: `sql.…`, `grant.column`, `dataset.…`: by the rule that says no.
    """
    tables = open_tables(plan.sources, plan.joins, catalogue)
    _check_unit(plan, tables)
    condition = truth_sql(plan.condition, tables.resolve)
    axes = tuple(_axis(key, tables, plan) for key in plan.keys)
    cells = math.prod(len(axis.labels) for axis in axes if not axis.is_open)
    if cells > max_cells:
        raise Refused("sql.cells", max=max_cells)
    vectors = Vectors(Collector(tables.resolve, has_ratios(plan.aggregates)))
    for aggregate in plan.aggregates:
        _bind_aggregate(aggregate, vectors, plan, tables, cells, max_cells)
    sums, norm = _sums(vectors, plan, tables, power)
    _check_sets(plan, axes, vectors)
    sources = _sources(plan, tables, vectors, sums, norm, axes, condition)
    root = tables.granted[tables.root].spec
    return BoundSelect(
        sources=sources,
        root=tables.root,
        origin=tables.origin,
        condition=condition,
        axes=axes,
        grouping_sets=plan.grouping_sets,
        power=power,
        sums=sums,
        units=tuple(vectors.units),
        values=tuple(vectors.values),
        histograms=tuple(vectors.histograms),
        estimates=tuple(vectors.estimates),
        outputs=plan.outputs,
        having=plan.having,
        order=plan.order,
        limit=plan.limit,
        options=plan.options,
        population=root.population_cap,
        open_groups=plan.options.groups or DEFAULT_GROUPS,
    )


def bind_features(plan: FeaturePlan, catalogue: Mapping[str, Granted]) -> BoundFeatures:
    """Check a model's inputs. Raises as `bind_select` does."""
    source = Source(dataset_id=plan.dataset_id, alias=plan.dataset_id, position=1)
    tables = open_tables((source,), (), catalogue)
    condition = truth_sql(plan.condition, tables.resolve)
    columns = []
    for name in plan.columns:
        tables.resolve(name)
        column = tables.granted[0].spec.column(name.column)
        if column is not None:
            columns.append((column.name, column.type, column.scale))
    clipping = _rows_clipping(tables, None, 1)
    return BoundFeatures(
        source=_source(tables, 0, clipping.kind is NormKind.ROWS, False, None, None),
        features=tuple(columns),
        condition=condition,
        clipping=clipping,
    )


def _check_unit(plan: SelectPlan, tables: Tables) -> None:
    """A query that names its privacy unit must name the catalogue's."""
    named = plan.options.unit_column
    unit = tables.granted[tables.root].spec.entity_column
    if named is not None and named != unit:
        raise Refused("sql.unit-column", column=named[:64], unit=unit)


def _axis(key: Key, tables: Tables, plan: SelectPlan) -> Axis:
    found = scalar(key.expression, tables.resolve)
    if found.kind is Kind.NUMBER and found.scale > 0:
        raise Refused("sql.key", what=key.name, position=key.position)
    labels = whole_labels(found) or _listed(key.expression, plan.condition)
    sql = found.sql if found.kind is Kind.TEXT else f"CAST({found.sql} AS VARCHAR)"
    if not labels and len(plan.grouping_sets) > 1:
        raise Refused("dataset.domain-missing", column=key.name)
    return Axis(name=key.name, sql=sql, labels=labels, is_number=found.kind is Kind.NUMBER)


def _listed(key: Expression, condition: Expression | None) -> tuple[str, ...]:
    """The values to which the query itself limits a text key: `WHERE key IN (…)`. A list in the query is public."""
    if not isinstance(condition, Call) or not isinstance(key, Name):
        return ()
    if condition.function is Function.AND:
        return next((found for part in condition.arguments if (found := _listed(key, part))), ())
    needle, *constants = condition.arguments
    if condition.function not in (Function.IN, Function.EQ) or not isinstance(needle, Name):
        return ()
    if (needle.table, needle.column) != (key.table, key.column):
        return ()
    texts = [item.text for item in constants if isinstance(item, Constant) and item.kind is Literal.TEXT]
    return tuple(dict.fromkeys(texts)) if len(texts) == len(constants) else ()


def _bind_aggregate(
    aggregate: Aggregate, vectors: Vectors, plan: SelectPlan, tables: Tables, cells: int, max_cells: int
) -> None:
    if aggregate.kind in LINEAR:
        vectors.estimates.append(vectors.collector.estimate(aggregate))
    elif aggregate.kind is AggregateKind.QUANTILE:
        vectors.estimates.append(_quantile(aggregate, vectors, plan, tables, cells, max_cells))
    else:
        vectors.estimates.append(_distinct(aggregate, vectors, plan, tables, cells))


def _distinct(aggregate: Aggregate, vectors: Vectors, plan: SelectPlan, tables: Tables, cells: int) -> Estimate:
    argument, kind = aggregate.argument, AggregateKind.COUNT_DISTINCT
    condition = truth_sql(aggregate.condition, tables.resolve)
    if isinstance(argument, Name) and tables.is_unit(argument):
        vector = _index(vectors.units, Units(condition=condition, groups=cells if tables.several else 1))
        return Estimate(kind=kind, unit=tables.granted[tables.root].spec.entity_set, scale=0, vector=vector)
    if argument is None or plan.keys:
        raise Refused("sql.distinct", position=aggregate.position)
    found = scalar(argument, tables.resolve)
    labels = whole_labels(found)
    if labels is None:
        raise Refused("dataset.domain-missing", column=_name(argument))
    sql = found.sql if found.kind is Kind.TEXT else f"CAST({found.sql} AS VARCHAR)"
    limit = min(_rows_limit(tables, plan.options.rows), len(labels))
    vector = _index(vectors.values, Values(sql=sql, labels=labels, condition=condition, limit=limit))
    return Estimate(kind=kind, unit="values", scale=0, vector=vector)


def _quantile(
    aggregate: Aggregate, vectors: Vectors, plan: SelectPlan, tables: Tables, cells: int, max_cells: int
) -> Estimate:
    if aggregate.argument is None:
        raise Refused("sql.type", what="a quantile of nothing", position=aggregate.position)
    value = guarded(scalar(aggregate.argument, tables.resolve))
    condition = truth_sql(aggregate.condition, tables.resolve)
    condition = both(condition, f"{value.sql} IS NOT NULL" if value.nullable else None)
    low, high = ends(value)
    most = max(2, min(MAX_BINS, 64 * max_cells // max(cells, 1)))
    step = max(1, -(-(high - low + 1) // most))
    histogram = Histogram(
        sql=value.sql,
        condition=condition,
        low=low,
        step=step,
        bins=(high - low) // step + 1,
        scale=value.scale,
        clipping=_rows_clipping(tables, plan.options.rows, 1),
    )
    unit = aggregate.argument.column if isinstance(aggregate.argument, Name) else ""
    return Estimate(
        kind=AggregateKind.QUANTILE,
        unit=unit,
        scale=value.scale,
        vector=_index(vectors.histograms, histogram),
        fraction=aggregate.fraction,
    )


T = TypeVar("T")


def _index(items: list[T], item: T) -> int:
    """Where the item stands, once it is there."""
    if item not in items:
        items.append(item)
    return items.index(item)


def _name(argument: object) -> str:
    return argument.column if isinstance(argument, Name) else "expression"


def _rows_limit(tables: Tables, asked: int | None) -> int:
    return min(tables.rows_bound, asked or tables.rows_bound)


def _rows_clipping(tables: Tables, asked: int | None, factor: int) -> Clipping:
    """By the number of the unit's joined rows: at most the product of its rows in each table."""
    limit = _rows_limit(tables, asked)
    if not tables.several:
        return Clipping(kind=NormKind.NONE, norm="", limit=1, factor=factor)
    counts = [f"t{index}.{ROWS}" for index in tables.several]
    norm = counts[0] if len(counts) == 1 else " * ".join(f"CAST({count} AS HUGEINT)" for count in counts)
    return Clipping(kind=NormKind.ROWS, norm=f"({norm})" if len(counts) > 1 else norm, limit=limit, factor=factor)


def _sums(vectors: Vectors, plan: SelectPlan, tables: Tables, power: int) -> tuple[Sums | None, str | None]:
    """The joint vector and, where it is clipped by a measured norm, the SQL of one row's."""
    if not vectors.collector.entries:
        return None, None
    statistics = vectors.collector.statistics()
    bound = row_bound(statistics, power)
    if bound >= SAFE:  # the norm of one row, too, has to stay inside 62 bits
        raise Refused("sql.overflow", position=plan.aggregates[0].position)
    plain = all(item.sql == "CAST(1 AS BIGINT)" for item in statistics)
    wanted = tables.several or plan.options.bounds is Bounds.AUTO
    if plain or not wanted or not _is_local(tables, statistics):
        return Sums(statistics=statistics, clipping=_rows_clipping(tables, plan.options.rows, bound)), None
    limit = min(_rows_limit(tables, plan.options.rows) * bound, SAFE)  # larger norms are left out of the extract
    norm = f"t{tables.root}.{NORM}"
    clipping = Clipping(kind=NormKind.MEASURED, norm=norm, limit=limit, factor=1)
    return Sums(statistics=statistics, clipping=clipping), row_norm(statistics, power)


def _is_local(tables: Tables, statistics: tuple[Statistic, ...]) -> bool:
    """Whether the statistics can be measured while the root is built: they are its own, and nothing multiplies it."""
    others = [index for index in range(len(tables.sources)) if index != tables.root]
    return len(tables.sources) == 1 or (
        set(tables.several) <= {tables.root}
        and not any(f"t{index}." in item.sql for item in statistics for index in others)
    )


def _check_sets(plan: SelectPlan, axes: tuple[Axis, ...], vectors: Vectors) -> None:
    """What the several grouping sets of one query, and open keys, cannot carry."""
    beside = bool(vectors.units or vectors.values or vectors.histograms)
    if len(plan.grouping_sets) > 1 and beside:
        raise Refused("sql.grouping-sets", position=plan.keys[0].position)
    # Units of open keys are counted once, for the threshold, and so without a condition of their own.
    conditional = any(item.condition is not None for item in vectors.units)
    if any(axis.is_open for axis in axes) and (vectors.values or vectors.histograms or conditional):
        raise Refused("dataset.domain-missing", column=next(axis.name for axis in axes if axis.is_open))


def _sources(
    plan: SelectPlan,
    tables: Tables,
    vectors: Vectors,
    sums: Sums | None,
    norm: str | None,
    axes: tuple[Axis, ...],
    condition: str | None,
) -> tuple[BoundSource, ...]:
    by_rows = [histogram.clipping for histogram in vectors.histograms] + ([sums.clipping] if sums else [])
    counted = any(clipping.kind is NormKind.ROWS for clipping in by_rows)
    opened = any(axis.is_open for axis in axes)
    told_apart = bool(vectors.units or vectors.values or opened) and bool(tables.several)
    local = condition if len(tables.sources) == 1 else None
    return tuple(
        _source(
            tables,
            index,
            counted and index in tables.several,
            index in tables.joined_by_unit or (index == tables.root and told_apart),
            norm if index == tables.root else None,
            local if index == tables.root else None,
        )
        for index in range(len(tables.sources))
    )


def _source(tables: Tables, index: int, rows: bool, unit: bool, norm: str | None, condition: str | None) -> BoundSource:
    spec = tables.granted[index].spec
    return BoundSource(
        dataset_id=spec.dataset_id,
        entity_set=None if spec.public else spec.entity_set,
        columns=tuple(tables.used[index]),
        unit=unit,
        rows=rows,
        norm=norm,
        condition=condition,
    )
