"""Expressions of one row, or of the noisy columns of one result row: each node that passes has its reader here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from sqlglot import exp

from enclave_runner.contract.errors import Refused
from enclave_runner.plan.nodes import Call, Constant, Expression, Function, Literal
from enclave_runner.plan.parse_constant import iso_date, number, whole
from enclave_runner.plan.parse_refusal import refusal
from enclave_runner.plan.parse_text import only, position

MAX_NODES = 20_000
MAX_DEPTH = 60
MAX_CONSTANTS = 1000
MAX_DECIMALS = 15
MAX_BUCKETS = 100_000
DATE_UNITS = ("year", "quarter", "month", "week", "day")
NULL = (Literal.NULL, "null")
BINARY: dict[type[exp.Expr], Function] = {
    exp.Add: Function.ADD,
    exp.Sub: Function.SUBTRACT,
    exp.Mul: Function.MULTIPLY,
    exp.Div: Function.DIVIDE,
    exp.EQ: Function.EQ,
    exp.NEQ: Function.NE,
    exp.LT: Function.LT,
    exp.LTE: Function.LE,
    exp.GT: Function.GT,
    exp.GTE: Function.GE,
}
UNARY: dict[type[exp.Expr], Function] = {
    exp.Abs: Function.ABS,
    exp.Floor: Function.FLOOR,
    exp.Not: Function.NOT,
    exp.Year: Function.YEAR,
    exp.Quarter: Function.QUARTER,
    exp.Month: Function.MONTH,
}
DATE_PARTS = {"year": Function.YEAR, "quarter": Function.QUARTER, "month": Function.MONTH}
CONNECTIVES: dict[type[exp.Expr], Function] = {exp.And: Function.AND, exp.Or: Function.OR}


class Built(NamedTuple):
    """An expression of the plan with its number of nodes and its depth."""

    expression: Expression
    size: int
    depth: int


class Meter:
    """Counts the nodes that one plan is made of, so that inlining cannot blow it up."""

    def __init__(self) -> None:
        self._nodes = 0

    def add(self, nodes: int) -> None:
        """Raises Refused `sql.too-long` when the plan grows beyond its largest size."""
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise Refused("sql.too-long", max=MAX_NODES)


class Reader:
    """Reads expressions of one scope.

    `columns` says what a column stands for; `aggregates`, where they may stand, makes an aggregate's slot, or None
    for any other node.
    """

    def __init__(
        self,
        meter: Meter,
        columns: Callable[[exp.Column], Built],
        aggregates: Callable[[exp.Expr], Built | None] = lambda node: None,
    ) -> None:
        self.meter = meter
        self._columns = columns
        self._aggregates = aggregates

    def read(self, node: exp.Expr, level: int = 0) -> Built:
        """The expression, or Refused by the rule that tells what to write instead, with the node's position."""
        while isinstance(node, exp.Paren):
            only(node, "this")
            node = node.this
        if level > MAX_DEPTH:
            raise Refused("sql.too-deep", position=position(node))
        aggregate = self._aggregates(node)
        if aggregate is not None:
            return aggregate
        if isinstance(node, exp.Column):
            return self._column(node)
        reader = READERS.get(type(node))
        if reader is None:
            raise refusal(node)
        return reader(self, node, level + 1)

    def call(self, function: Function, parts: Iterable[Built], node: exp.Expr) -> Built:
        """The call at the node's position; bounded in size and depth."""
        arguments = tuple(parts)
        depth = 1 + max(part.depth for part in arguments)
        if depth > MAX_DEPTH:
            raise Refused("sql.too-deep", position=position(node))
        self.meter.add(1)
        call = Call(function=function, arguments=tuple(part.expression for part in arguments), position=position(node))
        return Built(call, 1 + sum(part.size for part in arguments), depth)

    def constant(self, kind: Literal, text: str, node: exp.Expr) -> Built:
        """A constant at the node's position."""
        self.meter.add(1)
        return Built(Constant(kind=kind, text=text, position=position(node)), 1, 1)

    def _column(self, node: exp.Column) -> Built:
        if isinstance(node.this, exp.Star):
            raise Refused("sql.star", position=position(node))
        only(node, "this", "table")
        built = self._columns(node)
        self.meter.add(built.size)
        return built

    def again(self, built: Built) -> Built:
        """The same expression at one more place."""
        self.meter.add(built.size)
        return built

    def literal(self, node: Any) -> Built:
        """A constant and nothing else: a number with its sign, a text, a date, true or false."""
        built = self.read(node)
        if not isinstance(built.expression, Constant) or built.expression.kind is Literal.NULL:
            raise Refused("sql.unsupported", what="NOT A CONSTANT", position=position(node))
        return built


def _binary(reader: Reader, node: exp.Expr, level: int) -> Built:
    only(node, "this", "expression", "typed", "safe")
    sides = (reader.read(node.this, level), reader.read(node.expression, level))
    return reader.call(BINARY[type(node)], sides, node)


