"""An operator's SQL → the plan. Every node that passes is named; anything else is refused with its position and what
to write instead.

The text is never executed: what runs is rendered from the plan.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlglot import exp

from enclave_runner.contract.errors import Refused
from enclave_runner.plan.nodes import (
    Call,
    Expression,
    FeaturePlan,
    Function,
    Name,
    Options,
    Order,
    Output,
    SelectPlan,
    Slot,
)
from enclave_runner.plan.parse_aggregate import Aggregates, bare
from enclave_runner.plan.parse_constant import folded, output_name, whole
from enclave_runner.plan.parse_expression import Built, Meter, Reader
from enclave_runner.plan.parse_group import Keys, keys_of
from enclave_runner.plan.parse_source import Sources
from enclave_runner.plan.parse_text import only, place_of, position, read

MAX_LIMIT = 1_000_000
MAX_OUTPUTS = 1000
CLAUSES = ("expressions", "from_", "joins", "where", "group", "having", "order", "limit", "with_")
INSTEAD = {"distinct": "DISTINCT", "sample": "USING SAMPLE", "windows": "WINDOW", "locks": "FOR UPDATE"}


def parse_select(sql: str) -> SelectPlan:
    """The plan of a DP table; subqueries and CTEs that choose columns and filter rows are inlined.

    Raises:
        Refused: a rule `sql.…` with the position (from 1) of what stands in the way; its remedy says what to write
        instead. No other exception, whatever the text; the plan has at most `parse_expression.MAX_NODES` nodes.
    """
    select, options = read(sql)
    _check_clauses(select, CLAUSES)
    return _Statement(select).plan(options)


def parse_features(sql: str) -> FeaturePlan:
    """The plan of a model's inputs: plain columns of one dataset, row-local filters. Raises as `parse_select` does."""
    select, options = read(sql)
    if options != Options():
        raise Refused("sql.clause", what="WITH DIFFERENTIAL_PRIVACY", position=1)
    _check_clauses(select, ("expressions", "from_", "where"))
    source = select.args.get("from_")
    table = source.this if source is not None else select
    if not isinstance(table, exp.Table) or not isinstance(table.this, exp.Identifier):
        raise Refused("sql.source", what="FROM", position=position(table))
    only(table, "this")
    columns = tuple(_feature(item) for item in select.expressions)
    names = [column.column for column in columns]
    for column in columns:
        if names.count(column.column) > 1:
            raise Refused("sql.output-name", name=column.column, position=column.position)
    where = select.args.get("where")
    condition = Reader(Meter(), _plain).read(where.this).expression if where is not None else None
    return FeaturePlan(dataset_id=str(table.this.this), columns=columns, condition=condition)


def _feature(item: exp.Expr) -> Name:
    if not isinstance(item, exp.Column) or isinstance(item.this, exp.Star):
        raise Refused("sql.feature", position=position(item))
    return _bare_name(item)


def _bare_name(node: exp.Column) -> Name:
    if node.args.get("table") is not None:
        raise Refused("sql.feature", position=position(node))
    return Name(column=str(node.name), table=None, position=position(node))


def _plain(node: exp.Column) -> Built:
    return Built(_bare_name(node), 1, 1)


def _check_clauses(select: exp.Select, allowed: tuple[str, ...]) -> None:
    for name, value in select.args.items():
        if value and name not in allowed:
            what = INSTEAD.get(name, name.strip("_").upper())
            raise Refused("sql.clause", what=what, position=place_of(value, select))


@dataclass
class _Column:
    """An output before its keys are known to be slots."""

    name: str
    built: Built
    place: int
    is_alias: bool

    @property
    def expression(self) -> Expression:
        """What it shows."""
        return self.built.expression


