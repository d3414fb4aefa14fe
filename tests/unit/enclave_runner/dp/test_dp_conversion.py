"""Between (ε, δ) and ρ: never more than was asked, hardly less, and inside two published bounds."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal

import opendp.prelude as dp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave_runner.contract.errors import Failed
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


# dp-accounting 0.6.0: ε of ZCDpEvent(ρ) by its RDP accountant on a grid of orders (so a little above the infimum), and
# of the Gaussian mechanism of that ρ by its privacy loss distribution, which is exact and therefore less.
PUBLISHED = [
    (0.0001, "1e-9", 0.074363, 0.070063),
    (0.0001, "1e-6", 0.053727, 0.048906),
    (0.0001, "1e-4", 0.034646, 0.029316),
    (0.0243, "1e-9", 1.288092, 1.222804),
    (0.0243, "1e-6", 0.998769, 0.926244),
    (0.0243, "1e-4", 0.750989, 0.671226),
    (0.5, "1e-9", 6.474072, 6.173935),
    (0.5, "1e-6", 5.221540, 4.886554),
    (0.5, "1e-4", 4.175871, 3.804436),
    (4.0, "1e-9", 21.316182, 20.429241),
    (4.0, "1e-6", 17.861275, 16.860441),
    (4.0, "1e-4", 15.009272, 13.884372),
]


@pytest.mark.parametrize(("rho", "delta", "accountant", "gaussian"), PUBLISHED)
def test_another_accountant_agrees(rho: float, delta: str, accountant: float, gaussian: float) -> None:
    epsilon = epsilon_of(round(rho * RHO_UNIT), float(delta))
    assert gaussian < accountant * (1 - 1e-4) <= epsilon <= accountant + 5e-7
    # Back again: ε is read at ρ, so that at most that ρ and hardly less is found for it.
    found = pico_rho_of(Budget(epsilon=f"{epsilon + 1e-9:.9f}", delta=delta))
    assert found == pytest.approx(rho * RHO_UNIT, rel=2e-6)


def test_the_delta_of_keys_is_taken_out_of_the_curve() -> None:
    """δ' of the keys and δ'' of the curve add up to the δ that is shown."""
    whole, half = epsilon_of(RHO_UNIT // 50, 1e-6), epsilon_of(RHO_UNIT // 50, 1e-6, Decimal("5e-7"))
    assert half == pytest.approx(epsilon_of(RHO_UNIT // 50, 5e-7), rel=1e-9)
    assert half > whole
    budget = Budget(epsilon="1", delta="1e-6")
    spent = pico_rho_of(budget, Decimal("5e-7"))
    assert spent < pico_rho_of(budget)
    assert epsilon_of(spent, 1e-6, Decimal("5e-7")) <= 1


def test_opendp_adds_the_deltas_of_an_approximate_release_as_we_do() -> None:
    """A Gaussian threshold release in OpenDP: its own δ stands beside the curve, to be added to the δ read there."""
    domain = dp.map_domain(dp.atom_domain(T="i64"), dp.atom_domain(T="i64"))
    metric = dp.l02inf_distance(dp.absolute_distance(T="i64"))
    release = dp.m.make_gaussian_threshold(domain, metric, scale=5.0, threshold=30)
    rho, key_delta = release.map((1, 1, 1))
    curve, beside = dp.c.make_zCDP_to_approxDP(release).map((1, 1, 1))
    assert beside == key_delta > 0
    ours = epsilon_of(math.ceil(rho * RHO_UNIT), 1e-6 + key_delta, Decimal(key_delta))
    assert ours == pytest.approx(curve.epsilon(1e-6), rel=1e-7)


@pytest.mark.parametrize(
    "action",
    [
        lambda: epsilon_of(RHO_UNIT, 1e-6, Decimal("1e-6") + Decimal("1e-20")),
        lambda: epsilon_of(0, 1e-6, Decimal("2e-6")),
        lambda: epsilon_of(RHO_UNIT, 1e-6, Decimal("-1e-9")),
        lambda: pico_rho_of(Budget(epsilon="1", delta="1e-6"), Decimal("1e-6")),
    ],
)
def test_keys_that_take_all_of_delta_leave_no_curve(action: Callable[[], object]) -> None:
    with pytest.raises(Failed) as caught:
        action()
    assert caught.value.code == "dp.delta"
