"""What an expression may do: each operation with its interval arithmetic, its types and its SQL.

An operation is admitted only when its interval proves that it stays inside 62 bits, and division only by a constant: no
value can make the engine fail.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date, timedelta

from enclave_runner.contract.dataset import EPOCH
from enclave_runner.contract.errors import Refused
from enclave_runner.plan.nodes import Function
from enclave_runner.plan.scalar import (
    MAX_LABELS,
    MAX_SCALE,
    WORD,
    Kind,
    Scalar,
    common,
    ends,
    guarded,
    made,
    number,
    require_kind,
    rescaled,
    text,
    truth,
)

QUOTIENT_SCALE = 6
TRUNCATIONS = ("year", "quarter", "month", "week", "day")


def comparison(function: Function, left: Scalar, right: Scalar) -> Scalar:
    left, right = common([left, right])
    if function not in (Function.EQ, Function.NE):
        require_kind(left, Kind.NUMBER, Kind.DATE)
        require_kind(right, Kind.NUMBER, Kind.DATE)
    return truth(f"({left.sql} {function.value} {right.sql})", left, left.nullable or right.nullable)


def _membership(items: list[Scalar]) -> Scalar:
    needle, *constants = common(items)
    listed = ", ".join(item.sql for item in constants)
    return truth(f"({needle.sql} IN ({listed}))", needle, any(item.nullable for item in items))


def _logic(word: str) -> Callable[[list[Scalar]], Scalar]:
    def inner(items: list[Scalar]) -> Scalar:
        for item in items:
            require_kind(item, Kind.BOOLEAN)
        joined = f" {word} ".join(item.sql for item in items)
        return truth(f"({joined})", items[0], any(item.nullable for item in items))

    return inner


def _not(items: list[Scalar]) -> Scalar:
    require_kind(items[0], Kind.BOOLEAN)
    return truth(f"(NOT {items[0].sql})", items[0], items[0].nullable)


def _is_null(items: list[Scalar]) -> Scalar:
    return truth(f"({items[0].sql} IS NULL)", items[0], False)


def _sum(sign: int) -> Callable[[list[Scalar]], Scalar]:
    def inner(items: list[Scalar]) -> Scalar:
        left, right = (guarded(item) for item in common([*map(_numeric, items)]))
        (low, high), (a, b) = ends(left), ends(right)
        a, b = (a, b) if sign > 0 else (-b, -a)
        sql = f"({left.sql} {'+' if sign > 0 else '-'} {right.sql})"
        return made(sql, left, left.scale, low + a, high + b, left.nullable or right.nullable)

    return inner


def _numeric(item: Scalar) -> Scalar:
    require_kind(item, Kind.NUMBER)
    if item.kind is Kind.NULL:
        raise Refused("sql.type", what="arithmetic with NULL", position=item.position)
    return item


def _product(items: list[Scalar]) -> Scalar:
    left, right = (guarded(_numeric(item)) for item in items)
    corners = [x * y for x in ends(left) for y in ends(right)]
    nullable = left.nullable or right.nullable
    return made(f"({left.sql} * {right.sql})", left, left.scale + right.scale, min(corners), max(corners), nullable)


def _quotient(items: list[Scalar]) -> Scalar:
    """x / c in fixed point, truncated toward zero at six decimals."""
    left, right = guarded(_numeric(items[0])), _numeric(items[1])
    if right.constant is None or right.constant == 0:
        raise Refused("sql.division", position=right.position)
    scale = max(left.scale, QUOTIENT_SCALE)
    raised = rescaled(left, scale)
    low, high = (end * 10**right.scale for end in ends(raised))
    factor = f" * {number(10**right.scale)}" if right.scale else ""
    made("", left, scale, low, high, False)
    corners = [_truncated(end, right.constant) for end in (low, high)]
    sql = f"(({raised.sql}{factor}) // {number(right.constant)})"
    return made(sql, left, scale, min(corners), max(corners), left.nullable)


def _truncated(value: int, divisor: int) -> int:
    quotient = abs(value) // abs(divisor)
    return quotient if (value < 0) == (divisor < 0) else -quotient


def _negated(items: list[Scalar]) -> Scalar:
    inside = guarded(_numeric(items[0]))
    low, high = ends(inside)
    return made(f"(CAST(0 AS BIGINT) - {inside.sql})", inside, inside.scale, -high, -low, inside.nullable)


def _absolute(items: list[Scalar]) -> Scalar:
    inside = guarded(_numeric(items[0]))
    low, high = ends(inside)
    least = 0 if low <= 0 <= high else min(abs(low), abs(high))
    return made(f"abs({inside.sql})", inside, inside.scale, least, max(abs(low), abs(high)), inside.nullable)


def _floored(items: list[Scalar]) -> Scalar:
    """The largest whole number not above x; `//` truncates toward zero, so the remainder is made non-negative first."""
    inside = guarded(_numeric(items[0]))
    if inside.scale == 0:
        return inside
    low, high = ends(inside)
    unit = number(10**inside.scale)
    sql = f"(({inside.sql} - ((({inside.sql} % {unit}) + {unit}) % {unit})) // {unit})"
    unit_value = 10**inside.scale
    made("", inside, inside.scale, low - unit_value, high + unit_value, False)
    return made(sql, inside, 0, low // unit_value, high // unit_value, inside.nullable)


def _rounded(items: list[Scalar]) -> Scalar:
    """ROUND(x) or ROUND(x, digits), halves away from zero."""
    inside = guarded(_numeric(items[0]))
    digits = 0
    if len(items) > 1:
        if items[1].constant is None or items[1].scale != 0 or not 0 <= items[1].constant <= MAX_SCALE:
            raise Refused("sql.type", what="digits other than a constant from 0 to 12", position=items[1].position)
        digits = items[1].constant
    if inside.scale <= digits:
        return inside
    unit = 10 ** (inside.scale - digits)
    low, high = ends(inside)
    half = unit // 2
    made("", inside, inside.scale, low - half, high + half, False)
    up, down = f"({inside.sql} + {number(half)})", f"({inside.sql} - {number(half)})"
    zero, divisor = "CAST(0 AS BIGINT)", number(unit)
    sql = f"(CASE WHEN {inside.sql} >= {zero} THEN {up} ELSE {down} END // {divisor})"
    if inside.nullable:
        sql = f"CASE WHEN {inside.sql} IS NULL THEN NULL ELSE {sql} END"
    bounds = [_truncated(end + (half if end >= 0 else -half), unit) for end in (low, high)]
    return made(sql, inside, digits, min(bounds), max(bounds), inside.nullable)


def _extreme(name: str) -> Callable[[list[Scalar]], Scalar]:
    """LEAST or GREATEST. As in the engine nulls are passed over; the result is null only when all are.

    A bare column needs no guard here: comparing cannot overflow, and what the constants enforce is kept.
    """
    choose = min if name == "least" else max

    def inner(items: list[Scalar]) -> Scalar:
        items = common([_numeric(item) for item in items])
        sure = [item for item in items if not item.nullable]
        low = _end(min, choose, [item.low for item in items], [item.low for item in sure])
        high = _end(max, choose, [item.high for item in items], [item.high for item in sure])
        floor = _end(min, choose, [item.floor for item in items], [item.floor for item in sure])
        ceiling = _end(max, choose, [item.ceiling for item in items], [item.ceiling for item in sure])
        return replace(
            items[0],
            sql=f"{name}({', '.join(item.sql for item in items)})",
            low=low,
            high=high,
            floor=-WORD if floor is None else floor,
            ceiling=WORD - 1 if ceiling is None else ceiling,
            nullable=not sure,
            labels=None,
            constant=None,
        )

    return inner


def _end(
    outer: Callable[..., int], choose: Callable[..., int], every: Sequence[int | None], sure: Sequence[int | None]
) -> int | None:
    """One end of an extreme's interval; `outer` is min for the lower end and max for the upper one.

    Any value may be what is left when the others are null, so that the hull of all is the interval; but on the side to
    which the function chooses, every value that is never null bounds the result.
    """
    known = [end for end in sure if end is not None]
    if outer is not choose and known:
        return choose(known)
    ends = [end for end in every if end is not None]
    return outer(ends) if len(ends) == len(every) else None


def _span(items: Sequence[Scalar]) -> tuple[int | None, int | None, int, int]:
    """The hull of several numbers' intervals."""
    lows, highs = [item.low for item in items], [item.high for item in items]
    return (
        None if None in lows else min(low for low in lows if low is not None),
        None if None in highs else max(high for high in highs if high is not None),
        min(item.floor for item in items),
        max(item.ceiling for item in items),
    )


