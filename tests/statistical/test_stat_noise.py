"""The noise that is really drawn, against the distribution that was proven. Each test states its false-alarm rate."""

from __future__ import annotations

import math
from collections import Counter
from statistics import NormalDist

import pytest

from enclave_runner.contract.privacy import RHO_UNIT, Budget
from enclave_runner.dp.noise import add_noise, half_width, scale_for
from enclave_runner.egress.table import release_table, share_of
from tests.support.enclave_home import PEOPLE, changed
from tests.support.plan_interpreter import bound

FALSE_ALARM = 1e-6
Z = NormalDist().inv_cdf(1 - FALSE_ALARM / 4)  # two-sided, shared by two tests of one sample
DRAWS = 40_000


def draw(sensitivity: int, pico_rho: int, count: int = DRAWS) -> list[int]:
    return add_noise([0] * count, sensitivity, pico_rho)


@pytest.mark.parametrize(
    ("sensitivity", "pico_rho"),
    [(1, RHO_UNIT // 2), (1, RHO_UNIT // 200), (1 << 20, RHO_UNIT // 50), (3, RHO_UNIT // 1000)],
)
def test_mean_and_variance_are_those_of_the_proven_scale(sensitivity: int, pico_rho: int) -> None:
    """By the central limit theorem: mean within Z·σ/√n, variance within Z·σ²·√(2/n). False alarms: 1e-6."""
    scale = scale_for(sensitivity, pico_rho)
    variance = _discrete_variance(scale)
    noise = draw(sensitivity, pico_rho)
    assert abs(sum(noise) / DRAWS) <= Z * math.sqrt(variance / DRAWS)
    assert abs(sum(x * x for x in noise) / DRAWS - variance) <= 1.05 * Z * variance * math.sqrt(2 / DRAWS)


def _discrete_variance(scale: float) -> float:
    if scale > 50:
        return scale * scale
    density = _density(scale)
    return sum(x * x * p for x, p in density.items())


def _density(scale: float) -> dict[int, float]:
    """The discrete Gaussian (Canonne, Kamath and Steinke 2020)."""
    reach = int(12 * scale) + 3
    weights = {x: math.exp(-x * x / (2 * scale * scale)) for x in range(-reach, reach + 1)}
    total = sum(weights.values())
    return {x: weight / total for x, weight in weights.items()}


@pytest.mark.parametrize("pico_rho", [2 * RHO_UNIT, RHO_UNIT // 2, RHO_UNIT // 8])
def test_every_value_is_as_frequent_as_in_the_discrete_gaussian(pico_rho: int) -> None:
    """χ² over all values expected at least 20 times, tails pooled. False alarms: 1e-6."""
    statistic, freedom = _chi_square(draw(1, pico_rho), _density(scale_for(1, pico_rho)))
    assert statistic <= _chi_square_limit(freedom)


def test_the_checks_notice_noise_of_another_scale() -> None:
    """Positive control: noise that is 5 % too small fails both tests."""
    noise, proven = draw(1, int(RHO_UNIT / 8 / 0.95**2)), scale_for(1, RHO_UNIT // 8)
    statistic, freedom = _chi_square(noise, _density(proven))
    assert statistic > _chi_square_limit(freedom)
    variance = _discrete_variance(proven)
    assert abs(sum(x * x for x in noise) / DRAWS - variance) > 1.05 * Z * variance * math.sqrt(2 / DRAWS)


def _chi_square(noise: list[int], density: dict[int, float]) -> tuple[float, int]:
    seen, statistic, bins, pooled, pooled_seen = Counter(noise), 0.0, 0, 1.0, len(noise)
    for value, probability in density.items():
        if probability * len(noise) < 20:
            continue
        expected = probability * len(noise)
        statistic += (seen[value] - expected) ** 2 / expected
        bins, pooled, pooled_seen = bins + 1, pooled - probability, pooled_seen - seen[value]
    expected = pooled * len(noise)
    if expected > 5:
        statistic, bins = statistic + (pooled_seen - expected) ** 2 / expected, bins + 1
    return statistic, bins - 1


def _chi_square_limit(freedom: int) -> float:
    """The 1 - 1e-6 quantile, by Wilson and Hilferty, with a little room for the approximation."""
    z = NormalDist().inv_cdf(1 - FALSE_ALARM)
    return 1.05 * freedom * (1 - 2 / (9 * freedom) + z * math.sqrt(2 / (9 * freedom))) ** 3


@pytest.mark.parametrize(("sensitivity", "pico_rho"), [(1, RHO_UNIT), (1, RHO_UNIT // 100), (1 << 20, RHO_UNIT // 7)])
def test_at_least_95_percent_of_the_noise_lies_inside_the_interval(sensitivity: int, pico_rho: int) -> None:
    """Binomial: below 95 % - Z·√(p(1-p)/n) is chance with probability 1e-6 at most; far above would be waste."""
    width = half_width(sensitivity, pico_rho)
    inside = sum(abs(x) <= width for x in draw(sensitivity, pico_rho)) / DRAWS
    assert inside >= 0.95 - Z * math.sqrt(0.05 * 0.95 / DRAWS)
    assert inside <= 0.995


def test_a_released_count_is_unbiased_and_as_noisy_as_its_share_says() -> None:
    """Through the gate, in the released text. 600 releases of 3 cells. False alarms: 1e-6."""
    spec = changed(PEOPLE, unique=False, rows_per_entity=2)
    plan = bound("SELECT sex, COUNT(*), COUNT(age) FROM people GROUP BY sex", spec)
    budget, exact = Budget(epsilon="1"), ((50 << 20,) * 3, (7 << 20,) * 3)
    values = [row[1] for _ in range(600) for row in release_table(plan, budget, exact).rows]
    scale = scale_for(plan.aggregates[0].sensitivity, share_of(budget, 2)) / (1 << 20)
    noise = [float(text) - 50 for text in values]
    assert any(text.startswith("-") or float(text) < 50 for text in values)
    assert abs(sum(noise) / len(noise)) <= Z * scale / math.sqrt(len(noise)) + 0.005
    assert abs(sum(x * x for x in noise) / len(noise) / scale**2 - 1) <= 1.05 * Z * math.sqrt(2 / len(noise)) + 0.001


def test_cells_of_one_table_have_independent_noise() -> None:
    """The correlation of neighbouring cells is within Z/√n. False alarms: 1e-6."""
    noise = draw(1, RHO_UNIT // 100)
    variance = sum(x * x for x in noise) / DRAWS
    for lag in (1, 2, 3, 7):
        correlation = sum(a * b for a, b in zip(noise, noise[lag:], strict=False)) / DRAWS / variance
        assert abs(correlation) <= 1.1 * Z / math.sqrt(DRAWS)
