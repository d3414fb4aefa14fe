"""A small city: the tables over which plans are tested, and single rows of them."""

from __future__ import annotations

from datetime import date

from enclave_runner.contract.dataset import Column, ColumnType, DatasetSpec, KeyKind
from tests.support.enclave_home import column
from tests.support.plan_expressions import Row, Value

C = ColumnType
KINDS = ("a", "it's", '"q"', "党", "A", "a ", "none")
EPOCH = date(1970, 1, 1)
FIRST_DAY, LAST_DAY = date(1999, 12, 1), date(2020, 3, 31)


def city(
    low: int = -10,
    high: int = 20,
    wide: tuple[int, int] | None = None,
    cap: int = 1000,
    nullable: bool = True,
    limit: int = 3,
    visits: int = 2,
) -> tuple[DatasetSpec, ...]:
    """Events and visits (several rows of a unit), people (one row), areas (public).

    `low` and `high` bound amounts, `wide` instead of them; `limit` and `visits` are the rows per unit that count.
    """
    days = ((FIRST_DAY - EPOCH).days, (LAST_DAY - EPOCH).days)
    events = (
        column("who", C.TEXT),
        column("kind", C.TEXT, domain=KINDS, nullable=nullable),
        column("flag", C.BOOLEAN, nullable=nullable),
        column("level", C.INTEGER, domain=("-1", "0", "7"), bounds=(-1, 7), nullable=nullable),
        column("amount", C.INTEGER, bounds=wide or (low, high), nullable=nullable),
        column("money", C.DECIMAL, scale=2, bounds=(low * 7, high * 7), nullable=True),
        column("fee", C.DECIMAL, scale=2, bounds=(0, 10_000)),
        column("day", C.DATE, bounds=days, nullable=nullable),
        column("note", C.TEXT, nullable=nullable),
        column("area", C.TEXT, nullable=True),
    )
    people = (
        column("who", C.TEXT),
        column("sex", C.TEXT, domain=("m", "f"), nullable=True),
        column("age", C.INTEGER, bounds=(0, 12)),
        column("income", C.DECIMAL, scale=1, bounds=(-100, 10**6), nullable=True),
        column("active", C.BOOLEAN),
        column("nick", C.TEXT),
        column("home", C.TEXT),
    )
    places = (
        column("who", C.TEXT),
        column("place", C.TEXT, domain=("p", "q", "r")),
        column("cost", C.INTEGER, bounds=(-3, 9), nullable=True),
    )
    areas = (
        column("code", C.TEXT),
        column("city", C.TEXT, domain=("X", "Y")),
        column("rank", C.INTEGER, bounds=(0, 3), nullable=True),
        column("label", C.TEXT),
    )
    return (
        _table("events", events, cap, limit),
        _table("people", people, cap, 1, unique=True),
        _table("visits", places, cap, visits),
        _table("areas", areas, 100, 1, unique=True, public=True),
    )


def _table(
    name: str, columns: tuple[Column, ...], cap: int, limit: int, unique: bool = False, public: bool = False
) -> DatasetSpec:
    return DatasetSpec(
        dataset_id=name,
        columns=columns,
        entity_set="public" if public else "resident",
        entity_column="code" if public else "who",
        key_kind=KeyKind.OPAQUE,
        population_cap=cap,
        unique=unique,
        rows_per_entity=limit,
        public=public,
    )


def event(who: str, **cells: Value) -> tuple[str, Row]:
    """One row of events."""
    usual: dict[str, Value] = {
        "who": who, "kind": "a", "flag": True, "level": 7, "amount": 20, "money": 1, "fee": 10, "day": date(2020, 1, 1),
        "note": "x", "area": "c0",
    }  # fmt: skip
    return "events", tuple({**usual, **cells}.values())


def person(who: str, **cells: Value) -> tuple[str, Row]:
    """One row of people."""
    usual: dict[str, Value] = {
        "who": who, "sex": "m", "age": 12, "income": 10, "active": True, "nick": "s", "home": "c0",
    }  # fmt: skip
    return "people", tuple({**usual, **cells}.values())


def visit(who: str, place: str = "p", cost: Value = 9) -> tuple[str, Row]:
    """One row of visits."""
    return "visits", (who, place, cost)


AREAS: tuple[tuple[str, Row], ...] = tuple(
    ("areas", (code, name, 1, "l")) for code, name in (("c0", "X"), ("c1", "Y"), ("c2", "X"))
)
