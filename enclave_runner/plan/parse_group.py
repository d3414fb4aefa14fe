"""GROUP BY: its keys and its grouping sets."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations, product

from sqlglot import exp

from enclave_runner.contract.errors import Refused
from enclave_runner.plan.nodes import Call, Expression, Key, Name, Slot
from enclave_runner.plan.parse_aggregate import bare
from enclave_runner.plan.parse_constant import folded
from enclave_runner.plan.parse_text import only, position

MAX_SETS = 64
MAX_KEYS = 16
Set = tuple[int, ...]


class Keys:
    """The keys of one statement. `read` gives the expression of a GROUP BY item, aliases and positions resolved."""

    def __init__(self, read: Callable[[exp.Expr], Expression]) -> None:
        self.expressions: list[Expression] = []
        self._numbers: dict[Expression, int] = {}
        self._read = read

    def add(self, expression: Expression, place: int) -> int:
        """The key's number; the same key twice is one."""
        known = self._numbers.setdefault(bare(expression), len(self.expressions))
        if known == len(self.expressions):
            if known == MAX_KEYS:
                raise Refused("sql.grouping", max=MAX_KEYS, position=place)
            self.expressions.append(expression)
        return known

    def sets(self, group: exp.Group) -> tuple[Set, ...]:
        """The grouping sets, finest first: the product over the items of GROUP BY, each key number once and in order.

        Raises:
            Refused: `sql.grouping` for too many, or for one that is there twice.
        """
        only(group, "expressions")
        if "all" in group.args:
            raise Refused("sql.clause", what="GROUP BY DISTINCT", position=position(group))
        found: list[Set] = [()]
        for item in group.expressions:
            alternatives = self._alternatives(item)
            if len(found) * len(alternatives) > MAX_SETS:
                raise Refused("sql.grouping", max=MAX_SETS, position=position(item))
            found = [_union(pair) for pair in product(found, alternatives)]
        if len(set(found)) != len(found):
            raise Refused("sql.grouping", max=MAX_SETS, position=position(group))
        return tuple(sorted(found, key=lambda numbers: (-len(numbers), numbers)))

    def lift(self, expression: Expression) -> Expression:
        """The expression over slots: keys become theirs.

        Raises:
            Refused: `sql.group` for a column that stands neither in GROUP BY nor in an aggregate.
        """
        number = self._numbers.get(bare(expression))
        if number is None and isinstance(expression, Name) and expression.table is None:
            number = self._only(expression.column)
        if number is not None:
            return Slot(is_key=True, index=number)
        if isinstance(expression, Name):
            raise Refused("sql.group", what=expression.column, position=expression.position)
        if not isinstance(expression, Call):
            return expression
        parts = tuple(self.lift(part) for part in expression.arguments)
        return Call(function=expression.function, arguments=parts, position=expression.position)

    def named(self, name: str) -> Expression | None:
        """The key that is the column of this name, if there is one."""
        found = (item for item in self.expressions if isinstance(item, Name) and folded(item.column) == folded(name))
        return next(found, None)

    def _only(self, column: str) -> int | None:
        """The one key t.column: where that exists, a bare `column` can mean nothing else."""
        found = [
            number
            for number, item in enumerate(self.expressions)
            if isinstance(item, Name) and item.table is not None and item.column == column
        ]
        return found[0] if len(found) == 1 else None

    def _alternatives(self, item: exp.Expr) -> list[Set]:
        """The sets that one item of GROUP BY stands for."""
        if isinstance(item, exp.GroupingSets):
            only(item, "expressions")
            return _bounded([numbers for part in item.expressions for numbers in self._alternatives(part)], item)
        if not isinstance(item, exp.Rollup | exp.Cube):
            return [self._set(item)]
        only(item, "expressions")
        parts = [self._set(part) for part in item.expressions]
        if isinstance(item, exp.Rollup):
            return _bounded([_union(parts[:count]) for count in range(len(parts), -1, -1)], item)
        if 2 ** len(parts) > MAX_SETS:
            raise Refused("sql.grouping", max=MAX_SETS, position=position(item))
        return [_union(chosen) for count in range(len(parts), -1, -1) for chosen in combinations(parts, count)]

    def _set(self, item: exp.Expr) -> Set:
        """`a`, `(a, b)` or `()`: keys that stand or fall together."""
        if isinstance(item, exp.Tuple):
            return _union([self._set(part) for part in item.expressions])
        if isinstance(item, exp.Rollup | exp.Cube | exp.GroupingSets):
            raise Refused("sql.unsupported", what=item.key.upper(), position=position(item))
        return (self.add(self._read(item), position(item)),)


def keys_of(keys: Keys, names: list[tuple[Expression, str]]) -> tuple[Key, ...]:
    """The keys under the names of the outputs that show them, else of their columns; no two alike."""
    shown = {bare(expression): name for expression, name in reversed(names)}
    taken: set[str] = set()
    made = []
    for number, expression in enumerate(keys.expressions):
        own = expression.column if isinstance(expression, Name) else f"key_{number + 1}"
        name = shown.get(bare(expression), own)
        while folded(name) in taken:
            name = f"{name}_{number + 1}"
        taken.add(folded(name))
        made.append(Key(expression=expression, name=name, position=getattr(expression, "position", 1)))
    return tuple(made)


def _union(parts: tuple[Set, ...] | list[Set]) -> Set:
    return tuple(sorted({number for part in parts for number in part}))


def _bounded(sets: list[Set], item: exp.Expr) -> list[Set]:
    if len(sets) > MAX_SETS:
        raise Refused("sql.grouping", max=MAX_SETS, position=position(item))
    return sets
