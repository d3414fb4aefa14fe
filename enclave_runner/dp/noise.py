"""Discrete Gaussian noise on integer vectors, by OpenDP, with the loss that OpenDP itself proves.

Source: Canonne, Kamath, Steinke, "The Discrete Gaussian for Differential Privacy" (2020): σ = Δ₂/√(2ρ) is ρ-zCDP.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import opendp.prelude as dp

from enclave_runner.contract.errors import Failed
from enclave_runner.contract.privacy import RHO_UNIT

dp.enable_features("contrib")

TWO_SIDED_95 = 1.959963984540054


def scale_for(sensitivity: int, pico_rho: int) -> float:
    """The least σ (to a few parts in 10¹²) at which OpenDP's map gives at most ρ."""
    if sensitivity <= 0 or pico_rho <= 0:
        raise Failed("dp.no-noise")
    scale = sensitivity / math.sqrt(2 * pico_rho / RHO_UNIT)
    for _ in range(60):
        if _measurement(scale).map(float(sensitivity)) * RHO_UNIT <= pico_rho:
            return scale
        scale *= 1 + 2**-40
    raise Failed("dp.scale")


def add_noise(exact: Sequence[int], sensitivity: int, pico_rho: int) -> list[int]:
    """The vector with discrete Gaussian noise: ρ-zCDP for vectors that differ by at most `sensitivity` in L2."""
    scale = scale_for(sensitivity, pico_rho)
    noisy: list[int] = _measurement(scale)(list(exact))
    if len(noisy) != len(exact):
        raise Failed("dp.shape")
    return noisy


def half_width(sensitivity: int, pico_rho: int) -> float:
    """Half the width of the interval that holds 95 % of the noise, in the vector's integer units."""
    return TWO_SIDED_95 * scale_for(sensitivity, pico_rho) + 0.5


def _measurement(scale: float) -> dp.Measurement:
    domain = dp.vector_domain(dp.atom_domain(T="i64"))
    return dp.m.make_gaussian(domain, dp.l2_distance(T="f64"), scale=scale)
