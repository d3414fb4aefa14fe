"""Plan + grant + dataset → what runs and what it can change at most. A missing bound refuses; it never means no noise.

Privacy unit: the dataset's entity. Neighbouring tables differ by one entity with all of its rows. Each row of an entity
with n rows in the extract counts with the integer weight w = floor(S · min(1, K / n)), K = `rows_per_entity`. The kept
rows of an entity after any WHERE are at most n, so its weights add up to at most K·S: that is the L1, and so also the
L2,
sensitivity of a count; a sum over values clipped to [low, high] moves by at most K·S·max(|low|, |high|).
Source: "smoothly bounding user contributions" (Epasto et al., NeurIPS 2020).
"""

from __future__ import annotations

import math
import re
from datetime import date

from enclave_runner.contract.codec import Value
from enclave_runner.contract.dataset import Column, ColumnType, DatasetSpec
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.grant import Scope
from enclave_runner.plan.nodes import Aggregate, AggregateKind, Comparison, FeaturePlan, TablePlan

WEIGHT_SCALE = 1 << 20
CELL_BITS = 58  # a coarsened cell and its noise stay far inside 64 bits
SENSITIVITY_BITS = 40
ORDERED = (ColumnType.INTEGER, ColumnType.DECIMAL, ColumnType.DATE)


class BoundKey(Value, frozen=True):
    """A group key with its public domain, in catalogue order."""

    column: str
    domain: tuple[str, ...]


class BoundFilter(Value, frozen=True):
    """A comparison with typed constants: integers for numbers (in units of 10^-scale), text for everything else."""

    column: str
    operator: str
    constants: tuple[int | str, ...]
    type: ColumnType


class BoundAggregate(Value, frozen=True):
    """One noisy column.

    A cell is floor(exact sum / `coarsening`); removing one entity moves the whole vector by at most `sensitivity` in
    L2.
    A released number is cell · coarsening / (weight scale · 10^scale).
    """

    kind: AggregateKind
    column: str | None
    name: str
    low: int
    high: int
    scale: int
    coarsening: int
    sensitivity: int


class BoundTable(Value, frozen=True):
    """A DP table ready to run."""

    dataset_id: str
    keys: tuple[BoundKey, ...]
    aggregates: tuple[BoundAggregate, ...]
    filters: tuple[BoundFilter, ...]
    columns: tuple[str, ...]
    entity_set: str
    rows_per_entity: int
    weight_scale: int

    @property
    def cells(self) -> int:
        """How many groups the table has, empty ones included."""
        return math.prod(len(key.domain) for key in self.keys)


class BoundFeatures(Value, frozen=True):
    """A model's inputs ready to run; `sensitivity` is that of the weighted histogram of scores."""

    dataset_id: str
    features: tuple[tuple[str, ColumnType, int], ...]
    filters: tuple[BoundFilter, ...]
    columns: tuple[str, ...]
    entity_set: str
    rows_per_entity: int
    weight_scale: int
    sensitivity: int


def bind_table(plan: TablePlan, spec: DatasetSpec, scope: Scope, max_cells: int) -> BoundTable:
    """Check every name against grant and catalogue, and prove sensitivities and the absence of overflow.

    Raises:
        Refused: `grant.column`, `dataset.domain-missing`, `dataset.bound-missing`, `dataset.unit-bound-missing`,
            `sql.cells`, `sql.constant`.
    """
    columns = _columns(spec, scope, [(key.column, key.position) for key in plan.keys])
    keys = tuple(BoundKey(column=key.column, domain=_domain(columns[key.column])) for key in plan.keys)
    cells = math.prod(len(key.domain) for key in keys)
    if cells > max_cells:
        raise Refused("sql.cells", max=max_cells)
    bound, weight_scale = _contribution(spec)
    aggregates = tuple(_bind_aggregate(item, spec, scope, cells) for item in plan.aggregates)
    filters = tuple(_bind_filter(item, spec, scope) for item in plan.filters)
    used = [key.column for key in keys]
    used += [item.column for item in aggregates if item.column] + [item.column for item in filters]
    return BoundTable(
        dataset_id=spec.dataset_id,
        keys=keys,
        aggregates=aggregates,
        filters=filters,
        columns=tuple(dict.fromkeys(used)),
        entity_set=spec.entity_set,
        rows_per_entity=bound,
        weight_scale=weight_scale,
    )


def bind_features(plan: FeaturePlan, spec: DatasetSpec, scope: Scope) -> BoundFeatures:
    """Check a model's inputs. Raises as `bind_table` does."""
    columns = _columns(spec, scope, [(item.column, item.position) for item in plan.columns])
    filters = tuple(_bind_filter(item, spec, scope) for item in plan.filters)
    bound, weight_scale = _contribution(spec)
    used = [*columns, *(item.column for item in filters)]
    return BoundFeatures(
        dataset_id=spec.dataset_id,
        features=tuple((column.name, column.type, column.scale) for column in columns.values()),
        filters=filters,
        columns=tuple(dict.fromkeys(used)),
        entity_set=spec.entity_set,
        rows_per_entity=bound,
        weight_scale=weight_scale,
        sensitivity=bound * weight_scale,
    )