def _unary(reader: Reader, node: exp.Expr, level: int) -> Built:
    only(node, "this")
    return reader.call(UNARY[type(node)], [reader.read(node.this, level)], node)


def _connective(reader: Reader, node: exp.Expr, level: int) -> Built:
    """All terms of a chain under one call: an explicit stack, since the text decides the length."""
    function = CONNECTIVES[type(node)]
    terms: list[Built] = []
    stack = [node]
    while stack:
        term = stack.pop()
        if isinstance(term, exp.Paren):
            stack.append(term.this)
        elif type(term) is type(node):
            stack += [term.expression, term.this]
        else:
            terms += _terms(reader.read(term, level), function)
    return reader.call(function, terms, node)


def _terms(built: Built, function: Function) -> list[Built]:
    """A chain's own terms, where an inlined column or BETWEEN is such a chain."""
    call = built.expression
    if not isinstance(call, Call) or call.function is not function:
        return [built]
    sizes = (built.size - 1, *(0 for _ in call.arguments[1:]))
    return [Built(part, size, built.depth - 1) for part, size in zip(call.arguments, sizes, strict=True)]


def _negative(reader: Reader, node: exp.Expr, level: int) -> Built:
    inner = reader.read(node.this, level)
    value = inner.expression
    if isinstance(value, Constant) and value.kind is Literal.NUMBER:
        return reader.constant(Literal.NUMBER, value.text[1:] if value.text[0] == "-" else f"-{value.text}", node)
    return reader.call(Function.NEGATE, [inner], node)


def _ceil(reader: Reader, node: exp.Expr, level: int) -> Built:
    only(node, "this")
    below = reader.call(Function.NEGATE, [reader.read(node.this, level)], node)
    return reader.call(Function.NEGATE, [reader.call(Function.FLOOR, [below], node)], node)


def _round(reader: Reader, node: exp.Expr, level: int) -> Built:
    only(node, "this", "decimals")
    parts = [reader.read(node.this, level)]
    decimals = node.args.get("decimals")
    if decimals is not None:
        whole(_number_text(decimals), position(decimals), 0, MAX_DECIMALS)
        parts.append(reader.read(decimals))
    return reader.call(Function.ROUND, parts, node)


def _several(function: Function) -> Callable[[Reader, exp.Expr, int], Built]:
    def read(reader: Reader, node: exp.Expr, level: int) -> Built:
        only(node, "this", "expressions", "ignore_nulls")
        parts = [reader.read(part, level) for part in (node.this, *node.expressions)]
        return reader.call(function, parts, node)

    return read


def _between(reader: Reader, node: exp.Expr, level: int) -> Built:
    only(node, "this", "low", "high")
    value = reader.read(node.this, level)
    above = reader.call(Function.GE, [value, reader.read(node.args["low"], level)], node)
    below = reader.call(Function.LE, [reader.again(value), reader.read(node.args["high"], level)], node)
    return reader.call(Function.AND, [above, below], node)


def _in(reader: Reader, node: exp.Expr, level: int) -> Built:
    if node.args.get("query") is not None:
        raise Refused("sql.scalar-subquery", position=position(node.args["query"]))
    only(node, "this", "expressions")
    if not 0 < len(node.expressions) <= MAX_CONSTANTS:
        raise Refused("sql.in-list", max=MAX_CONSTANTS, position=position(node))
    return reader.call(
        Function.IN, [reader.read(node.this, level), *(reader.literal(part) for part in node.expressions)], node
    )


def _is(reader: Reader, node: exp.Expr, level: int) -> Built:
    only(node, "this", "expression")
    inner = reader.read(node.this, level)
    if isinstance(node.expression, exp.Null):
        return reader.call(Function.IS_NULL, [inner], node)
    if not isinstance(node.expression, exp.Boolean):
        raise Refused("sql.unsupported", what="IS", position=position(node))
    same = reader.call(Function.EQ, [inner, _boolean(reader, node.expression, level)], node)
    return reader.call(Function.COALESCE, [same, reader.constant(Literal.BOOLEAN, "false", node)], node)


def _case(reader: Reader, node: exp.Expr, level: int) -> Built:
    only(node, "this", "ifs", "default")
    subject = reader.read(node.this, level) if node.args.get("this") is not None else None
    parts = []
    for branch in node.args["ifs"]:
        only(branch, "this", "true")
        condition = reader.read(branch.this, level)
        if subject is not None:
            condition = reader.call(Function.EQ, [reader.again(subject), condition], branch)
        parts += [condition, reader.read(branch.args["true"], level)]
    if not parts:
        raise Refused("sql.unsupported", what="CASE", position=position(node))
    return reader.call(Function.CASE, [*parts, _otherwise(reader, node, "default", level)], node)


