"""Between the (ε, δ) that people ask for and the zCDP ρ that the odometer counts. OpenDP's curve does both ways.

A release of keys that are not public is zCDP but for a δ of its own (`tail.py`). Such δ add: a release that is
δ'-approximately ρ-zCDP is (ε, δ' + δ'')-DP for every (ε, δ'') on the curve of ρ.

Sources: Bun and Steinke 2016 (zCDP; Definition 8.1 and Lemma 8.8 for the approximate one); the conversion is OpenDP's
`make_zCDP_to_approxDP`.
"""

from __future__ import annotations

import math
from decimal import Context, Decimal
from functools import lru_cache

import opendp.prelude as dp

from enclave_runner.contract.errors import Failed
from enclave_runner.contract.privacy import RHO_UNIT, Budget, number

dp.enable_features("contrib")

_DOMAIN = dp.atom_domain(T="i64"), dp.absolute_distance(T="f64")
_EXACT = Context(prec=2000)
NONE = Decimal(0)


def epsilon_of(pico_rho: int, delta: float, key_delta: Decimal = NONE) -> float:
    """The ε at δ of a ρ-zCDP release (OpenDP rounds it up). `key_delta` is the part of δ that released keys have spent.

    Raises:
        Failed: `dp.delta` when nothing of δ is left for the curve.
    """
    left = _left(Decimal(delta), key_delta)
    if pico_rho == 0:
        return 0.0
    # A Gaussian of scale 1 with sensitivity √(2ρ) is exactly ρ-zCDP; its privacy curve is read at δ.
    measurement = dp.c.make_zCDP_to_approxDP(dp.m.make_gaussian(*_DOMAIN, scale=1.0))
    sensitivity = math.nextafter((2 * pico_rho / RHO_UNIT) ** 0.5, math.inf)
    return float(measurement.map(sensitivity).epsilon(delta=left))


@lru_cache(maxsize=256)
def pico_rho_of(budget: Budget, key_delta: Decimal = NONE) -> int:
    """The largest ρ·10¹² (to 1 part in 10⁶) whose release still satisfies the budget, of which keys take `key_delta`.

    Raises:
        Failed: `dp.delta` when nothing of δ is left for ρ.
    """
    epsilon, delta = float(number(budget.epsilon)), _left(number(budget.delta), key_delta)
    # ε ≤ ρ + 2√(ρ ln 1/δ) (Bun and Steinke, Proposition 1.3) gives a ρ that is safe, and 0.6 to 0.9 of the one sought.
    curve = math.log(1 / delta)
    high = max(1, int((math.sqrt(curve + epsilon) - math.sqrt(curve)) ** 2 * RHO_UNIT))
    low = 0
    while epsilon_of(high, delta) <= epsilon:
        low, high = high, high * 3 // 2 + 1
    while high - low > max(1, low // 10**6):
        middle = (low + high) // 2
        low, high = (middle, high) if epsilon_of(middle, delta) <= epsilon else (low, middle)
    return low


def _left(delta: Decimal, key_delta: Decimal) -> float:
    """δ without the part of the keys, as a float that is not above it."""
    left = _EXACT.subtract(delta, key_delta)
    if key_delta < 0 or left <= 0:
        raise Failed("dp.delta")
    nearest = float(left)
    return nearest if Decimal(nearest) <= left else math.nextafter(nearest, 0.0)
