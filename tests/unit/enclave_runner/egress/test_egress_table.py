"""The released table: every public group in order, text that is exact, widths rounded up, loss that adds up."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_runner.contract.privacy import Budget
from enclave_runner.contract.receipt import Clip, DPTable
from enclave_runner.dp.conversion import epsilon_of, pico_rho_of
from enclave_runner.egress import measure
from enclave_runner.egress.estimate import Estimated
from enclave_runner.egress.shares import share_out
from enclave_runner.egress.table import (
    Arrangement,
    Groups,
    digits,
    expected_measures,
    fraction_text,
    joined,
    public_keys,
    ratio_text,
    release,
    width_text,
)
from enclave_runner.plan.bound import BoundSelect
from tests.support.bound_plans import bound

BUDGET = Budget(epsilon="1", delta="1e-6")
CATALOGUE = "SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS(bounds = 'catalogue') "
PLAN = bound("SELECT kind, COUNT(*) AS n, AVG(amount) AS a FROM visits GROUP BY kind")
MEAN = Estimated((Fraction(1, 3), None, Fraction(-1, 7)), (0.00001, None, 0.5))
COUNT = Estimated((Fraction(5, 2), Fraction(-3), Fraction(10**20)), (1.001, 1.001, 1.001))


def released(
    plan: BoundSelect, aggregates: tuple[Estimated, ...], rows: tuple[int, ...] | None = None, clip: Clip | None = None
) -> DPTable:
    keys = tuple(key for found in public_keys(plan) for key in found)
    kept = tuple(range(len(keys))) if rows is None else rows
    arrangement = Arrangement(kept, ((),) * len(kept))
    return release(plan, share_out(plan, BUDGET), BUDGET, Groups(keys, aggregates), arrangement, clip)


def test_every_public_group_is_there_in_catalogue_order() -> None:
    plan = bound("SELECT kind, flag, COUNT(*) AS n FROM visits GROUP BY kind, flag")
    assert public_keys(plan) == (tuple(product("abc", ("false", "true"))),)
    assert public_keys(bound("SELECT COUNT(*) AS n FROM visits")) == (((),),)


def test_keys_that_are_summed_over_are_none() -> None:
    plan = bound("SELECT kind, flag, COUNT(*) AS n FROM visits GROUP BY ROLLUP (kind, flag)")
    fine, kinds, whole = public_keys(plan)
    assert len(fine) == 6
    assert kinds == (("a", None), ("b", None), ("c", None))
    assert whole == ((None, None),)


def test_grouping_sets_stand_one_below_the_other() -> None:
    first, second = Estimated((Fraction(1),), (2.0,)), Estimated((Fraction(3), None), (4.0, None))
    assert joined([(first,), (second,)]) == (Estimated((Fraction(1), Fraction(3), None), (2.0, 4.0, None)),)


def test_a_table_in_full() -> None:
    clip = Clip(bound="3", learned=True, lost="0.1000", lost_half_width="0.0200")
    table = released(PLAN, (COUNT, MEAN), clip=clip)
    assert table.keys == ("kind",)
    assert table.rows == (
        ("a", "2.50", "0.333333"),
        ("b", "-3.00", None),
        ("c", "100000000000000000000.00", "-0.142857"),
    )
    assert table.half_widths == (("1.01", "0.000011"), ("1.01", None), ("1.01", "0.500001"))
    assert [(item.name, item.unit, item.half_width) for item in table.measures] == [
        ("n", "rows", "1.01"),
        ("a", "amount", ""),
    ]
    assert (table.noise, table.delta, table.clip) == ("gaussian", "1e-6", clip)
    assert table.loss.entity_set == "resident"
    assert 0.999 * pico_rho_of(BUDGET) < table.loss.pico_rho <= pico_rho_of(BUDGET)
    assert float(table.epsilon) == pytest.approx(epsilon_of(table.loss.pico_rho, 1e-6), abs=1e-4)


def test_rows_stay_in_the_order_that_was_arranged() -> None:
    table = released(PLAN, (COUNT, MEAN), rows=(2, 0))
    assert [row[0] for row in table.rows] == ["c", "a"]
    assert table.half_widths[1] == ("1.01", "0.000011")
    assert released(PLAN, (COUNT, MEAN), rows=()).rows == ()


def test_columns_are_keys_then_measures_and_computed_ones_have_no_interval() -> None:
    plan = bound("SELECT COUNT(*) AS n, kind, COUNT(*) * 2 AS twice FROM visits GROUP BY kind")
    keys = public_keys(plan)[0]
    shares = share_out(plan, BUDGET)
    arrangement = Arrangement((1, 0), (("9.5",), (None,)))
    table = release(plan, shares, BUDGET, Groups(keys, (COUNT,)), arrangement, None)
    assert table.keys == ("kind",)
    assert [item.name for item in table.measures] == ["n", "twice"]
    assert table.rows == (("b", "-3.00", "9.5"), ("a", "2.50", None))
    assert table.half_widths == (("1.01", None), ("1.01", None))
    assert table.measures[1].half_width == ""


def test_pure_budgets_are_shown_as_such() -> None:
    plan = bound("SELECT kind, COUNT(*) AS n FROM visits GROUP BY kind", power=1)
    table = released(plan, (COUNT,))
    assert (table.noise, table.epsilon) == ("laplace", "1.0000")


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("SELECT COUNT(*) AS n FROM homes", 0),
        ("SELECT COUNT(*) AS n FROM visits", 2),
        ("SELECT COUNT(DISTINCT who) AS n FROM visits", 0),
        ("SELECT kind, COUNT(DISTINCT who) AS n FROM visits GROUP BY kind", 2),
        ("SELECT SUM(income) AS n FROM homes", 0),
        ("SELECT SUM(income * 0.001) AS n FROM homes", 3),
        ("SELECT SUM(amount) AS n FROM visits", 2),
        ("SELECT SUM(minutes) AS n FROM calls", 2),
        ("SELECT AVG(income) AS n FROM homes", 4),
        ("SELECT STDDEV(amount) AS n FROM visits", 6),
        ("SELECT MEDIAN(amount) AS n FROM visits", 2),
        ("SELECT region, COUNT(*) AS n FROM homes GROUP BY ROLLUP (region)", 2),
    ],
)
def test_how_many_digits_are_told_follows_from_the_plan(sql: str, told: int) -> None:
    plan = bound(sql)
    assert digits(plan, plan.estimates[0]) == told


@given(st.fractions(-(10**15), 10**15), st.integers(0, 8))
def test_a_text_is_the_nearest_one_without_an_exponent_or_a_negative_zero(value: Fraction, decimals: int) -> None:
    text = fraction_text(value, decimals)
    assert text is not None
    assert "E" not in text
    assert not (text.startswith("-") and Decimal(text) == 0)
    assert abs(Fraction(text) - value) <= Fraction(1, 2 * 10**decimals)
    assert len(text.partition(".")[2]) == decimals


@given(st.floats(0, 1e12), st.integers(0, 6), st.fractions(-100, 100))
def test_a_width_still_covers_after_both_were_rounded(width: float, decimals: int, value: Fraction) -> None:
    """What is within the width of the value is within the shown width of the shown value."""
    told = fraction_text(value, decimals)
    for is_whole in (True, False) if decimals else (False,):
        shown = width_text(width, decimals, is_whole)
        assert shown is not None
        assert told is not None
        for truth in (value - Fraction(width), value + Fraction(width)):
            assert abs(truth - Fraction(told)) <= Fraction(shown)


def test_whole_values_lose_nothing_and_unknown_widths_are_not_told() -> None:
    assert width_text(3.0, 0) == "3"
    assert width_text(3.0, 0, is_whole=False) == "4"
    assert width_text(3.2, 0) == "4"
    for nothing in (None, float("inf"), float("nan")):
        assert width_text(nothing, 2) is None
    assert fraction_text(None, 2) is None
    assert ratio_text(1 / 3) == "0.3333"


def test_a_count_beside_larger_sums_is_told_with_what_rounding_took() -> None:
    """Its noise is in parts of a row there: a whole number may be half a row off."""
    alone, beside = bound("SELECT COUNT(*) AS n FROM homes"), bound("SELECT COUNT(*) AS n, SUM(income) AS s FROM homes")
    one = Estimated((Fraction(7, 2),), (2.0,))
    assert released(alone, (one,)).half_widths == (("2",),)
    assert released(beside, (one, one)).half_widths == (("3", "3"),)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize(
    "outputs",
    ["COUNT(*) AS n", "SUM(amount) AS s, COUNT(*) AS n", "COUNT(DISTINCT who) AS u", "COUNT(DISTINCT kind) AS k"],
)
def test_what_was_expected_is_what_noise_at_the_catalogue_s_clip_gives(outputs: str, power: int) -> None:
    plan = bound(f"{CATALOGUE} {outputs} FROM visits", power)
    shares = share_out(plan, BUDGET)
    expected = [item.half_width for item in expected_measures(plan, shares)]
    found: list[measure.Noisy] = []
    if plan.sums is not None and shares.sums is not None:
        zeros = [[0] for _ in plan.sums.statistics]
        (found,) = measure.noisy_sums(plan, plan.sums, shares.sums, plan.sums.clipping.limit, zeros)
    found += [
        measure.noisy_units([0], item.groups, power, share)
        for item, share in zip(plan.units, shares.units, strict=True)
    ]
    found += [
        measure.noisy_values([0], item.limit, share) for item, share in zip(plan.values, shares.values, strict=True)
    ]
    assert [float(text) for text in expected] == pytest.approx([item.half_width for item in found], rel=0.02, abs=1)


def test_where_the_data_decide_the_width_nothing_is_expected() -> None:
    plan = bound("SELECT AVG(amount) AS a, MEDIAN(amount) AS m, COUNT(*) / 2 AS h FROM visits")
    assert [item.half_width for item in expected_measures(plan, share_out(plan, BUDGET))] == ["", "", ""]


def test_a_rollup_is_expected_no_better_than_it_turns_out() -> None:
    plan = bound(f"{CATALOGUE} kind, flag, COUNT(*) AS n FROM visits GROUP BY ROLLUP (kind, flag)")
    shares = share_out(plan, BUDGET)
    assert plan.sums is not None
    assert shares.sums is not None
    sets = measure.noisy_sums(plan, plan.sums, shares.sums, plan.sums.clipping.limit, [[0] * 6])
    (expected,) = expected_measures(plan, shares)
    assert max(vectors[0].half_width for vectors in sets) <= 1.5 * float(expected.half_width)