def _if(reader: Reader, node: exp.Expr, level: int) -> Built:
    only(node, "this", "true", "false")
    parts = [reader.read(node.this, level), reader.read(node.args["true"], level)]
    return reader.call(Function.CASE, [*parts, _otherwise(reader, node, "false", level)], node)


def _otherwise(reader: Reader, node: exp.Expr, name: str, level: int) -> Built:
    otherwise = node.args.get(name)
    return reader.constant(*NULL, node) if otherwise is None else reader.read(otherwise, level)


def _nullif(reader: Reader, node: exp.Expr, level: int) -> Built:
    only(node, "this", "expression")
    value = reader.read(node.this, level)
    same = reader.call(Function.EQ, [value, reader.read(node.expression, level)], node)
    return reader.call(Function.CASE, [same, reader.constant(*NULL, node), reader.again(value)], node)


def _extract(reader: Reader, node: exp.Expr, level: int) -> Built:
    only(node, "this", "expression")
    return _date_part(reader, str(node.this.name), node.expression, node, level)


def _anonymous(reader: Reader, node: exp.Expr, level: int) -> Built:
    if node.name.lower() not in ("date_part", "datepart") or len(node.expressions) != 2:
        raise refusal(node)
    only(node, "this", "expressions")
    return _date_part(reader, str(node.expressions[0].name), node.expressions[1], node, level)


def _date_part(reader: Reader, part: str, value: exp.Expr, node: exp.Expr, level: int) -> Built:
    function = DATE_PARTS.get(part.lower())
    if function is None:
        raise Refused("sql.unsupported", what=f"EXTRACT {part}".upper(), position=position(node))
    return reader.call(function, [reader.read(value, level)], node)


def _date_trunc(reader: Reader, node: exp.Expr, level: int) -> Built:
    only(node, "this", "unit")
    unit = node.args.get("unit")
    if not isinstance(unit, exp.Var | exp.Literal) or unit.name.lower() not in DATE_UNITS:
        raise Refused("sql.unsupported", what="DATE_TRUNC", position=position(node))
    parts = [reader.constant(Literal.TEXT, unit.name.lower(), node), reader.read(node.this, level)]
    return reader.call(Function.DATE_TRUNC, parts, node)


def _width_bucket(reader: Reader, node: exp.Expr, level: int) -> Built:
    only(node, "this", "min_value", "max_value", "num_buckets")
    low, high, count = (node.args.get(name) for name in ("min_value", "max_value", "num_buckets"))
    if low is None or high is None or count is None:
        raise refusal(node)
    whole(_number_text(count), position(count), 1, MAX_BUCKETS)
    parts = [reader.read(node.this, level), *(reader.literal(part) for part in (low, high, count))]
    return reader.call(Function.WIDTH_BUCKET, parts, node)


def _number_text(node: exp.Expr) -> str:
    return str(node.this) if isinstance(node, exp.Literal) and not node.is_string else ""


def _literal(reader: Reader, node: exp.Expr, level: int) -> Built:
    if node.is_string:
        return reader.constant(Literal.TEXT, str(node.this), node)
    return reader.constant(Literal.NUMBER, number(str(node.this), position(node)), node)


def _boolean(reader: Reader, node: exp.Expr, level: int) -> Built:
    return reader.constant(Literal.BOOLEAN, "true" if node.this else "false", node)


def _null(reader: Reader, node: exp.Expr, level: int) -> Built:
    return reader.constant(*NULL, node)


def _date(reader: Reader, node: exp.Expr, level: int) -> Built:
    """A cast is a date's constant or nothing: any other one can fail on one value, and so tell it."""
    only(node, "this", "to")
    inner = node.this
    if node.args["to"].this is not exp.DType.DATE or not isinstance(inner, exp.Literal) or not inner.is_string:
        raise Refused("sql.cast", position=position(node))
    return reader.constant(Literal.DATE, iso_date(str(inner.this), position(node)), node)


READERS: dict[type[exp.Expr], Callable[[Reader, exp.Expr, int], Built]] = {
    **dict.fromkeys(BINARY, _binary),
    **dict.fromkeys(UNARY, _unary),
    **dict.fromkeys(CONNECTIVES, _connective),
    exp.Least: _several(Function.LEAST),
    exp.Greatest: _several(Function.GREATEST),
    exp.Coalesce: _several(Function.COALESCE),
    exp.Neg: _negative,
    exp.Ceil: _ceil,
    exp.Round: _round,
    exp.Between: _between,
    exp.In: _in,
    exp.Is: _is,
    exp.Case: _case,
    exp.If: _if,
    exp.Nullif: _nullif,
    exp.Extract: _extract,
    exp.Anonymous: _anonymous,
    exp.DateTrunc: _date_trunc,
    exp.TimestampTrunc: _date_trunc,
    exp.WidthBucket: _width_bucket,
    exp.Literal: _literal,
    exp.Boolean: _boolean,
    exp.Null: _null,
    exp.Cast: _date,
}