class _Statement:
    """One outermost SELECT, read clause by clause."""

    def __init__(self, select: exp.Select) -> None:
        self._select = select
        self._meter = Meter()
        self._sources = Sources(self._meter)
        self._scope = self._sources.outermost(select)
        self._aggregates = Aggregates(self._meter, self._scope.column)
        if not 0 < len(select.expressions) <= MAX_OUTPUTS:
            raise Refused("sql.too-long", max=MAX_OUTPUTS)
        reader = Reader(self._meter, self._scope.column, self._aggregates.slot)
        self._columns = [self._column(reader, item, number) for number, item in enumerate(select.expressions, 1)]
        self._keys = Keys(self._key)

    def plan(self, options: Options) -> SelectPlan:
        """The plan, with everything in its place."""
        sets = self._sets()
        outputs = self._outputs()
        having = self._having()
        order = self._order()
        if not self._aggregates.items:
            raise Refused("sql.no-aggregate", position=position(self._select))
        return SelectPlan(
            sources=tuple(self._sources.sources),
            joins=tuple(self._sources.joins),
            condition=self._condition(),
            keys=keys_of(self._keys, [(item.expression, item.name) for item in self._columns]),
            grouping_sets=sets,
            aggregates=tuple(self._aggregates.items),
            outputs=outputs,
            having=having,
            order=order,
            limit=self._limit(),
            options=options,
        )

    def _column(self, reader: Reader, item: exp.Expr, number: int) -> _Column:
        """One output; names repeat those of SQL where no alias is given."""
        node = item.this if isinstance(item, exp.Alias) else item
        built = reader.read(node)
        expression = built.expression
        default = expression.column if isinstance(expression, Name) else self._aggregates.name(expression)
        if isinstance(node, exp.Column):
            default = str(node.name)
        is_alias = isinstance(item, exp.Alias)
        name = str(item.alias) if is_alias else default or f"column_{number}"
        return _Column(output_name(name, position(item)), built, position(item), is_alias)

    def _sets(self) -> tuple[tuple[int, ...], ...]:
        group = self._select.args.get("group")
        if group is None:
            return ((),)
        if group.args.get("all") is not True:
            return self._keys.sets(group)
        only(group, "all")
        numbers = [self._keys.add(item.expression, item.place) for item in self._columns if _is_key(item.expression)]
        return (tuple(sorted(set(numbers))),)

    def _key(self, node: exp.Expr) -> Expression:
        """An item of GROUP BY: a position, an alias or an expression of one row."""
        while isinstance(node, exp.Paren):
            node = node.this
        column = self._numbered(node) or self._aliased(node)
        if column is None:
            return self._shown(Reader(self._meter, self._scope.column).read(node).expression)
        if _has_slot(column.expression):
            raise Refused("sql.aggregate-place", what="GROUP BY", position=position(node))
        self._meter.add(column.built.size)
        return column.expression

    def _shown(self, expression: Expression) -> Expression:
        """For a bare name, the one output t.name: where that exists, the name can mean nothing else."""
        if not isinstance(expression, Name) or expression.table is not None:
            return expression
        outputs = {bare(item.expression): item.expression for item in self._columns}
        found = [item for item in outputs.values() if isinstance(item, Name) and item.column == expression.column]
        return found[0] if len(found) == 1 else expression

    def _numbered(self, node: exp.Expr) -> _Column | None:
        if not isinstance(node, exp.Literal) or node.is_string:
            return None
        return self._columns[whole(str(node.this), position(node), 1, len(self._columns)) - 1]

    def _aliased(self, node: exp.Expr) -> _Column | None:
        """The output of that alias. A name that also is a column means two things, unless both are the same."""
        column = self._output_named(node)
        if column is None or not column.is_alias:
            return None
        name = folded(column.name)
        own = isinstance(column.expression, Name) and folded(column.expression.column) == name
        if not own and (self._scope.knows(name) or (self._scope.is_open and self._mentioned(name))):
            raise Refused("sql.group-alias", name=column.name, position=position(node))
        return column

    def _mentioned(self, name: str) -> bool:
        """Whether the statement uses a column of this name, so that a dataset surely has it."""
        aggregates = self._aggregates.items
        parts = [item.expression for item in self._columns] + [item.expression for item in self._sources.conditions]
        parts += [part for item in aggregates for part in (item.argument, item.condition) if part is not None]
        return any(_mentions(part, name) for part in parts)

    def _output_named(self, node: exp.Expr) -> _Column | None:
        if not isinstance(node, exp.Column) or node.args.get("table") is not None:
            return None
        wanted = folded(str(node.name))
        return next((item for item in self._columns if folded(item.name) == wanted), None)

    def _outputs(self) -> tuple[Output, ...]:
        taken: set[str] = set()
        made = []
        for item in self._columns:
            if folded(item.name) in taken:
                raise Refused("sql.output-name", name=item.name, position=item.place)
            taken.add(folded(item.name))
            expression = self._keys.lift(item.expression)
            if not _has_slot(expression):
                raise Refused("sql.constant-output", position=item.place)
            made.append(Output(name=item.name, expression=expression))
        return tuple(made)

    def _result(self, node: exp.Column) -> Built:
        """A column in HAVING or ORDER BY: an output by its name, or a column that `lift` finds among the keys."""
        item = self._output_named(node)
        if item is None:
            return self._scope.column(node)
        key = self._keys.named(item.name)
        if key is not None and bare(key) != bare(item.expression):
            raise Refused("sql.group-alias", name=item.name, position=position(node))
        return item.built

    def _having(self) -> Expression | None:
        having = self._select.args.get("having")
        if having is None:
            return None
        reader = Reader(self._meter, self._result, self._aggregates.slot)
        return self._keys.lift(reader.read(having.this).expression)

    def _order(self) -> tuple[Order, ...]:
        order = self._select.args.get("order")
        if order is None:
            return ()
        only(order, "expressions")
        return tuple(self._ordered(item) for item in order.expressions)

    def _ordered(self, item: exp.Expr) -> Order:
        """NULLs are last, as the engine has them; NULLS FIRST and ORDER BY ALL are refused by `sql.order`."""
        if item.args.get("nulls_first") or item.args.get("with_fill") or isinstance(item.this, exp.Var):
            raise Refused("sql.order", position=position(item))
        only(item, "this", "desc")
        column = self._numbered(item.this)
        if column is not None:
            expression = self._keys.lift(column.expression)
        else:
            reader = Reader(self._meter, self._result, self._aggregates.slot)
            expression = self._keys.lift(reader.read(item.this).expression)
        if not _has_slot(expression):
            raise Refused("sql.order", position=position(item))
        return Order(expression=expression, descending=bool(item.args.get("desc")))

    def _limit(self) -> int | None:
        limit = self._select.args.get("limit")
        if limit is None:
            return None
        if not isinstance(limit, exp.Limit):
            raise Refused("sql.clause", what="FETCH", position=position(limit))
        only(limit, "expression")
        count = limit.expression
        text = str(count.this) if isinstance(count, exp.Literal) and not count.is_string else ""
        return whole(text, position(count), 1, MAX_LIMIT)

    def _condition(self) -> Expression | None:
        """All conditions of WHERE, inlined queries and joins, in one conjunction."""
        terms: list[Expression] = []
        for built in self._sources.conditions:
            condition = built.expression
            conjunction = isinstance(condition, Call) and condition.function is Function.AND
            terms += condition.arguments if isinstance(condition, Call) and conjunction else (condition,)
        if len(terms) < 2:
            return terms[0] if terms else None
        return Call(function=Function.AND, arguments=tuple(terms), position=getattr(terms[0], "position", 1))


def _is_key(expression: Expression) -> bool:
    return not _has_slot(expression) and isinstance(expression, Name | Call)


def _has_slot(expression: Expression) -> bool:
    parts = expression.arguments if isinstance(expression, Call) else ()
    return isinstance(expression, Slot) or any(_has_slot(part) for part in parts)


def _mentions(expression: Expression, name: str) -> bool:
    if isinstance(expression, Call):
        return any(_mentions(part, name) for part in expression.arguments)
    return isinstance(expression, Name) and folded(expression.column) == name
