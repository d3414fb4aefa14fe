"""SQL text → plan. Every node type that passes is named here; anything else is refused with its position.

The text is never executed: what runs is rendered from the plan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from enclave_runner.contract.errors import Refused
from enclave_runner.plan.nodes import Aggregate, AggregateKind, Comparison, FeaturePlan, Named, Operator, TablePlan

COMPARISONS: dict[type[exp.Expr], Operator] = {
    exp.EQ: Operator.EQ,
    exp.NEQ: Operator.NE,
    exp.LT: Operator.LT,
    exp.LTE: Operator.LE,
    exp.GT: Operator.GT,
    exp.GTE: Operator.GE,
}
MIRRORED = {
    Operator.EQ: Operator.EQ,
    Operator.NE: Operator.NE,
    Operator.LT: Operator.GT,
    Operator.LE: Operator.GE,
    Operator.GT: Operator.LT,
    Operator.GE: Operator.LE,
}


def parse_table(sql: str) -> TablePlan:
    """The plan of a DP table.

    Raises:
        Refused: `sql.syntax` or `sql.unsupported`, with the position (from 1) of what stands in the way.
    """
    select = _select(sql, {"expressions", "from_", "where", "group"})
    keys = _group_keys(select)
    outputs = [_output(item) for item in select.expressions]
    aggregates = tuple(output for output in outputs if isinstance(output, Aggregate))
    named = [output for output in outputs if isinstance(output, Named)]
    if not aggregates:
        raise _unsupported("a table without COUNT or SUM", select)
    for output in named:
        if output.column not in {key.column for key in keys}:
            raise Refused("sql.unsupported", what=f"{output.column} outside GROUP BY", position=output.position)
    _check_names([key.column for key in keys] + [aggregate.name for aggregate in aggregates], select)
    return TablePlan(dataset_id=_table(select), keys=keys, aggregates=aggregates, filters=_filters(select))


def parse_features(sql: str) -> FeaturePlan:
    """The plan of a model's inputs: plain columns of one dataset, row-local filters. Raises as `parse_table` does."""
    select = _select(sql, {"expressions", "from_", "where"})
    columns = tuple(_column(item) for item in select.expressions)
    _check_names([named.column for named in columns], select)
    return FeaturePlan(dataset_id=_table(select), columns=columns, filters=_filters(select))


def _select(sql: str, allowed: set[str]) -> exp.Select:
    try:
        statements = sqlglot.parse(sql, read="duckdb")
    except SqlglotError as error:
        raise Refused("sql.syntax", position=_syntax_position(error)) from None
    except RecursionError:
        raise Refused("sql.syntax", position=1) from None
    if len(statements) != 1 or not isinstance(statements[0], exp.Select):
        raise Refused("sql.unsupported", what="anything but one SELECT", position=1)
    select = statements[0]
    for name, value in select.args.items():
        if value and name not in allowed:
            raise _unsupported(name.rstrip("_").upper(), value)
    return select


def _table(select: exp.Select) -> str:
    source = select.args.get("from_")
    table = source.this if isinstance(source, exp.From) else None
    if not isinstance(table, exp.Table) or not isinstance(table.this, exp.Identifier):
        raise _unsupported("anything but one dataset in FROM", source or select)
    if any(value for name, value in table.args.items() if name != "this"):
        raise _unsupported("a qualified, sampled or aliased dataset", table)
    return str(table.this.this)


def _group_keys(select: exp.Select) -> tuple[Named, ...]:
    group = select.args.get("group")
    if group is None:
        return ()
    if any(value for name, value in group.args.items() if name != "expressions"):
        raise _unsupported("ROLLUP, CUBE and GROUPING SETS", group)
    return tuple(_column(item) for item in group.expressions)


def _output(item: exp.Expr) -> Named | Aggregate:
    alias = None
    if isinstance(item, exp.Alias):
        alias, item = str(item.alias), item.this
    if isinstance(item, exp.Column):
        named = _column(item)
        if alias not in (None, named.column):
            raise _unsupported("a renamed group key", item)
        return named
    if isinstance(item, exp.Count):
        return _count(item, alias)
    if isinstance(item, exp.Sum):
        named = _column(item.this)
        name = alias or f"sum_{named.column}"
        return Aggregate(kind=AggregateKind.SUM, column=named.column, name=name, position=named.position)
    raise _unsupported("an output other than a group key, COUNT or SUM", item)


