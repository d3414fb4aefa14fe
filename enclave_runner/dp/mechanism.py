"""Integer noise for integer vectors, by OpenDP, with the loss that OpenDP's own map proves.

Neighbours: adding or removing one privacy unit moves the exact vector by at most `sensitivity`, in L2 for Gaussian
and in L1 for Laplace noise, over ALL its cells together. Noise is drawn from OpenDP's operating-system randomness;
there is no seed. Answers are whole numbers, unbiased: negative ones are kept.

Sources: Canonne, Kamath, Steinke, "The Discrete Gaussian for Differential Privacy" (2020): scale Δ₂/√(2ρ) is ρ-zCDP;
Ghosh, Roughgarden, Sundararajan (2012): discrete Laplace of scale Δ₁/ε is ε-DP; Bun and Steinke (2016): ε-DP is
(ε²/2)-zCDP.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from functools import lru_cache

import opendp.prelude as dp

from enclave_runner.contract.errors import Failed
from enclave_runner.contract.privacy import RHO_UNIT

dp.enable_features("contrib")

MAX_CELL = 1 << 62
# A noise value leaves i64 when it exceeds 2^62 = 2^8 scales: Laplace does so with probability e^-256 per cell, Gaussian
# with e^-32768. OpenDP would then saturate, which costs accuracy and no privacy.
MAX_SCALE = float(1 << 54)
PARALLEL_CELLS = 4096
CHUNK_CELLS = 8192
# The 97.5 % quantile of the normal distribution and ln 20, both rounded up.
NORMAL_95 = 1.959963984540055
LOG_20 = 2.9957322735539915


class Noise(StrEnum):
    """The two distributions."""

    GAUSSIAN = "gaussian"
    LAPLACE = "laplace"


@dataclass(frozen=True, slots=True)
class Mechanism:
    """Noise of one scale for vectors of one sensitivity.

    `scale` is σ of the discrete Gaussian (P[x] ∝ e^(-x²/2σ²)) or s of the discrete Laplace (P[x] ∝ e^(-|x|/s)), the
    exact binary number that OpenDP is given. `pico_rho` is the proven loss ρ·10¹², rounded up. Made by `gaussian` and
    `laplace` only.
    """

    noise: Noise
    sensitivity: int
    scale: float
    pico_rho: int

    def add(self, exact: Sequence[int]) -> list[int]:
        """The vector with independent noise in every cell.

        Long vectors are drawn in threads, in chunks: cells are independent draws of one scale, so that the chunks have
        the joint law of one vector and together the loss of one.

        Raises:
            Failed: `dp.cell` when a cell is not below 2^62 in magnitude, `dp.shape` when OpenDP answers otherwise.
        """
        cells = list(exact)
        if cells and not -MAX_CELL < min(cells) <= max(cells) < MAX_CELL:
            raise Failed("dp.cell")
        if len(cells) <= PARALLEL_CELLS:
            noisy = self._draw(cells)
        else:
            chunks = [cells[start : start + CHUNK_CELLS] for start in range(0, len(cells), CHUNK_CELLS)]
            with ThreadPoolExecutor(max(2, len(os.sched_getaffinity(0)))) as pool:
                noisy = [cell for chunk in pool.map(self._draw, chunks) for cell in chunk]
        if len(noisy) != len(cells):
            raise Failed("dp.shape")
        return noisy

    def _draw(self, cells: list[int]) -> list[int]:
        # A measurement of its own for every chunk, so that threads share nothing; it costs 0.1 ms.
        noisy: list[int] = _measurement(self.noise, self.scale)(cells)
        return noisy

    @property
    def half_width(self) -> float:
        """The least whole w (to rounding upwards) for which P[|noise| ≤ w] ≥ 95 % is proven.

        Laplace: P[|X| > w] = 2·e^(-(w+1)/s) / (1 + e^(-1/s)), solved for w. Gaussian: the density is convex from σ on,
        so that P[X ≥ w+1] ≤ P[N(0, σ²) ≥ w + ½] (`tail.py`), hence w = ⌈1.96·σ - ½⌉.
        """
        if self.noise is Noise.GAUSSIAN:
            return float(max(0, math.ceil(NORMAL_95 * self.scale - 0.5)))
        width = self.scale * (LOG_20 + math.log(2 / (1 + math.exp(-1 / self.scale)))) - 1
        return float(max(0, math.ceil(width * (1 + 2**-40))))

    @property
    def variance(self) -> float:
        """The variance of one cell's noise, to a few parts in 10⁹."""
        if self.noise is Noise.LAPLACE:
            half = 1 / (2 * self.scale)
            return 0.0 if half > 300 else 1 / (2 * math.sinh(half) ** 2)
        if self.scale >= 2:  # Poisson summation: the difference is below 4π²σ⁴·e^(-2π²σ²), here 10⁻³¹
            return self.scale**2
        weights = [math.exp(-((x / self.scale) ** 2) / 2) for x in range(30)]
        return sum(2 * x * x * weight for x, weight in enumerate(weights)) / (2 * sum(weights) - 1)


