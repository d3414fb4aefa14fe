"""FROM: datasets, their inner equi-joins, and the subqueries and CTEs that are inlined.

A name of a subquery stands for the expression that it was defined by, never for a column that happens to have the same
name further in: what a column is, is decided where it is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlglot import exp

from enclave_runner.contract.errors import Refused
from enclave_runner.plan.nodes import Expression, Join, Name, Source
from enclave_runner.plan.parse_constant import folded, output_name
from enclave_runner.plan.parse_expression import Built, Meter, Reader
from enclave_runner.plan.parse_text import only, place_of, position

MAX_SOURCES = 16
MAX_NESTING = 30
MAX_PAIRS = 16
SELECT = ("expressions", "from_", "joins", "where", "with_")


@dataclass(frozen=True)
class Relation:
    """What FROM calls by one name: a dataset under its alias in the plan, or the columns of a subquery."""

    alias: str = ""
    columns: Mapping[str, Built] | None = None  # None: a dataset, whose columns the catalogue knows

    def column(self, name: str, place: int) -> Built | None:
        """What the name stands for, None where the subquery has no such column."""
        if self.columns is None:
            return Built(Name(column=name, table=self.alias, position=place), 1, 1)
        return self.columns.get(folded(name))


@dataclass(frozen=True)
class Cte:
    """A WITH item; it sees those before it."""

    name: str
    node: exp.CTE


@dataclass
class Scope:
    """The names that one SELECT can use."""

    outermost: bool
    relations: dict[str, Relation] = field(default_factory=dict)
    merged: dict[str, Built] = field(default_factory=dict)  # by JOIN … USING

    def column(self, node: exp.Column) -> Built:
        """What the column stands for.

        Raises:
            Refused: `sql.unknown` where no such table or column can be; `sql.qualify` where more than one could be.
        """
        name, place = str(node.name), position(node)
        if node.args.get("table") is not None:
            relation = self.relations.get(folded(str(node.table)))
            built = relation.column(name, place) if relation else None
            if built is None:
                raise Refused("sql.unknown", what=f"{node.table}.{name}", position=place)
            return built
        return self.merged.get(folded(name)) or self._unqualified(name, place)

    def knows(self, name: str) -> bool:
        """Whether a subquery in FROM surely has a column of this name."""
        return any(item.columns is not None and folded(name) in item.columns for item in self.relations.values())

    @property
    def is_open(self) -> bool:
        """Whether a dataset stands in FROM, whose columns only the catalogue knows."""
        return any(item.columns is None for item in self.relations.values())

    def _unqualified(self, name: str, place: int) -> Built:
        found = [item.column(name, place) for item in self.relations.values()]
        possible = [built for built in found if built is not None]
        if len(possible) == 1:
            return possible[0]
        if not possible:
            raise Refused("sql.unknown", what=name, position=place)
        if self.outermost and all(item.columns is None for item in self.relations.values()):
            return Built(Name(column=name, table=None, position=place), 1, 1)
        raise Refused("sql.qualify", what=name, position=place)


class Sources:
    """Gathers the datasets, joins and conditions of all FROM and WHERE clauses of one statement."""

    def __init__(self, meter: Meter) -> None:
        self.sources: list[Source] = []
        self.joins: list[Join] = []
        self.conditions: list[Built] = []
        self._meter = meter
        self._read_ctes: set[int] = set()
        self._ctes: dict[int, exp.CTE] = {}

    def outermost(self, select: exp.Select) -> Scope:
        """The scope of the statement itself; a CTE that nothing reads is refused, since nothing would check it."""
        scope = self._scope(select, (), 0, outermost=True)
        for key, cte in self._ctes.items():
            if key not in self._read_ctes:
                raise Refused("sql.unused", what=str(cte.alias), position=position(cte))
        return scope

    def _scope(self, select: exp.Select, ctes: tuple[Cte, ...], level: int, *, outermost: bool) -> Scope:
        if level > MAX_NESTING:
            raise Refused("sql.too-deep", position=position(select))
        ctes += self._with(select)
        scope = Scope(outermost=outermost)
        source = select.args.get("from_")
        if source is None:
            raise Refused("sql.source", what="SELECT", position=position(select))
        only(source, "this")
        self._add(scope, source.this, ctes, level)
        for join in select.args.get("joins") or []:
            self._join(scope, join, ctes, level)
        where = select.args.get("where")
        if where is not None:
            self.conditions.append(Reader(self._meter, scope.column).read(where.this))
        return scope

    def _with(self, select: exp.Select) -> tuple[Cte, ...]:
        clause = select.args.get("with_")
        if clause is None:
            return ()
        if clause.args.get("recursive"):
            raise Refused("sql.subquery", position=position(clause.expressions[0]))
        only(clause, "expressions")
        found = tuple(Cte(folded(str(node.alias)), node) for node in clause.expressions)
        for index, cte in enumerate(found):
            only(cte.node, "this", "alias")
            if cte.name in {other.name for other in found[:index]}:
                raise Refused("sql.output-name", name=str(cte.node.alias), position=position(cte.node))
            self._ctes[id(cte.node)] = cte.node
        return found

    def _add(self, scope: Scope, node: exp.Expr, ctes: tuple[Cte, ...], level: int) -> Relation:
        """The relation of one FROM item, now under its name in the scope."""
        alias = node.args.get("alias")
        if isinstance(node, exp.Table) and isinstance(node.this, exp.Identifier):
            only(node, "this", "alias")
            name = str(node.alias or node.this.this)
            relation = self._named(node, name, ctes, level)
        elif isinstance(node, exp.Subquery) and isinstance(node.this, exp.Select):
            only(node, "this", "alias")
            name = str(node.alias) if alias is not None else f"subquery {len(scope.relations) + 1}"
            relation = self._derived(node.this, alias, ctes, level)
        elif isinstance(node, exp.Subquery):
            raise Refused("sql.subquery", position=position(node))
        else:
            what = str(node.this.sql_name() if isinstance(node.this, exp.Func) else node.key).upper()
            raise Refused("sql.source", what=what, position=position(node))
        if folded(name) in scope.relations:
            raise Refused("sql.output-name", name=name, position=position(node))
        scope.relations[folded(name)] = relation
        return relation

    def _named(self, node: exp.Table, name: str, ctes: tuple[Cte, ...], level: int) -> Relation:
        """The CTE of that name, the nearest first, or else the dataset."""
        wanted = folded(str(node.this.this))
        for index in reversed(range(len(ctes))):
            if ctes[index].name == wanted:
                cte = ctes[index].node
                self._read_ctes.add(id(cte))
                if not isinstance(cte.this, exp.Select) or (node.args.get("alias") and node.args["alias"].columns):
                    raise Refused("sql.subquery", position=position(cte))
                return self._derived(cte.this, cte.args.get("alias"), ctes[:index], level)
        alias = node.args.get("alias")
        if alias is not None and alias.columns:
            raise Refused("sql.unsupported", what="ALIAS COLUMNS", position=position(node))
        return Relation(alias=self._source(str(node.this.this), name, position(node)))

    def _source(self, dataset_id: str, name: str, place: int) -> str:
        """Adds the dataset under an alias that no other one of the plan has; the same table twice is two sources."""
        if len(self.sources) == MAX_SOURCES:
            raise Refused("sql.sources", max=MAX_SOURCES, position=place)
        taken = {folded(source.alias) for source in self.sources}
        alias, count = name, 1
        while folded(alias) in taken:
            count += 1
            alias = f"{name}_{count}"
        self.sources.append(Source(dataset_id=dataset_id, alias=output_name(alias, place), position=place))
        return alias

    def _derived(self, select: exp.Select, alias: exp.Expr | None, ctes: tuple[Cte, ...], level: int) -> Relation:
        """A subquery that chooses columns and filters rows: its columns as expressions of its own FROM."""
        for name, value in select.args.items():
            if value and name not in SELECT:
                raise Refused("sql.subquery", position=place_of(value, select))
        inner = self._scope(select, ctes, level + 1, outermost=False)
        renamed = [str(item.this) for item in (alias.args.get("columns") if alias is not None else None) or []]
        if len(select.expressions) == 1 and type(select.expressions[0]) is exp.Star:
            return self._whole(select.expressions[0], inner, renamed)
        if len(renamed) > len(select.expressions):
            raise Refused("sql.output-name", name=renamed[-1], position=position(select))
        reader, columns = Reader(self._meter, inner.column), {}
        for index, item in enumerate(select.expressions):
            name = renamed[index] if index < len(renamed) else _name(item)
            if folded(name) in columns:
                raise Refused("sql.output-name", name=name, position=position(item))
            columns[folded(name)] = reader.read(item.this if isinstance(item, exp.Alias) else item)
        return Relation(columns=columns)

    def _whole(self, star: exp.Star, inner: Scope, renamed: list[str]) -> Relation:
        """`SELECT * FROM one`, which only filters rows."""
        only(star)
        if renamed or len(inner.relations) != 1:
            raise Refused("sql.star", position=position(star))
        return next(iter(inner.relations.values()))

    def _join(self, scope: Scope, join: exp.Join, ctes: tuple[Cte, ...], level: int) -> None:
        kind = str(join.args.get("kind") or "INNER").upper()
        keyed = join.args.get("on") is not None or join.args.get("using")
        if any(value and name not in ("this", "kind", "on", "using") for name, value in join.args.items()):
            raise Refused("sql.join-form", position=position(join))
        if kind != "INNER" or not keyed or not isinstance(join.this, exp.Table | exp.Subquery):
            raise Refused("sql.join-form", position=position(join))
        before, number = dict(scope.relations), len(self.sources)
        relation = self._add(scope, join.this, ctes, level)
        if len(self.sources) != number + 1:
            raise Refused("sql.join-subquery", position=position(join.this))
        if join.args.get("using"):
            pairs = [self._using(scope, before, relation, column) for column in join.args["using"]]
        else:
            pairs = self._on(scope, join.args["on"], self.sources[number].alias)
        if not 0 < len(pairs) <= MAX_PAIRS:
            raise Refused("sql.join-form", position=position(join))
        self.joins.append(Join(source=number, pairs=tuple(pairs), position=position(join)))

    def _using(self, scope: Scope, before: dict[str, Relation], new: Relation, column: exp.Expr) -> tuple[Name, Name]:
        """The column on both sides; from here on, the bare name means the first of them."""
        name, place = str(column.name), position(column)
        left = scope.merged.get(folded(name))
        if left is None:
            left = Scope(outermost=False, relations=before).column(exp.column(column.copy()))
        right = new.column(name, place)
        if right is None:
            raise Refused("sql.unknown", what=name, position=place)
        scope.merged[folded(name)] = left
        self._meter.add(left.size + right.size)
        return _plain(left.expression, place), _plain(right.expression, place)

    def _on(self, scope: Scope, condition: exp.Expr, alias: str) -> list[tuple[Name, Name]]:
        """The equalities between an earlier source and the new one; what else ON says filters rows, as WHERE does."""
        pairs, stack, reader = [], [condition], Reader(self._meter, scope.column)
        while stack:
            node = stack.pop()
            if isinstance(node, exp.Paren):
                stack.append(node.this)
            elif isinstance(node, exp.And):
                stack += [node.expression, node.this]
            else:
                pair = self._pair(reader, node, alias)
                if pair is None:
                    self.conditions.append(reader.read(node))
                else:
                    pairs.append(pair)
        return pairs

    def _pair(self, reader: Reader, node: exp.Expr, alias: str) -> tuple[Name, Name] | None:
        if not isinstance(node, exp.EQ):
            return None
        left, right = (reader.read(side).expression for side in (node.this, node.expression))
        if not isinstance(left, Name) or not isinstance(right, Name):
            return None
        for side in (left, right):
            if side.table is None:
                raise Refused("sql.qualify", what=side.column, position=side.position)
        if right.table != alias:
            left, right = right, left
        return (left, right) if right.table == alias and left.table != alias else None


def _plain(expression: Expression, place: int) -> Name:
    if not isinstance(expression, Name):
        raise Refused("sql.join-form", position=place)
    return expression


def _name(item: exp.Expr) -> str:
    """The name of a subquery's column: its alias, or the column that it passes on."""
    if isinstance(item, exp.Alias) or (isinstance(item, exp.Column) and not isinstance(item.this, exp.Star)):
        return output_name(str(item.alias_or_name), position(item))
    if isinstance(item, exp.Star | exp.Column):
        raise Refused("sql.star", position=position(item))
    raise Refused("sql.unnamed", position=position(item))