def _count(item: exp.Count, alias: str | None) -> Aggregate:
    position = _position(item)
    if item.expressions:
        raise _unsupported("COUNT of several columns", item)
    if isinstance(item.this, exp.Star) and not any(item.this.args.values()):
        return Aggregate(kind=AggregateKind.COUNT, column=None, name=alias or "count", position=position)
    named = _column(item.this)
    name = alias or f"count_{named.column}"
    return Aggregate(kind=AggregateKind.COUNT, column=named.column, name=name, position=named.position)


def _column(item: exp.Expr | None) -> Named:
    if not isinstance(item, exp.Column) or not isinstance(item.this, exp.Identifier):
        raise _unsupported("an expression where a column is needed", item)
    if any(value for name, value in item.args.items() if name != "this"):
        raise _unsupported("a qualified column", item)
    return Named(column=str(item.this.this), position=_position(item))


def _filters(select: exp.Select) -> tuple[Comparison, ...]:
    where = select.args.get("where")
    return tuple(_conjuncts(where.this)) if where is not None else ()


def _conjuncts(item: exp.Expr) -> Iterable[Comparison]:
    """The comparisons of a conjunction, left to right; an explicit stack, since the text decides the depth."""
    stack = [item]
    while stack:
        node = stack.pop()
        if isinstance(node, exp.And):
            stack += [node.expression, node.this]
        elif isinstance(node, exp.Paren):
            stack.append(node.this)
        elif isinstance(node, exp.Between):
            yield from _between(node)
        elif isinstance(node, exp.In):
            yield _membership(node)
        else:
            yield _comparison(node)


def _between(node: exp.Between) -> Iterable[Comparison]:
    if node.args.get("symmetric"):
        raise _unsupported("BETWEEN SYMMETRIC", node)
    named = _column(node.this)
    for operator, bound in ((Operator.GE, node.args["low"]), (Operator.LE, node.args["high"])):
        yield Comparison(column=named.column, operator=operator, constants=(_constant(bound),), position=named.position)


def _membership(node: exp.In) -> Comparison:
    if any(value for name, value in node.args.items() if name not in {"this", "expressions"}):
        raise _unsupported("IN over a subquery", node)
    named = _column(node.this)
    constants = tuple(_constant(item) for item in node.expressions)
    if not 0 < len(constants) <= 1000:
        raise _unsupported("IN with no or more than 1000 values", node)
    return Comparison(column=named.column, operator=Operator.IN, constants=constants, position=named.position)


def _comparison(node: exp.Expr) -> Comparison:
    operator = COMPARISONS.get(type(node))
    if operator is None:
        raise _unsupported("a condition other than comparisons joined by AND", node)
    left, right = node.args["this"], node.args["expression"]
    if isinstance(right, exp.Column) and not isinstance(left, exp.Column):
        left, right, operator = right, left, MIRRORED[operator]
    named = _column(left)
    return Comparison(column=named.column, operator=operator, constants=(_constant(right),), position=named.position)


def _constant(item: exp.Expr | None) -> str:
    if isinstance(item, exp.Literal):
        return str(item.this)
    if isinstance(item, exp.Boolean):
        return "true" if item.this else "false"
    if isinstance(item, exp.Neg) and isinstance(item.this, exp.Literal) and not item.this.is_string:
        return f"-{item.this.this}"
    if isinstance(item, exp.Cast) and item.to.this is exp.DType.DATE and isinstance(item.this, exp.Literal):
        return str(item.this.this)
    raise _unsupported("anything but a constant to compare with", item)


def _check_names(names: list[str], select: exp.Select) -> None:
    if len(set(names)) != len(names):
        raise _unsupported("two outputs of one name", select)


def _position(item: exp.Expr | None) -> int:
    """Where the node's first token starts, from 1; 1 when the parser kept no position."""
    starts: list[int] = []
    if item is not None:
        walk: Callable[[], Iterable[exp.Expr]] = item.walk
        starts = [int(node.meta["start"]) + 1 for node in walk() if "start" in node.meta]
    return min(starts, default=1)


def _unsupported(what: str, item: object) -> Refused:
    return Refused("sql.unsupported", what=what, position=_position(item if isinstance(item, exp.Expr) else None))


def _syntax_position(error: SqlglotError) -> int:
    details = getattr(error, "errors", None) or [{}]
    return int(details[0].get("col") or 1)
