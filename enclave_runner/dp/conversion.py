"""Between the (ε, δ) that people ask for and the zCDP ρ that the odometer counts. OpenDP's curve does both ways.

Sources: Bun and Steinke 2016 (zCDP); the conversion is OpenDP's `make_zCDP_to_approxDP`.
"""

from __future__ import annotations

from functools import lru_cache

import opendp.prelude as dp

from enclave_runner.contract.privacy import RHO_UNIT, Budget, number

dp.enable_features("contrib")

_DOMAIN = dp.atom_domain(T="i64"), dp.absolute_distance(T="f64")


def epsilon_of(pico_rho: int, delta: float) -> float:
    """The ε at δ of a ρ-zCDP release (OpenDP rounds it up)."""
    if pico_rho == 0:
        return 0.0
    # A Gaussian of scale 1 with sensitivity √(2ρ) is exactly ρ-zCDP; its privacy curve is read at δ.
    measurement = dp.c.make_zCDP_to_approxDP(dp.m.make_gaussian(*_DOMAIN, scale=1.0))
    sensitivity = (2 * pico_rho / RHO_UNIT) ** 0.5
    return float(measurement.map(sensitivity).epsilon(delta=delta))


@lru_cache(maxsize=256)
def pico_rho_of(budget: Budget) -> int:
    """The largest ρ·10¹² (to 1 part in 10⁶) whose release still satisfies the budget."""
    epsilon, delta = float(number(budget.epsilon)), float(number(budget.delta))
    low, high = 0, 1
    while epsilon_of(high, delta) <= epsilon:
        low, high = high, high * 4
    while high - low > max(1, low // 10**6):
        middle = (low + high) // 2
        low, high = (middle, high) if epsilon_of(middle, delta) <= epsilon else (low, middle)
    return low