@lru_cache(maxsize=256)
def gaussian(sensitivity: int, pico_rho: int) -> Mechanism:
    """The least discrete Gaussian (to one part in 10¹²) that OpenDP proves to be ρ-zCDP at this L2 sensitivity.

    Raises:
        Failed: `dp.no-noise` for a sensitivity or a loss that is not above 0, `dp.scale` for a scale above 2^54.
    """
    if sensitivity <= 0 or pico_rho <= 0:
        raise Failed("dp.no-noise")
    # OpenDP rounds the map upwards, so that the closed form alone may miss the asked ρ by a last digit.
    scale = _checked(_ratio(sensitivity, math.sqrt(2 * pico_rho / RHO_UNIT)) * (1 + 2**-40))
    if pico(_measurement(Noise.GAUSSIAN, scale).map(sensitivity)) > pico_rho:
        raise Failed("dp.scale")
    return Mechanism(Noise.GAUSSIAN, sensitivity, scale, pico_rho)


@lru_cache(maxsize=256)
def laplace(sensitivity: int, epsilon: Decimal) -> Mechanism:
    """The least discrete Laplace (to one part in 10¹²) that OpenDP proves to be ε-DP at this L1 sensitivity.

    Its `pico_rho` is ε²/2 of the ε that OpenDP's map gives, rounded up. Raises as `gaussian` does.
    """
    if sensitivity <= 0 or not epsilon.is_finite() or epsilon <= 0 or float(epsilon) == 0.0:
        raise Failed("dp.no-noise")
    scale = _checked(_ratio(sensitivity, float(epsilon)) * (1 + 2**-40))
    proven = Fraction(_measurement(Noise.LAPLACE, scale).map(sensitivity))
    if proven > Fraction(epsilon):
        raise Failed("dp.scale")
    return Mechanism(Noise.LAPLACE, sensitivity, scale, math.ceil(proven**2 / 2 * RHO_UNIT))


def pico(rho: float) -> int:
    """A proven ρ in units of 10⁻¹², rounded up exactly."""
    if not math.isfinite(rho):
        raise Failed("dp.scale")
    return math.ceil(Fraction(rho) * RHO_UNIT)


def _ratio(sensitivity: int, divisor: float) -> float:
    try:
        return float(Fraction(sensitivity) / Fraction(divisor))
    except OverflowError:
        raise Failed("dp.scale") from None


def _checked(scale: float) -> float:
    if not 0 < scale <= MAX_SCALE:
        raise Failed("dp.scale")
    return scale


def _measurement(noise: Noise, scale: float) -> dp.Measurement:
    domain = dp.vector_domain(dp.atom_domain(T="i64"))
    if noise is Noise.GAUSSIAN:
        return dp.m.make_gaussian(domain, dp.l2_distance(T="i64"), scale=scale)
    return dp.m.make_laplace(domain, dp.l1_distance(T="i64"), scale=scale)
