"""The joint row vector: each entry once, centred where that helps, scaled to one magnitude; and its norms."""

from __future__ import annotations

import math

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave_runner.contract.dataset import ColumnType
from enclave_runner.contract.errors import Refused
from enclave_runner.plan.bound import Statistic, Sums
from enclave_runner.plan.nodes import AggregateKind
from enclave_runner.plan.statistics import both, rounded_root, row_bound, row_norm
from tests.support.bound_plans import HOMES, bound
from tests.support.enclave_home import changed, column


def sums(outputs: str, power: int = 2, low: int = 0, high: int = 1000, nullable: bool = False) -> Sums:
    """The joint vector of aggregates over a column x of that range."""
    x = column("x", ColumnType.INTEGER, bounds=(low, high), nullable=nullable)
    spec = changed(HOMES, columns=(*HOMES.columns, x))
    plan = bound(f"SELECT {outputs} FROM homes", power, homes=spec)
    assert plan.sums is not None
    return plan.sums


def shape(found: Sums) -> list[tuple[int, int, int]]:
    return [(item.magnitude, item.multiplier, item.centre) for item in found.statistics]


def test_a_count_alone_is_a_sum_of_ones() -> None:
    assert shape(sums("COUNT(*) AS n")) == [(1, 1, 0)]
    assert sums("COUNT(*) AS n").clipping.factor == 1


def test_a_sum_alone_is_not_centred_and_a_mean_is_where_its_values_crowd() -> None:
    assert shape(sums("SUM(x) AS s")) == shape(sums("SUM(x) AS s, COUNT(*) AS n"))[:1] == [(1000, 1, 0)]
    total, count = shape(sums("AVG(x) AS a"))
    assert total == (750, 1, 250)
    assert count[0] == count[1] == 125
    assert shape(sums("AVG(x) AS a", low=-1000, high=0))[0] == (750, 1, -250)
    assert shape(sums("AVG(x) AS a", low=400, high=1400))[0] == (500, 1, 900)


def test_a_sum_is_centred_beside_a_mean_and_where_it_is_far_from_zero() -> None:
    assert [centre for *_, centre in shape(sums("SUM(x) AS s, AVG(x) AS a"))] == [250, 0]
    far = shape(sums("SUM(x) AS s, AVG(x) AS a", low=10_000, high=10_100))
    assert far[0] == (50, 1, 10_050)
    assert shape(sums("SUM(x) AS s", low=-10_100, high=-10_000))[0] == (50, 1, -10_050)


def test_entries_that_are_the_same_are_there_once() -> None:
    found = sums("COUNT(*) AS n, AVG(x) AS a, VARIANCE(x) AS v, STDDEV(x) AS d, COUNT(x) AS m")
    assert len(found.statistics) == 3
    assert len(sums("COUNT(*) AS n, AVG(x) AS a, COUNT(x) AS m", nullable=True).statistics) == 3
    conditional = sums("SUM(x) FILTER (WHERE age > 3) AS a, SUM(x) FILTER (WHERE age > 4) AS b, SUM(x) AS c")
    assert len(conditional.statistics) == 3


@pytest.mark.parametrize("outputs", ["AVG(x) AS a", "VARIANCE(x) AS v", "STDDEV(x) AS d, AVG(x) AS a"])
@pytest.mark.parametrize(("low", "high"), [(0, 1000), (-50, 50), (0, 3), (10_000, 10_200)])
def test_no_entry_is_drowned_by_the_noise_of_another(outputs: str, low: int, high: int) -> None:
    """Magnitudes within a factor of ten of one another: a mean of small values may not pay for their squares."""
    magnitudes = [item.magnitude for item in sums(outputs, low=low, high=high).statistics]
    assert max(magnitudes) <= 10 * min(magnitudes)


def test_the_norm_of_a_row_is_rounded_up() -> None:
    statistics = sums("COUNT(*) AS n, SUM(x) AS s").statistics
    magnitudes = [item.magnitude for item in statistics]
    assert row_bound(statistics, 1) == sum(magnitudes)
    assert row_bound(statistics, 2) == math.ceil(math.sqrt(sum(item**2 for item in magnitudes)))


@given(st.integers(0, 1 << 130))
def test_a_rounded_root_is_the_least_whole_number_above(square: int) -> None:
    root = rounded_root(square)
    assert root**2 >= square
    assert root == 0 or (root - 1) ** 2 < square


ENGINE = duckdb.connect()
ENGINE.execute("CREATE TABLE t (a BIGINT, b BIGINT, c BIGINT)")
ENTRY = st.integers(-(2**60), 2**60) | st.integers(-3, 3) | st.sampled_from([2**53 + 1, -(2**53) - 1, 2**31, 10**9 + 7])


@given(st.tuples(ENTRY, ENTRY, ENTRY), st.sampled_from([1, 2]))
@settings(max_examples=200, deadline=None)
def test_the_sql_of_a_norm_never_rounds_down_and_hardly_up(row: tuple[int, int, int], power: int) -> None:
    entries = [Statistic(sql=name, magnitude=2**60, multiplier=1, centre=0, scale=0) for name in "abc"]
    ENGINE.execute("DELETE FROM t")
    ENGINE.execute("INSERT INTO t VALUES (?, ?, ?)", [*row])
    found = ENGINE.execute(f"SELECT {row_norm(entries, power)} FROM t").fetchone()
    assert found is not None
    norm = int(found[0])
    if power == 1:
        assert norm == sum(map(abs, row))
        return
    square = sum(item**2 for item in row)
    assert norm**2 >= square
    assert norm <= math.isqrt(square) * (1 + 3e-12) + 2


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("outputs", ["VARIANCE(x) AS v", ", ".join(f"SUM(x * 4000 - {n}) AS s{n}" for n in range(5))])
def test_what_could_leave_62_bits_is_refused(outputs: str, power: int) -> None:
    with pytest.raises(Refused) as caught:
        sums(outputs, power, high=10**15)
    assert caught.value.rule == "sql.overflow"


def test_estimates_know_their_entries() -> None:
    plan = bound("SELECT COUNT(*) AS n, AVG(income) AS a, STDDEV(income) AS d FROM homes")
    assert [item.kind for item in plan.estimates] == [AggregateKind.COUNT, AggregateKind.AVG, AggregateKind.STDDEV]
    assert plan.sums is not None
    count, mean, deviation = plan.estimates
    assert count.count == 0
    assert mean.count == deviation.count != 0  # of rows that have an income
    assert deviation.square is not None
    assert plan.sums.statistics[deviation.square].scale == 0


def test_conditions_are_joined() -> None:
    assert both(None, None) is None
    assert both("a", None) == both(None, "a") == "a"
    assert both("a", "b") == "(a AND b)"