def _joined(sql: str, items: Sequence[Scalar], nullable: bool) -> Scalar:
    """One of several values of one kind."""
    known = [item for item in items if item.kind is not Kind.NULL]
    if not known:
        raise Refused("sql.type", what="NULL alone", position=items[0].position)
    labels: tuple[str, ...] | None = None
    if all(item.labels is not None for item in known):
        labels = tuple(dict.fromkeys(label for item in known for label in item.labels or ()))
    low, high, floor, ceiling = _span(known)
    return Scalar(
        sql=sql,
        kind=known[0].kind,
        position=items[0].position,
        scale=known[0].scale,
        low=low,
        high=high,
        floor=floor,
        ceiling=ceiling,
        nullable=nullable,
        labels=labels,
    )


def _coalesced(items: list[Scalar]) -> Scalar:
    items = common(items)
    return _joined(f"coalesce({', '.join(item.sql for item in items)})", items, all(item.nullable for item in items))


def _cases(items: list[Scalar]) -> Scalar:
    *pairs, default = items
    values = common([*pairs[1::2], default])
    for test in pairs[::2]:
        require_kind(test, Kind.BOOLEAN)
    arms = " ".join(f"WHEN {test.sql} THEN {value.sql}" for test, value in zip(pairs[::2], values, strict=False))
    return _joined(f"CASE {arms} ELSE {values[-1].sql} END", values, any(value.nullable for value in values))


