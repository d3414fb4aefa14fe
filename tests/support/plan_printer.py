"""A plan as SQL text again: what DuckDB makes of it must be what DuckDB makes of the operator's own text."""

from __future__ import annotations

import re

from enclave_runner.plan.nodes import (
    Aggregate,
    AggregateKind,
    Constant,
    Expression,
    Function,
    Key,
    Literal,
    Name,
    SelectPlan,
    Slot,
)

NAMED = {
    Function.ABS: "abs", Function.FLOOR: "floor", Function.ROUND: "round", Function.LEAST: "least",
    Function.GREATEST: "greatest", Function.COALESCE: "coalesce", Function.YEAR: "year", Function.QUARTER: "quarter",
    Function.MONTH: "month", Function.DATE_TRUNC: "date_trunc", Function.WIDTH_BUCKET: "width_bucket",
}  # fmt: skip
AGGREGATES = {
    AggregateKind.SUM: "sum", AggregateKind.AVG: "avg", AggregateKind.VARIANCE: "var_samp",
    AggregateKind.STDDEV: "stddev_samp",
}  # fmt: skip
_POSITION = re.compile(r"position=\d+")


def quoted(name: str) -> str:
    """An identifier."""
    return '"' + name.replace('"', '""') + '"'


def text_of(expression: Expression, plan: SelectPlan | None = None) -> str:
    """The expression in full brackets; slots, which need a plan, as what they stand for."""
    if isinstance(expression, Name):
        table = "" if expression.table is None else f"{quoted(expression.table)}."
        return table + quoted(expression.column)
    if isinstance(expression, Constant):
        return _constant(expression)
    if isinstance(expression, Slot):
        assert plan is not None
        if expression.is_key:
            return text_of(plan.keys[expression.index].expression)
        return aggregate_of(plan.aggregates[expression.index])
    return _call(expression.function, [text_of(part, plan) for part in expression.arguments])


def aggregate_of(aggregate: Aggregate) -> str:
    """The aggregate with its FILTER clause."""
    inner = "*" if aggregate.argument is None else text_of(aggregate.argument)
    if aggregate.kind is AggregateKind.COUNT:
        call = f"count({inner})"
    elif aggregate.kind is AggregateKind.COUNT_DISTINCT:
        call = f"count(DISTINCT {inner})"
    elif aggregate.kind is AggregateKind.QUANTILE:
        call = f"quantile_cont({inner}, {aggregate.fraction})"
    else:
        call = f"{AGGREGATES[aggregate.kind]}({inner})"
    return call if aggregate.condition is None else f"{call} FILTER (WHERE {text_of(aggregate.condition)})"


def sql_of(plan: SelectPlan) -> str:
    """The whole plan without its options, which no engine knows."""
    outputs = ", ".join(f"{text_of(item.expression, plan)} AS {quoted(item.name)}" for item in plan.outputs)
    sql = f"SELECT {outputs} FROM {_from(plan)}"
    if plan.condition is not None:
        sql += f" WHERE {text_of(plan.condition)}"
    if plan.keys:
        sql += f" GROUP BY {_groups(plan.keys, plan.grouping_sets)}"
    if plan.having is not None:
        sql += f" HAVING {text_of(plan.having, plan)}"
    if plan.order:
        orders = [f"{text_of(item.expression, plan)} {'DESC' * item.descending}" for item in plan.order]
        sql += f" ORDER BY {', '.join(orders)}"
    return sql if plan.limit is None else f"{sql} LIMIT {plan.limit}"


def _from(plan: SelectPlan) -> str:
    first, *others = plan.sources
    sql = f"{quoted(first.dataset_id)} AS {quoted(first.alias)}"
    for number, source in enumerate(others, 1):
        (join,) = [join for join in plan.joins if join.source == number]
        pairs = " AND ".join(f"{text_of(left)} = {text_of(right)}" for left, right in join.pairs)
        sql += f" JOIN {quoted(source.dataset_id)} AS {quoted(source.alias)} ON {pairs}"
    return sql


def _groups(keys: tuple[Key, ...], sets: tuple[tuple[int, ...], ...]) -> str:
    shown = [", ".join(text_of(keys[number].expression) for number in numbers) for numbers in sets]
    if len(sets) == 1:
        return shown[0]
    return f"GROUPING SETS ({', '.join(f'({item})' for item in shown)})"


def _constant(constant: Constant) -> str:
    written = constant.text.replace("'", "''")
    if constant.kind is Literal.TEXT:
        return f"'{written}'"
    return f"DATE '{written}'" if constant.kind is Literal.DATE else written


def _call(function: Function, parts: list[str]) -> str:
    if function in NAMED:
        return f"{NAMED[function]}({', '.join(parts)})"
    if function in (Function.NEGATE, Function.NOT):
        return f"({'-' if function is Function.NEGATE else 'NOT'} {parts[0]})"
    if function is Function.IS_NULL:
        return f"({parts[0]} IS NULL)"
    if function is Function.IN:
        return f"({parts[0]} IN ({', '.join(parts[1:])}))"
    if function is Function.CASE:
        branches = zip(parts[:-1:2], parts[1:-1:2], strict=True)
        return f"(CASE {' '.join(f'WHEN {when} THEN {then}' for when, then in branches)} ELSE {parts[-1]} END)"
    return f"({f' {function.value.upper()} '.join(parts)})"


def without_positions(plan: SelectPlan | Expression) -> str:
    """The plan's own printed form with every position gone: equal for two plans that mean the same."""
    return _POSITION.sub("position=0", repr(plan))
