"""Aggregates: what SELECT, HAVING and ORDER BY may ask over many units. One that is written twice is one."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from sqlglot import exp

from enclave_runner.contract.errors import Refused
from enclave_runner.plan.nodes import (
    Aggregate,
    AggregateKind,
    Call,
    Constant,
    Expression,
    Function,
    Literal,
    Name,
    Slot,
)
from enclave_runner.plan.parse_constant import fraction
from enclave_runner.plan.parse_expression import Built, Meter, Reader
from enclave_runner.plan.parse_refusal import refusal
from enclave_runner.plan.parse_text import only, position

MOMENTS: dict[type[exp.Expr], AggregateKind] = {
    exp.Sum: AggregateKind.SUM,
    exp.Avg: AggregateKind.AVG,
    exp.Variance: AggregateKind.VARIANCE,
    exp.Stddev: AggregateKind.STDDEV,
    exp.StddevSamp: AggregateKind.STDDEV,
}
FIXED: dict[type[exp.Expr], str] = {exp.Median: "0.5", exp.Min: "0", exp.Max: "1"}
FRACTION: dict[type[exp.Expr], str] = {
    exp.Quantile: "quantile",
    exp.ApproxQuantile: "quantile",
    exp.PercentileCont: "expression",
    exp.PercentileDisc: "expression",
}
NAMES = {"0.5": "median", "0": "min", "1": "max"}


class Aggregates:
    """The aggregates of one statement, in the order in which they are first written."""

    def __init__(self, meter: Meter, columns: Callable[[exp.Column], Built]) -> None:
        self.items: list[Aggregate] = []
        self._numbers: dict[Aggregate, int] = {}
        self._meter = meter
        self._reader = Reader(meter, columns)

    def slot(self, node: exp.Expr) -> Built | None:
        """The slot of the aggregate that the node is, None when it is none; Refused where it asks what none may."""
        condition = None
        whole = node
        if isinstance(node, exp.Filter):
            only(node, "this", "expression")
            condition, node = node.expression.this, node.this
        if type(node) not in READERS and not _is_mean(node):
            return None
        aggregate = self._aggregate(node, position(whole))
        if condition is not None:
            aggregate = self._filtered(aggregate, condition)
        self._meter.add(1)
        return Built(Slot(is_key=False, index=self._number(aggregate)), 1, 1)

    def name(self, expression: Expression) -> str | None:
        """The default name of an output: `sum_x`, `count`, …; None for what is not one aggregate."""
        if not isinstance(expression, Slot) or expression.is_key:
            return None
        aggregate = self.items[expression.index]
        kind = aggregate.kind.value.replace("-", "_")
        if aggregate.fraction is not None:
            kind = NAMES.get(aggregate.fraction, kind)
        return f"{kind}_{aggregate.argument.column}" if isinstance(aggregate.argument, Name) else kind

    def _number(self, aggregate: Aggregate) -> int:
        known = self._numbers.setdefault(bare_aggregate(aggregate), len(self.items))
        if known == len(self.items):
            self.items.append(aggregate)
        return known

    def _aggregate(self, node: exp.Expr, place: int) -> Aggregate:
        kind, argument, share, condition = READERS.get(type(node), _mean)(self, node)
        return Aggregate(kind=kind, argument=argument, fraction=share, condition=condition, position=place)

    def _filtered(self, aggregate: Aggregate, node: exp.Expr) -> Aggregate:
        condition = self._reader.read(node)
        if aggregate.condition is not None:
            both = [Built(aggregate.condition, 0, condition.depth), condition]
            condition = self._reader.call(Function.AND, both, node)
        return Aggregate(
            kind=aggregate.kind,
            argument=aggregate.argument,
            fraction=aggregate.fraction,
            condition=condition.expression,
            position=aggregate.position,
        )

    def argument(self, node: exp.Expr | None, whole: exp.Expr) -> Expression:
        """What is aggregated: an expression of one row."""
        if node is None or isinstance(node, exp.Star | exp.Distinct | exp.Order):
            what = node.key.upper() if node is not None else "()"
            raise Refused("sql.argument", what=what, position=position(whole))
        return self._reader.read(node).expression


Read = tuple[AggregateKind, Expression | None, str | None, Expression | None]


def _is_mean(node: exp.Expr) -> bool:
    return isinstance(node, exp.Anonymous) and node.name.lower() == "mean" and len(node.expressions) == 1


def _count(aggregates: Aggregates, node: exp.Expr) -> Read:
    only(node, "this", "big_int")
    inner = node.args.get("this")
    if isinstance(inner, exp.Distinct):
        only(inner, "expressions")
        if len(inner.expressions) != 1 or isinstance(inner.expressions[0], exp.Tuple | exp.Star):
            raise Refused("sql.argument", what="DISTINCT", position=position(node))
        return AggregateKind.COUNT_DISTINCT, aggregates.argument(inner.expressions[0], node), None, None
    if inner is None or (isinstance(inner, exp.Star) and not any(inner.args.values())):
        return AggregateKind.COUNT, None, None, None
    argument = aggregates.argument(inner, node)
    if isinstance(argument, Constant) and argument.kind is not Literal.NULL:
        return AggregateKind.COUNT, None, None, None
    return AggregateKind.COUNT, argument, None, None


def _count_if(aggregates: Aggregates, node: exp.Expr) -> Read:
    only(node, "this")
    return AggregateKind.COUNT, None, None, aggregates.argument(node.this, node)


def _moment(aggregates: Aggregates, node: exp.Expr) -> Read:
    only(node, "this")
    return MOMENTS[type(node)], aggregates.argument(node.this, node), None, None


def _mean(aggregates: Aggregates, node: exp.Expr) -> Read:
    if not _is_mean(node):
        raise refusal(node)
    return AggregateKind.AVG, aggregates.argument(node.expressions[0], node), None, None


def _fixed(aggregates: Aggregates, node: exp.Expr) -> Read:
    if node.args.get("count") is not None or node.expressions:
        raise Refused("sql.argument", what=node.key.upper(), position=position(node))
    only(node, "this")
    return AggregateKind.QUANTILE, aggregates.argument(node.this, node), FIXED[type(node)], None


def _quantile(aggregates: Aggregates, node: exp.Expr) -> Read:
    share = FRACTION[type(node)]
    only(node, "this", share)
    return AggregateKind.QUANTILE, aggregates.argument(node.this, node), _text(_share(node.args.get(share), node)), None


def _within_group(aggregates: Aggregates, node: exp.Expr) -> Read:
    """PERCENTILE_CONT(f) WITHIN GROUP (ORDER BY x [DESC])."""
    only(node, "this", "expression")
    inner, order = node.this, node.expression
    ordered = isinstance(order, exp.Order) and len(order.expressions) == 1
    if not isinstance(inner, exp.PercentileCont | exp.PercentileDisc) or not ordered:
        raise Refused("sql.argument", what="WITHIN GROUP", position=position(node))
    only(inner, "this")
    only(order, "expressions")
    only(order.expressions[0], "this", "desc")
    share = _share(inner.this, node)
    if order.expressions[0].args.get("desc"):
        share = 1 - share
    return AggregateKind.QUANTILE, aggregates.argument(order.expressions[0].this, node), _text(share), None


def _share(node: exp.Expr | None, whole: exp.Expr) -> Decimal:
    if not isinstance(node, exp.Literal) or node.is_string:
        raise Refused("sql.fraction", position=position(node or whole))
    return fraction(str(node.this), position(node))


def _text(share: Decimal) -> str:
    """One form for one fraction: 0.50 and .5 are 0.5."""
    return f"{share:f}".rstrip("0").rstrip(".") if "." in f"{share:f}" else f"{share:f}"


def bare(expression: Expression) -> Expression:
    """The expression without positions: equal for two that mean the same."""
    if isinstance(expression, Name):
        return Name(column=expression.column, table=expression.table, position=0)
    if isinstance(expression, Constant):
        return Constant(kind=expression.kind, text=expression.text, position=0)
    if isinstance(expression, Call):
        parts = tuple(bare(part) for part in expression.arguments)
        return Call(function=expression.function, arguments=parts, position=0)
    return expression


def bare_aggregate(aggregate: Aggregate) -> Aggregate:
    """The aggregate without positions."""
    return Aggregate(
        kind=aggregate.kind,
        argument=None if aggregate.argument is None else bare(aggregate.argument),
        fraction=aggregate.fraction,
        condition=None if aggregate.condition is None else bare(aggregate.condition),
        position=0,
    )


READERS: dict[type[exp.Expr], Callable[[Aggregates, exp.Expr], Read]] = {
    exp.Count: _count,
    exp.CountIf: _count_if,
    **dict.fromkeys(MOMENTS, _moment),
    **dict.fromkeys(FIXED, _fixed),
    **dict.fromkeys(FRACTION, _quantile),
    exp.WithinGroup: _within_group,
}
