"""No mechanism is worse than it claims, as far as outputs on neighbouring databases can tell; and the auditor can tell.

Every audit accuses a sound mechanism with probability 1e-6 at most. Beside each stands its positive control: the same
mechanism made for half of its sensitivity (or a threshold one too low), audited against the same claim, is caught.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal

import pytest

from enclave_runner.contract.privacy import RHO_UNIT
from enclave_runner.dp.clip import choose_clip, grid
from enclave_runner.dp.conversion import epsilon_of
from enclave_runner.dp.mechanism import Mechanism, gaussian, laplace
from enclave_runner.dp.quantile import choose_quantile
from enclave_runner.dp.tail import delta_of, threshold_for
from tests.support.auditor import audit, audited, epsilon_at_least, lower_bound

FALSE_ALARM = 1e-6
DRAWS = 40_000
DELTA = 0.01  # a large δ, at which a lower bound from 10⁴ outputs comes near to the truth


def noisy(made: Mechanism, cell: int, draws: int = DRAWS) -> list[int]:
    return made.add([cell] * draws)


@pytest.mark.parametrize(("sensitivity", "pico_rho"), [(1, RHO_UNIT // 2), (7, RHO_UNIT // 2), (1 << 20, RHO_UNIT)])
def test_gaussian_noise_keeps_its_claim(sensitivity: int, pico_rho: int) -> None:
    claimed = epsilon_of(pico_rho, DELTA)
    sound, broken = gaussian(sensitivity, pico_rho), gaussian(max(1, sensitivity // 2), pico_rho)
    broken = gaussian(1, 4 * pico_rho) if sensitivity == 1 else broken
    assert audit(noisy(sound, 0), noisy(sound, sensitivity), DELTA, FALSE_ALARM).epsilon <= claimed
    assert audit(noisy(broken, 0), noisy(broken, sensitivity), DELTA, FALSE_ALARM).epsilon > claimed


@pytest.mark.parametrize(("sensitivity", "epsilon"), [(2, "1"), (6, "1.5"), (1 << 20, "0.7")])
def test_laplace_noise_keeps_its_claim_and_nearly_reaches_it(sensitivity: int, epsilon: str) -> None:
    claimed = float(epsilon)
    sound, broken = laplace(sensitivity, Decimal(epsilon)), laplace(sensitivity // 2, Decimal(epsilon))
    found = audit(noisy(sound, 0), noisy(sound, sensitivity), 0.0, FALSE_ALARM).epsilon
    assert 0.7 * claimed < found <= claimed
    assert audit(noisy(broken, 0), noisy(broken, sensitivity), 0.0, FALSE_ALARM).epsilon > claimed


@pytest.mark.parametrize("made", [laplace(1, Decimal(1)), gaussian(1, RHO_UNIT // 2)], ids=str)
def test_a_threshold_release_keeps_its_delta(made: Mechanism) -> None:
    """D' has one unit more, alone with its key. The δ of the claim is the exact one, ε that of the noise beside it."""
    asked = Decimal("0.02")
    threshold = threshold_for(made, 1, asked)
    assert delta_of(made, threshold - 1, 1) > asked

    def released(cut: int) -> list[float]:
        return [x if x >= cut else -math.inf for x in noisy(made, 1)]

    absent = [-math.inf] * DRAWS
    delta = float(delta_of(made, threshold, 1))
    assert audit(absent, released(threshold), delta, FALSE_ALARM).epsilon == 0.0
    assert audit(absent, released(threshold - 1), delta, FALSE_ALARM).epsilon > 2.0


CHOICES = 8000


def choice(sensitivity: int) -> Callable[[bool], float]:
    """The median of three bins, D' with one unit of weight four more in the lowest."""
    return lambda more: choose_quantile([6 if more else 2, 4, 2], 1, 2, sensitivity, RHO_UNIT // 2)


def test_a_quantile_keeps_its_claim() -> None:
    """ρ = ε²/8 at ε = 2: the claim audited is the pure ε of the exponential mechanism, stronger than that ρ."""
    assert 0.5 < audited(choice(4), CHOICES, 0.0, FALSE_ALARM).epsilon <= 2.0
    assert audited(choice(1), CHOICES, 0.0, FALSE_ALARM).epsilon > 2.0


def group_choice(sensitivity: int) -> Callable[[bool], float]:
    """Two groups, over which the one unit divides its weight of four; both chosen bins as one number."""

    def run(more: bool) -> float:
        histogram = [3 if more else 1, 2, 1]
        first, second = (choose_quantile(histogram, 1, 2, sensitivity, RHO_UNIT // 2) for _ in range(2))
        return 10 * first + second

    return run


@pytest.mark.slow
def test_the_quantiles_of_all_groups_cost_what_one_costs() -> None:
    """The joint claim is that of one choice at the whole weight. Broken: weight and second group are forgotten."""
    assert audited(group_choice(4), CHOICES, 0.0, FALSE_ALARM).epsilon <= 2.0
    assert audited(group_choice(1), CHOICES, 0.0, FALSE_ALARM).epsilon > 2.0


EDGES = grid(16)
# So that the last bin, alone far out, is believed from 7 on.
DEVIATION = 6.5 / math.sqrt(2 * math.log(2000 * len(EDGES)))


def clip(made: Mechanism) -> Callable[[bool], float]:
    """Seven units against six in the last bin, where it begins to be believed. The answer is the chosen clip."""

    def run(more: bool) -> float:
        counts = made.add([30, *[0] * (len(EDGES) - 2), 7 if more else 6])
        return choose_clip(counts, EDGES, DEVIATION, 2.0)

    return run


@pytest.mark.slow
def test_a_clip_chosen_by_a_noisy_histogram_keeps_its_claim_and_nearly_reaches_it() -> None:
    assert 2.0 < audited(clip(laplace(1, Decimal(3))), CHOICES // 2, 0.0, FALSE_ALARM).epsilon <= 3.0
    assert audited(clip(laplace(1, Decimal(6))), CHOICES // 2, 0.0, FALSE_ALARM).epsilon > 3.0


@pytest.mark.parametrize(
    ("hits", "draws", "least"), [(0, 100, 0.0), (1, 1, 0.001), (50, 100, 0.3448), (100, 100, 0.001**0.01)]
)
def test_the_auditor_bounds_a_share_as_clopper_and_pearson_do(hits: int, draws: int, least: float) -> None:
    """At α = 0.001; 0.3448 is the α quantile of Beta(50, 51)."""
    assert lower_bound(hits, draws, 0.001) == pytest.approx(least, abs=1e-4)


def test_the_auditor_accuses_nobody_of_what_it_did_not_see() -> None:
    assert epsilon_at_least(0, 1000, 500, 1000, 0.0, FALSE_ALARM) == 0.0
    assert epsilon_at_least(500, 1000, 500, 1000, 0.0, FALSE_ALARM) == 0.0
    assert epsilon_at_least(10, 1000, 0, 1000, 0.05, FALSE_ALARM) == 0.0
