"""A typed row-local expression: its proven interval, and the SQL that computes it without ever raising.

Numbers are 64-bit integers in units of 10^-scale throughout; no float takes part.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from enum import Enum

from enclave_runner.contract.dataset import EPOCH, Column, ColumnType
from enclave_runner.contract.errors import Refused
from enclave_runner.plan.nodes import Constant, Literal

WORD = 1 << 63
SAFE = 1 << 62
MAX_SCALE = 12
MAX_LABELS = 100_000
NUMBER = re.compile(r"([+-]?)([0-9]{1,18})(?:\.([0-9]{1,6}))?")


class Kind(Enum):
    """The type of a value; NULL is that of a bare NULL, which fits any."""

    NUMBER = "number"
    TEXT = "text"
    BOOLEAN = "truth value"
    DATE = "date"
    NULL = "null"


@dataclass(frozen=True)
class Scalar:
    """A typed expression.

    `low` and `high` are what the catalogue declares of every value that is not null (numbers in units of 10^-scale,
    dates in days since 1970), None where it declares nothing; `floor` and `ceiling` are what the SQL itself enforces.
    `labels` is the finite public set of its values as text, where there is one. `position` is where it stands.
    """

    sql: str
    kind: Kind
    position: int
    scale: int = 0
    low: int | None = None
    high: int | None = None
    floor: int = -WORD
    ceiling: int = WORD - 1
    nullable: bool = False
    labels: tuple[str, ...] | None = None
    constant: int | None = None


def column_scalar(column: Column, sql: str, position: int) -> Scalar:
    """A column of the extract."""
    kinds = {ColumnType.TEXT: Kind.TEXT, ColumnType.BOOLEAN: Kind.BOOLEAN, ColumnType.DATE: Kind.DATE}
    low, high = column.bounds or (None, None)
    return Scalar(
        sql=sql,
        kind=kinds.get(column.type, Kind.NUMBER),
        position=position,
        scale=column.scale,
        low=low,
        high=high,
        nullable=column.nullable,
        labels=("false", "true") if column.type is ColumnType.BOOLEAN else column.domain,
    )


def guarded(item: Scalar) -> Scalar:
    """A number whose SQL enforces the declared interval, null staying null.

    Raises:
        Refused: `sql.type`, `dataset.bound-missing`.
    """
    require_kind(item, Kind.NUMBER)
    if item.constant is not None or item.kind is Kind.NULL:
        return item
    low = item.low if item.low is not None else item.floor if item.floor > -WORD else None
    high = item.high if item.high is not None else item.ceiling if item.ceiling < WORD - 1 else None
    if low is None or high is None:
        raise Refused("dataset.bound-missing", column=_short(item.sql))
    sql = item.sql
    if item.ceiling > high:
        sql = f"least({sql}, {number(high)})"
    if item.floor < low:
        sql = f"greatest({sql}, {number(low)})"
    if sql != item.sql and item.nullable:
        sql = f"CASE WHEN {item.sql} IS NULL THEN NULL ELSE {sql} END"
    return replace(item, sql=sql, low=low, high=high, floor=low, ceiling=high)


def rescaled(item: Scalar, scale: int) -> Scalar:
    """The same number in units of 10^-scale, a scale that is not coarser.

    Raises:
        Refused: `sql.overflow`.
    """
    if item.kind is Kind.NULL or item.scale == scale:
        return replace(item, scale=scale)
    factor = 10 ** (scale - item.scale)
    if item.constant is not None:
        return number_constant(item.constant * factor, scale, item.position)
    inside = guarded(item)
    low, high = ends(inside)
    return made(f"({inside.sql} * {number(factor)})", item, scale, low * factor, high * factor, inside.nullable)


def ends(item: Scalar) -> tuple[int, int]:
    """The interval of a guarded number."""
    if item.low is None or item.high is None:
        raise Refused("dataset.bound-missing", column=_short(item.sql))
    return item.low, item.high


def number(value: int) -> str:
    """An integer constant. It carries a cast: a bare one would be INT32 and overflow."""
    return f"CAST({value} AS {'BIGINT' if -WORD < value < WORD else 'HUGEINT'})"


def text(value: str) -> str:
    """A text constant."""
    return "'" + value.replace("'", "''") + "'"


def _short(sql: str) -> str:
    names = re.findall(r'"((?:[^"]|"")+)"', sql)
    return names[0] if names else "expression"


def made(sql: str, near: Scalar, scale: int, low: int, high: int, nullable: bool) -> Scalar:
    """A computed number: its interval is what the SQL yields, so it is enforced as well."""
    if max(abs(low), abs(high)) >= SAFE or scale > MAX_SCALE:
        raise Refused("sql.overflow", position=near.position)
    return Scalar(
        sql=sql,
        kind=Kind.NUMBER,
        position=near.position,
        scale=scale,
        low=low,
        high=high,
        floor=low,
        ceiling=high,
        nullable=nullable,
    )


def truth(sql: str, near: Scalar, nullable: bool) -> Scalar:
    return Scalar(sql=sql, kind=Kind.BOOLEAN, position=near.position, nullable=nullable, labels=("false", "true"))


def number_constant(value: int, scale: int, position: int) -> Scalar:
    if abs(value) >= SAFE:
        raise Refused("sql.overflow", position=position)
    return Scalar(
        sql=number(value),
        kind=Kind.NUMBER,
        position=position,
        scale=scale,
        low=value,
        high=value,
        floor=value,
        ceiling=value,
        labels=(str(value),) if scale == 0 else None,
        constant=value,
    )


def constant(item: Constant) -> Scalar:
    match item.kind:
        case Literal.NULL:
            return Scalar(sql="NULL", kind=Kind.NULL, position=item.position, nullable=True, labels=())
        case Literal.BOOLEAN:
            sql = f"CAST({text(item.text)} AS BOOLEAN)"
            return Scalar(sql=sql, kind=Kind.BOOLEAN, position=item.position, labels=(item.text,))
        case Literal.NUMBER:
            match = NUMBER.fullmatch(item.text)
            if match is None:
                raise Refused("sql.constant", column=item.text[:32], position=item.position)
            digits = (match[3] or "").rstrip("0")
            value = int(match[2] + digits)
            return number_constant(-value if match[1] == "-" else value, len(digits), item.position)
        case Literal.DATE:
            return date_constant(item.text, item.position)
        case Literal.TEXT:
            if len(item.text) > 1000 or "\0" in item.text:
                raise Refused("sql.constant", column="text", position=item.position)
            return Scalar(sql=text(item.text), kind=Kind.TEXT, position=item.position, labels=(item.text,))


def date_constant(written: str, position: int) -> Scalar:
    try:
        day = date.fromisoformat(written)
    except ValueError:
        raise Refused("sql.constant", column=written[:32], position=position) from None
    days = (day - EPOCH).days
    return Scalar(
        sql=f"CAST({text(day.isoformat())} AS DATE)",
        kind=Kind.DATE,
        position=position,
        low=days,
        high=days,
        floor=days,
        ceiling=days,
        labels=(day.isoformat(),),
    )


def require_kind(item: Scalar, *kinds: Kind) -> None:
    if item.kind not in (*kinds, Kind.NULL):
        wanted = " or ".join(kind.value for kind in kinds)
        raise Refused("sql.type", what=f"a {item.kind.value} where a {wanted} is needed", position=item.position)


def common(items: Sequence[Scalar]) -> list[Scalar]:
    """Numbers at one scale, dates and texts as they are; texts beside dates are read as dates."""
    kinds = {item.kind for item in items} - {Kind.NULL}
    if kinds == {Kind.DATE, Kind.TEXT}:
        items = [_as_date(item) for item in items]
    elif len(kinds) > 1:
        other = next(item for item in items if item.kind is not items[0].kind and item.kind is not Kind.NULL)
        raise Refused("sql.type", what=f"a {items[0].kind.value} beside a {other.kind.value}", position=other.position)
    if Kind.NUMBER not in kinds:
        return list(items)
    scale = max(item.scale for item in items)
    return [rescaled(item, scale) for item in items]


def _as_date(item: Scalar) -> Scalar:
    if item.kind is not Kind.TEXT:
        return item
    if item.labels is None or item.sql != text(item.labels[0]):
        raise Refused("sql.type", what="a text beside a date", position=item.position)
    return date_constant(item.labels[0], item.position)


def whole_labels(item: Scalar) -> tuple[str, ...] | None:
    """The public set of values of a key: declared, or every whole number or day of a declared interval."""
    if item.labels is not None:
        return item.labels or None
    if item.low is None or item.high is None or item.high - item.low >= MAX_LABELS:
        return None
    if item.kind is Kind.DATE:
        return tuple((EPOCH + timedelta(days=day)).isoformat() for day in range(item.low, item.high + 1))
    whole = item.kind is Kind.NUMBER and item.scale == 0
    return tuple(str(value) for value in range(item.low, item.high + 1)) if whole else None
