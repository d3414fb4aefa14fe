"""Quantiles: the nearest edge when noise is nothing, scores that move as proven, a loss that OpenDP books as ours."""

from __future__ import annotations

import math
from collections.abc import Callable

import opendp.prelude as dp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_runner.contract.errors import Failed
from enclave_runner.contract.privacy import MAX_PICO_RHO, RHO_UNIT
from enclave_runner.dp import quantile as module
from enclave_runner.dp.quantile import choice_scale, choose_quantile, rank_half_width, scores

QUANTILES = st.sampled_from([(1, 2), (1, 4), (3, 4), (1, 10), (99, 100), (0, 1), (1, 1), (37, 1000)])


@pytest.mark.parametrize(
    ("histogram", "numerator", "denominator", "bins"),
    [
        ([100, 100, 100, 100], 1, 2, {1, 2}),
        ([100, 100, 100, 100], 1, 4, {0, 1}),
        ([100, 100, 100, 100], 9, 10, {3}),
        ([0, 100, 300, 0], 1, 4, {1, 2}),
        ([1000, 10, 10], 1, 2, {0}),
        ([10**12, 10**12], 1, 2, {0, 1}),
        ([0, 0, 5000, 0, 0], 1, 2, {2}),
        ([0, 0, 5000, 0, 0], 1, 1000, {2}),
    ],
)
def test_the_bin_of_the_quantile_when_noise_is_nothing(
    histogram: list[int], numerator: int, denominator: int, bins: set[int]
) -> None:
    assert {choose_quantile(histogram, numerator, denominator, 1, MAX_PICO_RHO) for _ in range(10)} <= bins


@pytest.mark.parametrize("numerator", [0, 1])
@pytest.mark.parametrize("histogram", [[0, 0, 9000, 0], [0, 0, 5000, 4000, 0, 0]])
def test_an_extreme_is_not_sought_where_nothing_is(histogram: list[int], numerator: int) -> None:
    """Many equal values, and empty bins beyond them, which the plain quantiles 0 and 1 would take as gladly."""
    chosen = {choose_quantile(histogram, numerator, 1, 1, MAX_PICO_RHO) for _ in range(20)}
    assert chosen == {2 if numerator == 0 else max(at for at, weight in enumerate(histogram) if weight)}


def test_an_extreme_of_next_to_nothing_is_the_middle() -> None:
    assert scores([0, 3, 3, 0], 0, 1, 1000) == [-3, 0, 0, -3]
    assert scores([0, 3, 3, 0], 1, 1, 1000) == [-3, 0, 0, -3]
    assert scores([0, 3, 3, 0], 0, 1, 1) == [-1, 0, -2, -5]


@given(
    st.lists(st.tuples(st.integers(0, 1 << 30), st.integers(0, 1 << 20)), min_size=1, max_size=30),
    QUANTILES,
    st.integers(0, 1 << 21),
)
def test_no_unit_moves_a_score_beyond_the_proven_sensitivity(
    bins: list[tuple[int, int]], quantile: tuple[int, int], reach: int
) -> None:
    """Grey box: the exact scores without and with a unit of weights w, against max(n, d-n)·Σw."""
    numerator, denominator = quantile
    without = scores([rest for rest, _ in bins], numerator, denominator, reach)
    with_unit = scores([rest + own for rest, own in bins], numerator, denominator, reach)
    weight = sum(own for _, own in bins)
    moved = max(abs(a - b) for a, b in zip(without, with_unit, strict=True))
    assert moved <= max(numerator, denominator - numerator) * weight


def test_the_sensitivity_is_reached() -> None:
    """A bound that is never tight would waste budget: one unit at the low end, quantile 1/10."""
    assert abs(scores([5, 0, 10], 1, 10)[2] - scores([6, 0, 10], 1, 10)[2]) == 9


@pytest.mark.parametrize(("numerator", "denominator", "worst"), [(1, 2, 1), (1, 4, 3), (9, 10, 9), (0, 1, 1)])
def test_the_loss_is_an_eighth_of_epsilon_squared_by_opendp(numerator: int, denominator: int, worst: int) -> None:
    scale = choice_scale(numerator, denominator, 7, RHO_UNIT // 50)
    measurement = dp.m.make_noisy_max(
        dp.vector_domain(dp.atom_domain(T="i64")), dp.linf_distance(T="i64"), dp.zero_concentrated_divergence(), scale
    )
    rho = measurement.map(7 * worst)
    assert rho <= 0.02
    assert rho == pytest.approx(0.02, rel=1e-9)
    assert rho == pytest.approx((2 * 7 * worst / scale) ** 2 / 8, rel=1e-12)


def test_a_choice_differs_from_run_to_run() -> None:
    assert len({choose_quantile([10] * 50, 1, 2, 1, RHO_UNIT // 10**4) for _ in range(40)}) > 5


@pytest.mark.parametrize(
    ("action", "code"),
    [
        (lambda: choose_quantile([], 1, 2, 1, RHO_UNIT), "dp.quantile"),
        (lambda: choose_quantile([3, -1], 1, 2, 1, RHO_UNIT), "dp.quantile"),
        (lambda: choose_quantile([3], 3, 2, 1, RHO_UNIT), "dp.quantile"),
        (lambda: choose_quantile([3], -1, 2, 1, RHO_UNIT), "dp.quantile"),
        (lambda: choose_quantile([3], 0, 0, 1, RHO_UNIT), "dp.quantile"),
        (lambda: choose_quantile([3], 1, 2, 0, RHO_UNIT), "dp.no-noise"),
        (lambda: choose_quantile([3], 1, 2, 1, 0), "dp.no-noise"),
        (lambda: choose_quantile([3], 1, 2, 1 << 60, RHO_UNIT), "dp.scale"),
    ],
)
def test_a_choice_that_cannot_be_proven_is_a_fault(action: Callable[[], object], code: str) -> None:
    assert fault(action) == code


def test_a_map_that_says_more_than_the_asked_loss_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    class Worse:
        def map(self, distance: int) -> float:
            return 3.0

    monkeypatch.setattr(module, "_choice", lambda scale: Worse())
    assert fault(lambda: choice_scale(1, 2, 12345, RHO_UNIT)) == "dp.scale"


def test_the_rank_error_grows_with_the_grid_and_falls_with_the_budget() -> None:
    width = rank_half_width(1000, 1, 2, 1, RHO_UNIT // 50)
    assert width == pytest.approx(choice_scale(1, 2, 1, RHO_UNIT // 50) * math.log(1001 * 20) / 2)
    assert rank_half_width(10_000, 1, 2, 1, RHO_UNIT // 50) > width
    assert rank_half_width(1000, 1, 2, 1, RHO_UNIT // 200) == pytest.approx(2 * width)


def fault(action: Callable[[], object]) -> str:
    with pytest.raises(Failed) as caught:
        action()
    return caught.value.code


def test_a_total_that_leaves_62_bits_is_cut_and_no_fault_that_would_tell_of_it() -> None:
    """The denominator is the operator's: as a fault this would be an exact threshold on the number of rows."""
    for total in ((1 << 61) - 1, 1 << 61, 1 << 90):
        found = scores([0, total], 1, 2)
        assert found == [-min(total, (1 << 62) - 1), 0]
        assert choose_quantile([0, total], 1, 2, 1, RHO_UNIT) == 1
