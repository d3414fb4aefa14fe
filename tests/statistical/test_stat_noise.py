"""The noise that is really drawn, against the distribution that was proven. Each test states its false-alarm rate."""

from __future__ import annotations

import math
from decimal import Decimal
from functools import cache
from statistics import NormalDist

import numpy as np
import pytest

from enclave_runner.contract.privacy import RHO_UNIT
from enclave_runner.dp.marginals import reconcile
from enclave_runner.dp.mechanism import Mechanism, gaussian, laplace
from enclave_runner.dp.quantile import choice_scale, choose_quantile, rank_half_width, scores
from enclave_runner.dp.tail import delta_of
from tests.support.auditor import lower_bound
from tests.support.densities import chi_square, chi_square_limit, density

FALSE_ALARM = 1e-6
Z = NormalDist().inv_cdf(1 - FALSE_ALARM / 4)  # two-sided, shared by two tests of one sample
DRAWS = 40_000

NARROW = [
    gaussian(1, 2 * RHO_UNIT),
    gaussian(1, RHO_UNIT // 2),
    gaussian(1, RHO_UNIT // 8),
    laplace(1, Decimal(2)),
    laplace(1, Decimal("0.5")),
]
WIDE = [
    gaussian(1, RHO_UNIT // 200),
    gaussian(1 << 20, RHO_UNIT // 50),
    gaussian(3, RHO_UNIT // 1000),
    laplace(1, Decimal("0.01")),
    laplace(1 << 20, Decimal("0.3")),
]


@cache
def noise_of(made: Mechanism) -> list[int]:
    """One sample for all tests of a mechanism; it is long enough to be drawn in chunks, by threads."""
    return made.add([0] * DRAWS)


def fourth_moment(made: Mechanism) -> float:
    """E[x⁴]/Var², which sets the spread of a sample's variance: 3 for wide Gaussian, 6 for wide Laplace noise."""
    if made.scale > 50:
        return 3.0 if made.noise == "gaussian" else 6.0
    return math.fsum(x**4 * p for x, p in density(made).items()) / made.variance**2


@pytest.mark.parametrize("made", [*NARROW, *WIDE], ids=str)
def test_mean_and_variance_are_those_of_the_proven_scale(made: Mechanism) -> None:
    """Central limit theorem: mean within Z·σ/√n, variance within Z·σ²·√((κ-1)/n) (and 10 % for its skew). 1e-6."""
    noise = noise_of(made)
    assert abs(sum(noise) / DRAWS) <= Z * math.sqrt(made.variance / DRAWS)
    spread = made.variance * math.sqrt((fourth_moment(made) - 1) / DRAWS)
    assert abs(sum(x * x for x in noise) / DRAWS - made.variance) <= 1.1 * Z * spread


@pytest.mark.parametrize("made", NARROW, ids=str)
def test_every_value_is_as_frequent_as_proven(made: Mechanism) -> None:
    """χ² over all values expected at least 20 times, the others pooled. False alarms: 1e-6."""
    statistic, freedom = chi_square(noise_of(made), density(made))
    assert statistic <= chi_square_limit(freedom, FALSE_ALARM)


@pytest.mark.parametrize("made", WIDE, ids=str)
def test_every_part_of_a_wide_noise_is_as_frequent_as_proven(made: Mechanism) -> None:
    """χ² over about 40 cells of near equal content. False alarms: 1e-6.

    The contents are sums of the density; above a scale of 1000 those of the continuous law, from which cells of 10⁵
    values and more differ by less than 10⁻⁵ of themselves.
    """
    if made.scale > 1000:
        law = dict.fromkeys(range(40), 1 / 40)
        seen = [min(39, int(40 * _place(x, made))) for x in noise_of(made)]
    else:
        exact = density(made)
        cell_of = dict(zip(exact, (np.cumsum(list(exact.values())) * 40).astype(int).tolist(), strict=True))
        law = {}
        for x, probability in exact.items():
            law[cell_of[x]] = law.get(cell_of[x], 0.0) + probability
        seen = [cell_of[x] for x in noise_of(made)]
    statistic, freedom = chi_square(seen, law)
    assert freedom >= 30
    assert statistic <= chi_square_limit(freedom, FALSE_ALARM)


def _place(x: int, made: Mechanism) -> float:
    if made.noise == "gaussian":
        return NormalDist().cdf(x / made.scale)
    return math.exp(x / made.scale) / 2 if x < 0 else 1 - math.exp(-x / made.scale) / 2


@pytest.mark.parametrize(("real", "claimed"), [(gaussian(95, RHO_UNIT // 8), gaussian(100, RHO_UNIT // 8))])
def test_the_moments_notice_noise_of_another_scale(real: Mechanism, claimed: Mechanism) -> None:
    """Positive control: noise that is 5 % too small fails."""
    spread = claimed.variance * math.sqrt(2 / DRAWS)
    assert abs(sum(x * x for x in noise_of(real)) / DRAWS - claimed.variance) > 1.1 * Z * spread


@pytest.mark.parametrize(
    ("real", "claimed"),
    [
        (gaussian(1, int(RHO_UNIT / 8 / 0.95**2)), gaussian(1, RHO_UNIT // 8)),
        (laplace(1, Decimal("0.53")), laplace(1, Decimal("0.5"))),
        (laplace(1, Decimal(1)), gaussian(1, RHO_UNIT // 2)),
    ],
)
def test_the_frequencies_notice_noise_of_another_law(real: Mechanism, claimed: Mechanism) -> None:
    """Positive control: noise that is 5 % too small, or of the other kind, fails."""
    statistic, freedom = chi_square(noise_of(real), density(claimed))
    assert statistic > chi_square_limit(freedom, FALSE_ALARM)


@pytest.mark.parametrize("made", [*NARROW, *WIDE], ids=str)
def test_at_least_95_percent_of_the_noise_lies_inside_the_interval(made: Mechanism) -> None:
    """Binomial: below 95 % - Z·√(p(1-p)/n) is chance with probability 1e-6 at most; far above would be waste."""
    inside = sum(abs(x) <= made.half_width for x in noise_of(made)) / DRAWS
    spread = Z * math.sqrt(0.05 * 0.95 / DRAWS)
    assert inside >= 0.95 - spread
    if made.scale > 50:
        assert inside <= 0.951 + 1 / made.scale + spread


@pytest.mark.parametrize("made", [gaussian(1, RHO_UNIT // 100), laplace(1, Decimal("0.1"))], ids=str)
def test_cells_of_one_vector_have_independent_noise(made: Mechanism) -> None:
    """The correlation of cells a fixed way apart, within a chunk and from chunk to chunk, is within Z/√n. 4e-6."""
    noise = np.array(noise_of(made), dtype=np.float64)
    variance = float(noise @ noise) / DRAWS
    for lag in (1, 2, 7, 8192):
        correlation = float(noise[:-lag] @ noise[lag:]) / (DRAWS - lag) / variance
        assert abs(correlation) <= 1.1 * Z / math.sqrt(DRAWS - lag)


def test_half_of_all_answers_to_an_empty_cell_are_negative_and_stay_so() -> None:
    """Unbiased: as many below as above zero. Binomial, false alarms 1e-6."""
    noise = noise_of(gaussian(1, RHO_UNIT // 200))
    below, above = sum(x < 0 for x in noise), sum(x > 0 for x in noise)
    assert abs(below - above) <= Z * math.sqrt(below + above)


@pytest.mark.parametrize(
    ("made", "threshold"), [(laplace(1, Decimal(1)), 5), (gaussian(1, RHO_UNIT // 8), 6), (laplace(1, Decimal(1)), 3)]
)
def test_opendp_2922_a_lone_key_survives_as_often_as_our_delta_says(made: Mechanism, threshold: int) -> None:
    """Clopper-Pearson on both sides: δ lies between the two bounds but for 1e-6. OpenDP's lies below the lower one."""
    survived = sum(1 + x >= threshold for x in noise_of(made))
    delta = float(delta_of(made, threshold, 1))
    least = lower_bound(survived, DRAWS, FALSE_ALARM / 2)
    assert least <= delta <= 1 - lower_bound(DRAWS - survived, DRAWS, FALSE_ALARM / 2)
    assert float(delta_of(made, threshold + 1, 1)) < least, "δ for > instead of ≥ would not have been noticed"


def test_the_chosen_bin_follows_the_exponential_mechanism() -> None:
    """χ² of 20,000 choices against P[i] ∝ e^(score/scale). False alarms: 1e-6. (opendp#2911 drew something else.)"""
    histogram, draws = [3, 0, 2, 6, 1, 0, 4], 20_000
    scale = choice_scale(1, 2, 1, RHO_UNIT // 8)
    weights = [math.exp(score / scale) for score in scores(histogram, 1, 2)]
    law = {at: weight / sum(weights) for at, weight in enumerate(weights)}
    chosen = [choose_quantile(histogram, 1, 2, 1, RHO_UNIT // 8) for _ in range(draws)]
    statistic, freedom = chi_square(chosen, law)
    assert statistic <= chi_square_limit(freedom, FALSE_ALARM)
    wrong = [math.exp(score / scale / 2) for score in scores(histogram, 1, 2)]
    statistic, freedom = chi_square(chosen, {at: weight / sum(wrong) for at, weight in enumerate(wrong)})
    assert statistic > chi_square_limit(freedom, FALSE_ALARM), "half the scale would not have been noticed"


def test_the_rank_error_holds_in_95_percent_at_least() -> None:
    """1,000 choices among 500 bins of equal weights, one of which holds the target. False alarms: 1e-6."""
    histogram, draws = [7] * 500, 1000
    width = rank_half_width(500, 1, 4, 3, RHO_UNIT // 40)
    chosen = [choose_quantile(histogram, 1, 4, 3, RHO_UNIT // 40) for _ in range(draws)]
    inside = sum(max(7 * at - 875, 875 - 7 * (at + 1)) <= width for at in chosen)
    assert inside / draws >= 0.95 - Z * math.sqrt(0.05 * 0.95 / draws)
    assert width < 875 / 4


def test_the_variance_of_reconciled_marginals_is_that_of_real_noise() -> None:
    """3,000 noisy rollups 3 × 4 of zeros: mean and variance of a cell of every set (central limit theorem). 6e-6."""
    sizes, runs = (3, 4), 3000
    made = {frozenset[int](range(count)): gaussian(1, RHO_UNIT // (100 + 50 * count)) for count in range(3)}
    drawn = {
        key: np.array(mechanism.add([0] * (runs * math.prod(sizes[: len(key)])))) for key, mechanism in made.items()
    }
    seen: dict[frozenset[int], list[float]] = {key: [] for key in made}
    claimed = {}
    for run in range(runs):
        measured = {
            key: (cells.reshape(runs, *sizes[: len(key)])[run], made[key].variance) for key, cells in drawn.items()
        }
        for key, (cells, variance) in reconcile(sizes, measured).items():
            seen[key].append(float(cells.ravel()[0]))
            claimed[key] = variance
    for key, values in seen.items():
        assert claimed[key] < made[key].variance
        assert abs(sum(values) / runs) <= Z * math.sqrt(claimed[key] / runs)
        assert abs(sum(x * x for x in values) / runs / claimed[key] - 1) <= 1.1 * Z * math.sqrt(2 / runs)
