"""Bound plan → the SQL that runs. Names come from the catalogue, constants are escaped here; no text of the
operator's."""

from __future__ import annotations

from enclave_runner.contract.dataset import ColumnType
from enclave_runner.plan.bind import BoundAggregate, BoundFeatures, BoundFilter, BoundTable
from enclave_runner.plan.nodes import AggregateKind

TABLE = "extract"
WEIGHT = "_weight"  # catalogue names start with a letter: no collision


def render_table(plan: BoundTable) -> str:
    """One row per non-empty group: key texts, then one HUGEINT per aggregate."""
    keys = [f"CAST({quote(key.column)} AS VARCHAR)" for key in plan.keys]
    sums = [_sum(aggregate) for aggregate in plan.aggregates]
    domains = [
        f"CAST({quote(key.column)} AS VARCHAR) IN ({', '.join(literal(value) for value in key.domain)})"
        for key in plan.keys
    ]
    conditions = [*domains, *(_condition(item) for item in plan.filters)]
    text = f"SELECT {', '.join([*keys, *sums])} FROM {TABLE}"
    if conditions:
        text += f" WHERE {' AND '.join(conditions)}"
    if keys:
        text += f" GROUP BY {', '.join(keys)}"
    return text


def render_features(plan: BoundFeatures) -> str:
    """One row per kept record: the features in order, then the weight."""
    columns = [*(quote(name) for name, _, _ in plan.features), quote(WEIGHT)]
    text = f"SELECT {', '.join(columns)} FROM {TABLE}"
    if plan.filters:
        text += f" WHERE {' AND '.join(_condition(item) for item in plan.filters)}"
    return text


def quote(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: int | str) -> str:
    """An SQL constant. Numbers carry a cast: bare ones would be INT32 and overflow."""
    if isinstance(value, int):
        return f"CAST({value} AS BIGINT)"
    return "'" + value.replace("'", "''") + "'"


def _sum(aggregate: BoundAggregate) -> str:
    weight = f"CAST({quote(WEIGHT)} AS HUGEINT)"
    if aggregate.column is None:
        term = weight
    elif aggregate.kind is AggregateKind.COUNT:
        term = f"CASE WHEN {quote(aggregate.column)} IS NULL THEN CAST(0 AS HUGEINT) ELSE {weight} END"
    else:
        clipped = f"greatest(least({quote(aggregate.column)}, {literal(aggregate.high)}), {literal(aggregate.low)})"
        value = f"CASE WHEN {quote(aggregate.column)} IS NULL THEN CAST(0 AS BIGINT) ELSE {clipped} END"
        term = f"CAST({value} AS HUGEINT) * {weight}"
    return f"coalesce(sum({term}), CAST(0 AS HUGEINT))"


def _condition(item: BoundFilter) -> str:
    name = f"CAST({quote(item.column)} AS VARCHAR)" if item.type is ColumnType.BOOLEAN else quote(item.column)
    constants = [f"DATE {literal(c)}" if item.type is ColumnType.DATE else literal(c) for c in item.constants]
    if item.operator == "in":
        return f"{name} IN ({', '.join(constants)})"
    return f"{name} {item.operator} {constants[0]}"
