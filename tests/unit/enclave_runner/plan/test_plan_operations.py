"""Operations: what each gives row by row, against Python over small ranges; the proven interval; what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import date, timedelta
from fractions import Fraction
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave_runner.contract.errors import Refused
from enclave_runner.plan.nodes import Function
from enclave_runner.plan.operations import OPERATIONS
from enclave_runner.plan.scalar import EPOCH, WORD, Kind, Scalar, guarded, whole_labels
from tests.support.expressions import Cell, Engine, typed

SMALL: list[dict[str, Cell]] = [
    {"x": x, "y": y, "z": z, "t": t, "f": f}
    for x, y, z, t, f in product(range(-6, 7, 3), range(-15, 26, 4), (None, -3, 0, 2, 4), (None, "a"), (None, True))
]
DAYS: list[dict[str, Cell]] = [
    {"x": 0, "y": 0, "d": EPOCH + timedelta(days=n), "e": EPOCH + timedelta(days=n)} for n in range(-400, 401, 3)
]
ENGINE, CALENDAR = Engine.of(SMALL), Engine.of([*DAYS, {"x": 0, "y": 0}])
Reference = Callable[..., object]


def _truncated(value: Fraction, digits: int) -> Fraction:
    return Fraction(int(value * 10**digits), 10**digits)


def _rounded(value: Fraction, digits: int = 0) -> Fraction:
    scaled = abs(value) * 10**digits
    whole = math.floor(scaled + Fraction(1, 2))
    return Fraction(whole if value >= 0 else -whole, 10**digits)


def _or(*values: bool | None) -> bool | None:
    return True if True in values else None if None in values else False


NUMERIC: dict[str, Reference] = {
    "x + y": lambda x, y, z, t, f: x + y,
    "x - z": lambda x, y, z, t, f: None if z is None else x - z,
    "y - 1.5 + 2": lambda x, y, z, t, f: y - Fraction(3, 2) + 2,
    "x * y": lambda x, y, z, t, f: x * y,
    "y * -0.25": lambda x, y, z, t, f: y * Fraction(-1, 4),
    "x / 4": lambda x, y, z, t, f: _truncated(x / 4, 6),
    "y / -3": lambda x, y, z, t, f: _truncated(y / -3, 6),
    "y / 0.7": lambda x, y, z, t, f: _truncated(y / Fraction(7, 10), 6),
    "-y": lambda x, y, z, t, f: -y,
    "ABS(y)": lambda x, y, z, t, f: abs(y),
    "ABS(z)": lambda x, y, z, t, f: None if z is None else abs(z),
    "FLOOR(y)": lambda x, y, z, t, f: math.floor(y),
    "FLOOR(y / 2)": lambda x, y, z, t, f: math.floor(_truncated(y / 2, 6)),
    "FLOOR(x)": lambda x, y, z, t, f: x,
    "ROUND(y)": lambda x, y, z, t, f: _rounded(y),
    "ROUND(z / 8, 2)": lambda x, y, z, t, f: None if z is None else _rounded(_truncated(z / 8, 6), 2),
    "ROUND(y, 1)": lambda x, y, z, t, f: y,
    "LEAST(x, z)": lambda x, y, z, t, f: x if z is None else min(x, z),
    "GREATEST(x, y, 0.5)": lambda x, y, z, t, f: max(x, y, Fraction(1, 2)),
    "GREATEST(z, z)": lambda x, y, z, t, f: z,
    "COALESCE(z, x)": lambda x, y, z, t, f: x if z is None else z,
    "COALESCE(z, NULL, 7)": lambda x, y, z, t, f: 7 if z is None else z,
    "CASE WHEN f THEN x WHEN x > 2 THEN y ELSE z END": lambda x, y, z, t, f: x if f else y if x > 2 else z,
    "CASE WHEN z < 1 THEN 1 END": lambda x, y, z, t, f: 1 if z is not None and z < 1 else None,
    "NULLIF(x, 3)": lambda x, y, z, t, f: None if x == 3 else x,
    "WIDTH_BUCKET(x, -3, 3, 3)": lambda x, y, z, t, f: 0 if x < -3 else min((x + 3) * 3 // 6, 3) + 1,
    "WIDTH_BUCKET(z, -1, 1.5, 5)": lambda x, y, z, t, f: (
        None if z is None else 0 if z < -1 else min(math.floor((z + 1) * 2), 5) + 1
    ),
}
TRUTHS: dict[str, Reference] = {
    "x = y": lambda x, y, z, t, f: x == y,
    "x <> z": lambda x, y, z, t, f: None if z is None else x != z,
    "y < 1.5": lambda x, y, z, t, f: y < Fraction(3, 2),
    "y <= x": lambda x, y, z, t, f: y <= x,
    "x > z": lambda x, y, z, t, f: None if z is None else x > z,
    "x >= -3": lambda x, y, z, t, f: x >= -3,
    "y BETWEEN -1 AND 1": lambda x, y, z, t, f: -1 <= y <= 1,
    "x IN (0, 3)": lambda x, y, z, t, f: x in (0, 3),
    "t = 'a'": lambda x, y, z, t, f: None if t is None else t == "a",
    "t IN ('a', 'it''s')": lambda x, y, z, t, f: None if t is None else t == "a",
    "z IS NULL": lambda x, y, z, t, f: z is None,
    "NOT f": lambda x, y, z, t, f: None if f is None else not f,
    "f = true": lambda x, y, z, t, f: f,
    "f OR x > 0": lambda x, y, z, t, f: _or(f, x > 0),
    "f AND x > 0": lambda x, y, z, t, f: False if x <= 0 else f,
}
BY_DAY: dict[str, Callable[[date], object]] = {
    "YEAR(d)": lambda d: d.year,
    "QUARTER(d)": lambda d: (d.month + 2) // 3,
    "MONTH(d)": lambda d: d.month,
    "DATE_TRUNC('year', d)": lambda d: d.replace(month=1, day=1),
    "DATE_TRUNC('quarter', d)": lambda d: d.replace(month=(d.month + 2) // 3 * 3 - 2, day=1),
    "DATE_TRUNC('month', d)": lambda d: d.replace(day=1),
    "DATE_TRUNC('week', d)": lambda d: d - timedelta(days=d.weekday()),
    "DATE_TRUNC('day', d)": lambda d: d,
    "d >= DATE '1970-01-05'": lambda d: d >= date(1970, 1, 5),
    "d = '1970-01-02'": lambda d: d == date(1970, 1, 2),
}


def expected(reference: Reference, row: dict[str, Cell]) -> object:
    x, y, z = row["x"], Fraction(row["y"], 10), row["z"]  # type: ignore[arg-type]
    whole = None if z is None else Fraction(z)  # type: ignore[arg-type]
    return reference(Fraction(x), y, whole, row["t"], row["f"])  # type: ignore[arg-type]


@pytest.mark.parametrize("text", NUMERIC)
def test_numbers_are_exact_in_fixed_point_and_inside_the_proven_interval(text: str) -> None:
    item = typed(text)
    values = ENGINE.values(item.sql)
    for row, value in zip(SMALL, values, strict=True):
        shown = None if value is None else Fraction(int(value), 10**item.scale)  # type: ignore[arg-type]
        assert shown == expected(NUMERIC[text], row), (text, row)
        assert value is not None or item.nullable
    inside = guarded(item)
    assert ENGINE.values(inside.sql) == values  # what is guarded is what was declared
    assert inside.low is not None
    assert inside.high is not None
    assert all(value is None or inside.low <= int(value) <= inside.high for value in values)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", TRUTHS)
def test_truths_follow_three_valued_logic(text: str) -> None:
    item = typed(text)
    assert item.kind is Kind.BOOLEAN
    for row, value in zip(SMALL, ENGINE.values(item.sql), strict=True):
        assert value == expected(TRUTHS[text], row), (text, row)
        assert value is not None or item.nullable


@pytest.mark.parametrize("text", BY_DAY)
def test_the_calendar(text: str) -> None:
    item = typed(text)
    *values, missing = CALENDAR.values(item.sql)
    assert missing is None
    assert item.nullable
    assert values == [BY_DAY[text](row["d"]) for row in DAYS]  # type: ignore[arg-type]
    labels = whole_labels(item)
    assert labels is not None
    shown = CALENDAR.values(f"CAST({item.sql} AS VARCHAR)")
    assert {value for value in shown if value is not None} <= set(labels)


def test_labels_of_a_key_are_the_public_values_in_order() -> None:
    assert whole_labels(typed("x")) == tuple(str(n) for n in range(-6, 7))
    assert whole_labels(typed("WIDTH_BUCKET(u, 0, 10, 2)")) == ("0", "1", "2", "3")
    assert whole_labels(typed("CASE WHEN f THEN 'old' ELSE t END")) == ("old", "a", "b")
    assert whole_labels(typed("x > 1")) == ("false", "true")
    assert whole_labels(typed("MONTH(e)")) == tuple(str(n) for n in range(1, 13))
    for text in ("u", "y", "YEAR(e)", "DATE_TRUNC('month', e)", "x * x * x * x * x * x * x"):
        assert whole_labels(typed(text)) is None


def test_a_catalogue_bound_that_a_value_breaks_is_enforced_before_arithmetic() -> None:
    engine = Engine.of([{"x": value, "y": 0} for value in (-(2**63), -7, 7, 2**63 - 1)])
    assert engine.values(typed("x + 0").sql) == [-6, -6, 6, 6]
    assert engine.values(guarded(typed("CASE WHEN f THEN 1 ELSE x END")).sql) == [-6, -6, 6, 6]
    assert engine.values(guarded(typed("LEAST(x, 100)")).sql) == [-6, -6, 6, 6]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("t + 1", "sql.type"),
        ("f * 2", "sql.type"),
        ("x + NULL", "sql.type"),
        ("ABS(t)", "sql.type"),
        ("YEAR(x)", "sql.type"),
        ("d + 1", "sql.type"),
        ("x = t", "sql.type"),
        ("t < 'b'", "sql.type"),
        ("f > true", "sql.type"),
        ("f AND x", "sql.type"),
        ("NOT x", "sql.type"),
        ("x IN (1, 'a')", "sql.type"),
        ("d = t", "sql.type"),
        ("LEAST(t, 'b')", "sql.type"),
        ("COALESCE(x, 'b')", "sql.type"),
        ("CASE WHEN x THEN 1 ELSE 2 END", "sql.type"),
        ("CASE WHEN f THEN 1 ELSE 'a' END", "sql.type"),
        ("CASE WHEN f THEN NULL ELSE NULL END", "sql.type"),
        ("WIDTH_BUCKET(x, 10, 0, 2)", "sql.type"),
        ("x / y", "sql.division"),
        ("x / 0", "sql.division"),
        ("x / (1 - 1)", "sql.division"),
        ("u + 1", "dataset.bound-missing"),
        ("ABS(u)", "dataset.bound-missing"),
        ("LEAST(u, 3) + 1", "dataset.bound-missing"),
        ("YEAR(e) + 1", "dataset.bound-missing"),
        ("999999999999999999 * 999999999999999999", "sql.overflow"),
        ("x * 1000000000000000000", "sql.constant"),
        ("x * 900000000000000000 + x * 900000000000000000", "sql.overflow"),
        ("y * 0.000001 * 0.000001 * 0.1", "sql.overflow"),
        ("d = '1970-02-30'", "sql.constant"),
    ],
)
def test_what_has_no_answer_for_some_row_is_refused_where_it_stands(text: str, rule: str) -> None:
    with pytest.raises(Refused) as caught:
        guarded(typed(text)) if typed(text).kind is Kind.NUMBER else typed(text)
    assert caught.value.rule == rule


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (Function.WIDTH_BUCKET, ("x", "y", "10", "2")),
        (Function.WIDTH_BUCKET, ("x", "0", "10", "x")),
        (Function.WIDTH_BUCKET, ("x", "0", "10", "0")),
        (Function.WIDTH_BUCKET, ("x", "0", "10", "1.5")),
        (Function.ROUND, ("y", "x")),
        (Function.ROUND, ("y", "13")),
        (Function.DATE_TRUNC, ("'hour'", "d")),
        (Function.DATE_TRUNC, ("t", "d")),
    ],
)
def test_what_the_reader_lets_through_no_more_is_refused_here_too(
    function: Function, arguments: tuple[str, ...]
) -> None:
    with pytest.raises(Refused) as caught:
        OPERATIONS[function]([typed(argument) for argument in arguments])
    assert caught.value.rule == "sql.type"


def test_bounds_that_the_expression_sets_are_enough() -> None:
    assert typed("LEAST(GREATEST(u, 0), 10) + 1").high == 11
    assert guarded(typed("CASE WHEN u > 5 THEN 5 WHEN u < 0 THEN 0 ELSE 3 END")).high == 5


def test_every_function_of_the_plan_has_an_operation() -> None:
    comparisons = {Function.EQ, Function.NE, Function.LT, Function.LE, Function.GT, Function.GE}
    assert set(OPERATIONS) | comparisons == set(Function)


NUMBERS = st.sampled_from(["x", "y", "z", "0", "1", "-2.5", "3", "7"])
WHOLE = st.sampled_from(["2", "-3", "0.7", "7"])


def _deeper(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    test = st.one_of(
        st.sampled_from(["f", "t = 'a'", "z IS NULL"]),
        st.builds("({} {} {})".format, inner, st.sampled_from(["<", "<=", "=", "<>"]), inner),
    )
    return st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from("+-*"), inner),
        st.builds("({} / {})".format, inner, WHOLE),
        st.builds("{}({})".format, st.sampled_from(["ABS", "FLOOR", "ROUND", "-"]), inner),
        st.builds("ROUND({}, {})".format, inner, st.integers(0, 4)),
        st.builds("{}({}, {})".format, st.sampled_from(["LEAST", "GREATEST", "COALESCE", "NULLIF"]), inner, inner),
        st.builds("CASE WHEN {} THEN {} ELSE {} END".format, test, inner, inner),
        st.builds("WIDTH_BUCKET({}, -1, 2.5, 3)".format, inner),
    )


EXTREMES = [0, 1, -1, 6, -6, 25, -15, 2**31, 2**62, -(2**62), WORD - 1, -WORD]
WILD = Engine.of(
    [
        {"x": x, "y": y, "z": z, "u": x, "t": t, "f": f}
        for x, y in zip(EXTREMES, reversed(EXTREMES), strict=True)
        for z, t, f in ((None, None, None), (x, "a", True), (y, "other", False))
    ]
)


@given(st.recursive(NUMBERS, _deeper, max_leaves=8))
@settings(max_examples=150, deadline=None)
def test_no_stored_value_can_make_an_admitted_expression_fail_or_leave_its_interval(text: str) -> None:
    """Stored values are taken from the whole of 64 bits here: not even a wrong catalogue would be an error oracle."""
    try:
        item: Scalar = guarded(typed(text))
    except Refused as refused:
        assert refused.rule in {"sql.overflow", "sql.type", "dataset.bound-missing"}, refused
        return
    assert item.low is not None
    assert item.high is not None
    for value in WILD.values(item.sql):
        assert (value is None and item.nullable) or item.low <= int(value) <= item.high  # type: ignore[arg-type]
