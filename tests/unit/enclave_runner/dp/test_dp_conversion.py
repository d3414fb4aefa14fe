"""Between (ε, δ) and ρ: never more than was asked, hardly less, and inside two published bounds."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave_runner.contract.privacy import RHO_UNIT, Budget
from enclave_runner.dp.conversion import epsilon_of, pico_rho_of

EPSILONS = st.floats(0.001, 100)
DELTAS = st.sampled_from(["1e-15", "1e-10", "1e-6", "1e-5", "1e-4"])


@given(EPSILONS, DELTAS)
@settings(max_examples=15, deadline=None)
def test_a_budget_is_never_exceeded_and_hardly_wasted(epsilon: float, delta: str) -> None:
    spent = pico_rho_of(Budget(epsilon=f"{epsilon:.6f}", delta=delta))
    asked = float(f"{epsilon:.6f}")
    assert epsilon_of(spent, float(delta)) <= asked
    assert epsilon_of(spent + spent // 10**5 + 2, float(delta)) > asked


@given(st.integers(10**6, 8 * RHO_UNIT), DELTAS)
@settings(max_examples=60, deadline=None)
def test_epsilon_lies_between_the_gaussian_and_the_simple_zcdp_bound(pico_rho: int, delta: str) -> None:
    """Not below the exact ε of a Gaussian (Balle and Wang 2018), not above ρ + 2√(ρ ln 1/δ) (Bun and Steinke 2016)."""
    rho, tail = pico_rho / RHO_UNIT, float(delta)
    epsilon = epsilon_of(pico_rho, tail)
    assert epsilon <= (rho + 2 * math.sqrt(rho * math.log(1 / tail))) * (1 + 1e-9)
    assert _gaussian_delta(epsilon * (1 + 1e-6), math.sqrt(2 * rho)) <= tail * (1 + 1e-3)


def _gaussian_delta(epsilon: float, mu: float) -> float:
    """δ of a Gaussian mechanism with sensitivity/σ = μ."""
    return _below(mu / 2 - epsilon / mu) - math.exp(epsilon) * _below(-mu / 2 - epsilon / mu)


def _below(x: float) -> float:
    """The normal distribution, accurate far out in its lower tail."""
    return math.erfc(-x / math.sqrt(2)) / 2


def test_nothing_spent_is_nothing() -> None:
    assert epsilon_of(0, 1e-6) == 0.0


def test_epsilon_grows_with_the_loss() -> None:
    values = [epsilon_of(loss, 1e-6) for loss in (1, 10**6, 10**9, RHO_UNIT, 8 * RHO_UNIT)]
    assert values == sorted(values)
    assert values[1] > 0


@pytest.mark.parametrize("epsilon", ["1e-9", "1e-30", "1e-400"])
def test_a_budget_below_every_loss_buys_none(epsilon: str) -> None:
    assert pico_rho_of(Budget(epsilon=epsilon, delta="1e-15")) == 0
