"""Constants, columns and the guard: what is read, what is enforced, and one scale for all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_runner.contract.dataset import ColumnType
from enclave_runner.contract.errors import Refused
from enclave_runner.plan.nodes import Constant, Literal
from enclave_runner.plan.scalar import SAFE, Kind, common, constant, ends, guarded, made, rescaled
from tests.support.expressions import BY_NAME, typed


def read(kind: Literal, text: str) -> object:
    return constant(Constant(kind=kind, text=text, position=3))


def refused(kind: Literal, text: str) -> str:
    with pytest.raises(Refused) as caught:
        read(kind, text)
    assert caught.value.facts["position"] == "3"
    return caught.value.rule


@pytest.mark.parametrize(
    ("text", "value", "scale"),
    [("0", 0, 0), ("-0", 0, 0), ("+5", 5, 0), ("007", 7, 0), ("1.50", 15, 1), ("-0.000001", -1, 6), ("2.000", 2, 0)],
)
def test_a_number_is_exact_at_the_least_scale(text: str, value: int, scale: int) -> None:
    found = constant(Constant(kind=Literal.NUMBER, text=text, position=1))
    assert (found.constant, found.scale, found.low, found.high) == (value, scale, value, value)
    assert found.kind is Kind.NUMBER


@pytest.mark.parametrize(
    "text",
    ["", "1e5", "NaN", "inf", "0x1", "1_0", "１", "٣", " 1", "1\n", "9" * 19, "1.", ".5", "1.1234567", "--1", "1.5.2"],
)
def test_what_is_no_plain_number_is_refused(text: str) -> None:
    assert refused(Literal.NUMBER, text) == "sql.constant"


def test_a_number_beyond_62_bits_is_refused() -> None:
    assert refused(Literal.NUMBER, "999999999999999999.9") == "sql.overflow"
    assert constant(Constant(kind=Literal.NUMBER, text="9" * 18, position=1)).constant == 10**18 - 1


def test_texts_dates_truths_and_nothing() -> None:
    day = constant(Constant(kind=Literal.DATE, text="1970-02-01", position=1))
    assert (day.kind, day.low, day.sql) == (Kind.DATE, 31, "CAST('1970-02-01' AS DATE)")
    assert constant(Constant(kind=Literal.TEXT, text="it's", position=1)).sql == "'it''s'"
    assert constant(Constant(kind=Literal.BOOLEAN, text="true", position=1)).labels == ("true",)
    nothing = constant(Constant(kind=Literal.NULL, text="", position=1))
    assert (nothing.kind, nothing.nullable) == (Kind.NULL, True)
    for kind, text in (
        (Literal.DATE, "1970-02-30"),
        (Literal.DATE, "today"),
        (Literal.TEXT, "x" * 1001),
        (Literal.TEXT, "a\0"),
    ):
        assert refused(kind, text) == "sql.constant"


def test_a_column_declares_its_bounds_and_enforces_nothing_yet() -> None:
    x = typed("x")
    assert (x.low, x.high, x.nullable, x.sql) == (-6, 6, False, 't0."x"')
    assert x.floor < -(2**62)
    assert guarded(x).sql == 'greatest(least(t0."x", CAST(6 AS BIGINT)), CAST(-6 AS BIGINT))'
    assert guarded(guarded(x)) == guarded(x)
    assert typed("f").labels == ("false", "true")
    assert typed("t").labels == BY_NAME["t"].domain


def test_a_guard_keeps_null_null() -> None:
    assert guarded(typed("z")).sql.startswith('CASE WHEN t0."z" IS NULL THEN NULL ELSE greatest(')


def test_what_has_no_bounds_cannot_be_guarded() -> None:
    for text, column in (("u", "u"), ("LEAST(u, 3)", "u")):
        with pytest.raises(Refused) as caught:
            guarded(typed(text))
        assert (caught.value.rule, caught.value.facts) == ("dataset.bound-missing", {"column": column})
    with pytest.raises(Refused):
        ends(typed("u"))


def test_numbers_meet_at_one_scale_and_texts_beside_dates_are_dates() -> None:
    assert [item.scale for item in common([typed("x"), typed("y"), typed("0.25")])] == [2, 2, 2]
    assert [item.kind for item in common([typed("d"), typed("'1970-01-01'")])] == [Kind.DATE, Kind.DATE]
    for pair in (("x", "t"), ("f", "x"), ("d", "x"), ("d", "t")):
        with pytest.raises(Refused) as caught:
            common([typed(text) for text in pair])
        assert caught.value.rule == "sql.type"


@given(st.integers(0, 12))
def test_a_scale_is_raised_exactly_or_not_at_all(scale: int) -> None:
    raised = rescaled(typed("x"), scale)
    assert (raised.scale, raised.low, raised.high) == (scale, -6 * 10**scale, 6 * 10**scale)


def test_an_interval_of_62_bits_is_the_end() -> None:
    near = typed("x")
    assert made("x", near, 0, -(SAFE - 1), SAFE - 1, nullable=False).ceiling == SAFE - 1
    for low, high, scale in ((-SAFE, 0, 0), (0, SAFE, 0), (0, 1, 13)):
        with pytest.raises(Refused) as caught:
            made("x", near, scale, low, high, nullable=False)
        assert caught.value.rule == "sql.overflow"
    assert BY_NAME["y"].type is ColumnType.DECIMAL