def granted_column(name: str, position: int, spec: DatasetSpec, scope: Scope) -> Column:
    """The column, if the grant names it and nothing forbids it.

    Raises:
        Refused: `sql.column`, `grant.column`, `dataset.withheld`, `dataset.core-grade`.
    """
    column = spec.column(name)
    if column is None:
        raise Refused("sql.column", column=name, position=position)
    if name not in scope.columns:
        raise Refused("grant.column", column=name)
    if column.withheld is not None:
        raise Refused("dataset.withheld", column=name, basis=column.withheld)
    if column.grade >= 4:
        raise Refused("dataset.core-grade", column=name)
    return column


def _columns(spec: DatasetSpec, scope: Scope, names: list[tuple[str, int]]) -> dict[str, Column]:
    return {name: granted_column(name, position, spec, scope) for name, position in names}


def _domain(column: Column) -> tuple[str, ...]:
    if column.type is ColumnType.BOOLEAN:
        return ("false", "true")
    if column.domain is None:
        raise Refused("dataset.domain-missing", column=column.name)
    return column.domain


def _contribution(spec: DatasetSpec) -> tuple[int, int]:
    if spec.rows_per_entity is None:
        raise Refused("dataset.unit-bound-missing", dataset=spec.dataset_id)
    # One row per entity needs no weights: the vector is a plain count.
    return spec.rows_per_entity, 1 if spec.unique else WEIGHT_SCALE


def _bind_aggregate(item: Aggregate, spec: DatasetSpec, scope: Scope, cells: int) -> BoundAggregate:
    bound, weight_scale = _contribution(spec)
    column = granted_column(item.column, item.position, spec, scope) if item.column else None
    low, high, scale = 1, 1, 0
    if item.kind is AggregateKind.SUM:
        if column is None or column.bounds is None:
            raise Refused("dataset.bound-missing", column=item.column or "*")
        (low, high), scale = column.bounds, column.scale
    magnitude = max(abs(low), abs(high), 1)
    exact_sensitivity = bound * weight_scale * magnitude
    coarsening = _coarsening(spec.population_cap * exact_sensitivity, exact_sensitivity)
    sensitivity = exact_sensitivity
    if coarsening > 1:
        # Flooring each cell adds at most 1 per cell, hence at most √cells in L2.
        sensitivity = -(-exact_sensitivity // coarsening) + math.isqrt(cells) + 1
    return BoundAggregate(
        kind=item.kind,
        column=item.column,
        name=item.name,
        low=low,
        high=high,
        scale=scale,
        coarsening=coarsening,
        sensitivity=sensitivity,
    )


def _coarsening(cell_bound: int, sensitivity: int) -> int:
    """The least power of two that keeps cells and noise inside 64-bit integers; 1 nearly always."""
    excess = max(cell_bound.bit_length() - CELL_BITS, sensitivity.bit_length() - SENSITIVITY_BITS, 0)
    return 1 << excess


def _bind_filter(item: Comparison, spec: DatasetSpec, scope: Scope) -> BoundFilter:
    column = granted_column(item.column, item.position, spec, scope)
    if column.type not in ORDERED and item.operator.value not in ("=", "<>", "in"):
        raise Refused("sql.unsupported", what=f"ordering {column.name}", position=item.position)
    try:
        constants = tuple(typed_constant(text, column) for text in item.constants)
    except ValueError:
        raise Refused("sql.constant", column=column.name, position=item.position) from None
    return BoundFilter(column=column.name, operator=item.operator.value, constants=constants, type=column.type)


def typed_constant(text: str, column: Column) -> int | str:
    """A constant in the column's own representation; ValueError when it is none."""
    if column.type is ColumnType.INTEGER or column.type is ColumnType.DECIMAL:
        match = re.fullmatch(r"([+-]?)([0-9]{1,15})(?:\.([0-9]{1,6}))?", text)
        if match is None or len(match[3] or "") > column.scale:
            raise ValueError("not a number of this column")
        scaled = int(match[2] + (match[3] or "").ljust(column.scale, "0"))
        if scaled >= 1 << 63:
            raise ValueError("outside 64 bits")
        return -scaled if match[1] == "-" else scaled
    if column.type is ColumnType.DATE:
        return date.fromisoformat(text).isoformat()
    if column.type is ColumnType.BOOLEAN and text not in ("true", "false"):
        raise ValueError("not a truth value")
    if len(text) > 1000 or "\0" in text:
        raise ValueError("too long")
    return text
