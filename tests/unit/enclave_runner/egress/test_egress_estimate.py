"""Aggregates from noisy vectors: right on average, and inside their own 95 % interval as often as they say.

Each simulation has 4000 runs; a rate is accepted within 5 standard deviations of the binomial law of its bound, so that
the false-alarm rate of each assertion is below 1e-6.
"""

from __future__ import annotations

import math
import random
from fractions import Fraction

import pytest

from enclave_runner.contract.errors import Failed
from enclave_runner.egress import estimate
from enclave_runner.egress.estimate import Estimated, linear, plain, rescaled
from enclave_runner.egress.measure import Noisy
from enclave_runner.plan.bound import Estimate, Statistic
from enclave_runner.plan.nodes import AggregateKind as Kind

RUNS = 4000
SLACK = 5 * math.sqrt(0.95 * 0.05 / RUNS)


def noisy(values: list[float], deviation: float) -> Noisy:
    return Noisy(tuple(map(Fraction, values)), deviation**2, 1.96 * deviation)


def statistic(centre: int = 0, scale: int = 0) -> Statistic:
    return Statistic(sql="", magnitude=1, multiplier=1, centre=centre, scale=scale)


def asked(kind: Kind, square: int | None = None) -> Estimate:
    return Estimate(kind=kind, unit="", scale=0, count=0, total=1, square=square)


def simulated(kind: Kind, rows: int, mean: float, spread: float, deviations: tuple[float, float, float]) -> Estimated:
    """The estimates of many runs over a group of that many rows, about a centre of 50."""
    source = random.Random(7)
    exact = (float(rows), (mean - 50) * rows, (spread**2 * (rows - 1) / rows + (mean - 50) ** 2) * rows)
    vectors = [
        noisy([value + source.gauss(0, deviation) for _ in range(RUNS)], deviation)
        for value, deviation in zip(exact, deviations, strict=True)
    ]
    square = 2 if kind is not Kind.AVG else None
    return linear(asked(kind, square), vectors, [statistic(), statistic(centre=50), statistic()])


def coverage(found: Estimated, truth: float) -> float:
    told = [
        abs(float(value) - truth) <= width
        for value, width in zip(found.values, found.half_widths, strict=True)
        if value is not None and width is not None
    ]
    assert len(told) > 0.9 * RUNS
    return sum(told) / len(told)


@pytest.mark.parametrize("rows", [200, 5000])
@pytest.mark.parametrize(("kind", "truth"), [(Kind.AVG, 53.0), (Kind.VARIANCE, 64.0), (Kind.STDDEV, 8.0)])
def test_the_interval_covers_the_truth_as_often_as_it_says(kind: Kind, truth: float, rows: int) -> None:
    found = simulated(kind, rows, 53.0, 8.0, (5.0, 60.0, 900.0))
    assert 0.95 - SLACK <= coverage(found, truth) <= 1


@pytest.mark.parametrize(("kind", "truth"), [(Kind.AVG, 53.0), (Kind.VARIANCE, 64.0), (Kind.STDDEV, 8.0)])
def test_far_above_the_noise_the_interval_is_no_wider_than_it_has_to_be(kind: Kind, truth: float) -> None:
    found = simulated(kind, 50_000, 53.0, 8.0, (5.0, 60.0, 900.0))
    assert coverage(found, truth) <= 0.95 + SLACK + 0.01
    errors = [float(value or 0) - truth for value in found.values]
    deviation = math.sqrt(sum(error**2 for error in errors) / RUNS)
    assert abs(sum(errors)) / RUNS <= 5 * deviation / math.sqrt(RUNS) + 1e-3 * truth
    assert found.half_widths[0] == pytest.approx(1.96 * deviation, rel=0.1)


def test_counts_and_sums_are_told_as_they_are() -> None:
    count, total = noisy([-3, 5.5], 2.0), noisy([100, -7], 3.0)
    assert linear(asked(Kind.COUNT), [count, total], [statistic(), statistic()]) == plain(count)
    alone = Estimate(kind=Kind.SUM, unit="", scale=0, total=1)
    assert linear(alone, [count, total], [statistic(), statistic()]).values == (Fraction(100), Fraction(-7))


def test_a_centred_sum_is_moved_back_with_the_noise_of_both() -> None:
    count, total = noisy([10, 0], 2.0), noisy([5, -5], 3.0)
    found = linear(asked(Kind.SUM), [count, total], [statistic(), statistic(centre=250, scale=1)])
    assert found.values == (Fraction(255), Fraction(-5))
    assert found.half_widths[0] == pytest.approx(1.96 * math.hypot(3, 25 * 2))


@pytest.mark.parametrize("kind", [Kind.AVG, Kind.VARIANCE, Kind.STDDEV])
@pytest.mark.parametrize("rows", [-20.0, 0.0, 0.5, 3.0])
def test_a_group_that_noise_hides_is_not_told(kind: Kind, rows: float) -> None:
    vectors = [noisy([rows], 2.0), noisy([10.0], 2.0), noisy([10.0], 2.0)]
    found = linear(asked(kind, 2), vectors, [statistic()] * 3)
    assert (found.values, found.half_widths) == ((None,), (None,))


def test_a_variance_is_never_below_zero_and_its_root_not_told_then() -> None:
    vectors = [noisy([1000.0], 2.0), noisy([1000.0], 2.0), noisy([10.0], 2.0)]
    assert linear(asked(Kind.VARIANCE, 2), vectors, [statistic()] * 3).values == (Fraction(0),)
    assert linear(asked(Kind.STDDEV, 2), vectors, [statistic()] * 3).values == (None,)


def test_an_estimate_without_its_vectors_is_a_fault() -> None:
    for broken in (
        Estimate(kind=Kind.COUNT, unit="", scale=0),
        Estimate(kind=Kind.AVG, unit="", scale=0, total=0),
        Estimate(kind=Kind.QUANTILE, unit="", scale=0),
    ):
        with pytest.raises(Failed) as caught:
            linear(broken, [noisy([1.0], 1.0)], [statistic()])
        assert caught.value.code == "egress.shape"


def test_a_rescaled_vector_carries_the_noise_of_the_ratio() -> None:
    """Against a simulation of both noises, for the largest cell; smaller ones are told with a wider interval."""
    source = random.Random(3)
    found = rescaled(noisy([1000.0, 10.0], 5.0), Fraction(3, 2), 0.01**2)
    assert found.cells == (Fraction(1500), Fraction(15))
    drawn = [source.gauss(1000, 5) * source.gauss(1.5, 0.01) for _ in range(RUNS)]
    deviation = math.sqrt(sum((value - 1500) ** 2 for value in drawn) / RUNS)
    assert math.sqrt(found.variance) == pytest.approx(deviation, rel=0.1)
    assert found.half_width == pytest.approx(1.96 * math.sqrt(found.variance))
    assert rescaled(noisy([], 1.0), Fraction(1), 0.0).cells == ()
    assert estimate.plain(found).half_widths == (found.half_width,) * 2