def _part(name: str, low: int | None, high: int | None) -> Callable[[list[Scalar]], Scalar]:
    def inner(items: list[Scalar]) -> Scalar:
        (day,) = map(_calendar, items)
        least, most = low, high
        if name == "year" and day.low is not None and day.high is not None:
            least, most = ((EPOCH + timedelta(days=end)).year for end in (day.low, day.high))
        sql = f"CAST({name}({day.sql}) AS BIGINT)"
        enforced = (least, most) if name != "year" and least is not None and most is not None else (-WORD, WORD - 1)
        return Scalar(
            sql=sql,
            kind=Kind.NUMBER,
            position=day.position,
            low=least,
            high=most,
            floor=enforced[0],
            ceiling=enforced[1],
            nullable=day.nullable,
        )

    return inner


def _calendar(item: Scalar) -> Scalar:
    require_kind(item, Kind.DATE)
    return item


def _truncation(items: list[Scalar]) -> Scalar:
    unit, day = items[0].labels, _calendar(items[1])
    if unit is None or len(unit) != 1 or unit[0] not in TRUNCATIONS:
        raise Refused("sql.type", what=f"a unit other than {', '.join(TRUNCATIONS)}", position=items[0].position)
    labels = None
    low = high = None
    if day.low is not None and day.high is not None and day.high - day.low < MAX_LABELS:
        days = (EPOCH + timedelta(days=offset) for offset in range(day.low, day.high + 1))
        labels = tuple(dict.fromkeys(_start(each, unit[0]).isoformat() for each in days))
        low, high = ((date.fromisoformat(label) - EPOCH).days for label in (labels[0], labels[-1]))
    sql = f"CAST(date_trunc({text(unit[0])}, {day.sql}) AS DATE)"
    return Scalar(
        sql=sql, kind=Kind.DATE, position=day.position, low=low, high=high, nullable=day.nullable, labels=labels
    )


def _start(day: date, unit: str) -> date:
    match unit:
        case "year":
            return day.replace(month=1, day=1)
        case "quarter":
            return day.replace(month=(day.month - 1) // 3 * 3 + 1, day=1)
        case "month":
            return day.replace(day=1)
        case "week":
            return day - timedelta(days=day.weekday())
    return day


def _bucket(items: list[Scalar]) -> Scalar:
    """WIDTH_BUCKET(x, low, high, n): 0 below low, n + 1 from high on, else 1 to n. Bounds of x are not needed."""
    *inner, count = [_numeric(item) for item in items]
    value, low, high = common(inner)
    if low.constant is None or high.constant is None or count.constant is None or count.scale != 0:
        raise Refused("sql.type", what="buckets that are no constants", position=items[1].position)
    if low.constant >= high.constant or not 0 < count.constant <= MAX_LABELS:
        raise Refused("sql.type", what="buckets with low < high and a number from 1 on", position=items[1].position)
    inside = f"greatest(least({value.sql}, {number(high.constant)}), {number(low.constant)})"
    width = high.constant - low.constant
    made("", value, 0, 0, width * count.constant, False)
    offset = f"(({inside} - {number(low.constant)}) * {count.sql}) // {number(width)}"
    sql = (
        f"CASE WHEN {value.sql} IS NULL THEN NULL WHEN {value.sql} < {low.sql} THEN CAST(0 AS BIGINT) "
        f"ELSE ({offset}) + CAST(1 AS BIGINT) END"
    )
    return made(sql, value, 0, 0, count.constant + 1, value.nullable)


OPERATIONS: dict[Function, Callable[[list[Scalar]], Scalar]] = {
    Function.ADD: _sum(1),
    Function.SUBTRACT: _sum(-1),
    Function.MULTIPLY: _product,
    Function.DIVIDE: _quotient,
    Function.NEGATE: _negated,
    Function.ABS: _absolute,
    Function.FLOOR: _floored,
    Function.ROUND: _rounded,
    Function.LEAST: _extreme("least"),
    Function.GREATEST: _extreme("greatest"),
    Function.IN: _membership,
    Function.AND: _logic("AND"),
    Function.OR: _logic("OR"),
    Function.NOT: _not,
    Function.IS_NULL: _is_null,
    Function.COALESCE: _coalesced,
    Function.CASE: _cases,
    Function.YEAR: _part("year", None, None),
    Function.QUARTER: _part("quarter", 1, 4),
    Function.MONTH: _part("month", 1, 12),
    Function.DATE_TRUNC: _truncation,
    Function.WIDTH_BUCKET: _bucket,
}
