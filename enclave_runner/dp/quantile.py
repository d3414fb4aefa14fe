"""A quantile as a private choice among the bins of a public grid.

Let h be a histogram over the grid, c(i) the weight below bin i and T the total weight. The score of bin i for the
quantile n/d is minus the distance of the target t = n·T from the interval [d·c(i), d·c(i+1)] that the bin covers: 0 for
the bin in which the quantile lies, however much lies in it with it. One unit adds a non-negative histogram of total
weight a ≤ `sensitivity`, which moves c(i) by some b in [0, a] and T by a, hence d·c(i) - n·T by d·b - n·a, which lies
in [-n·a, (d-n)·a]: every distance, and so every score, moves by at most max(n, d-n)·sensitivity.

The minimum and the maximum (quantiles 0 and 1) would be any value below the least or above the largest one. Their
targets lie so far inside that the choice ends beyond all values with probability e^-7 at most, or at half of all weight
where that is less: d·T/2 moves by d·a/2, so that the bound stays d·a.

Choosing i with P[i] ∝ e^(s(i)/scale) is then (Δ/scale)²/2-zCDP: it is the exponential mechanism at ε = 2Δ/scale, whose
bounded range gives ρ = ε²/8 (Cesar and Rogers 2021), a quarter of what ε²/2 would book. OpenDP's noisy max is asked for
zCDP, so that the map it proves is that one (opendp#2911, fixed in 0.16.0, booked and drew something else).

Many groups at once cost what one costs. If the histograms of groups 1..G get the weights a_1..a_G from one unit with
Σ a_g ≤ `sensitivity`, and every group is chosen at the scale of the whole, the joint loss is Σ (max(n,
d-n)·a_g/scale)²/2 ≤ (max(n, d-n)·Σ a_g/scale)²/2 = ρ, because a sum of squares of non-negative numbers is at most the
square of their sum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate, pairwise

import opendp.prelude as dp

from enclave_runner.contract.errors import Failed
from enclave_runner.dp.mechanism import LOG_20, MAX_CELL, gaussian, pico

INSIDE = 7


def choose_quantile(histogram: Sequence[int], numerator: int, denominator: int, sensitivity: int, pico_rho: int) -> int:
    """The bin in which numerator/denominator of the total weight is reached, or one near it, ρ-zCDP.

    All bins are candidates of equal standing, those of an empty histogram too; the caller subdivides the grid.

    Raises:
        Failed: `dp.quantile` for an empty grid, a negative weight, or a quantile outside [0, 1]; `dp.no-noise` and
            `dp.scale` as `mechanism.gaussian` does.
    """
    scale = choice_scale(numerator, denominator, sensitivity, pico_rho)
    reach = math.ceil(scale * (math.log(max(1, len(histogram))) + INSIDE))
    return int(_choice(scale)(scores(histogram, numerator, denominator, reach)))


def scores(histogram: Sequence[int], numerator: int, denominator: int, reach: int = 0) -> list[int]:
    """The score of every bin, cut at 62 bits; `reach` is how far inside the targets of the quantiles 0 and 1 lie.

    The cut moves no two scores further apart. A fault in its place would tell, without noise, whether the total reaches
    a number that whoever writes the fraction can choose. Raises as `choose_quantile` does.
    """
    if not histogram or min(histogram) < 0:
        raise Failed("dp.quantile")
    below = [0, *(denominator * weight for weight in accumulate(histogram))]
    inside = min(reach, below[-1] // 2)
    target = numerator * (below[-1] // denominator)
    if numerator == 0:
        target = inside
    elif numerator == denominator:
        target = below[-1] - inside
    return [-min(max(0, low - target, target - high), MAX_CELL - 1) for low, high in pairwise(below)]


@lru_cache(maxsize=64)
def choice_scale(numerator: int, denominator: int, sensitivity: int, pico_rho: int) -> float:
    """The scale at which the choice is ρ-zCDP by OpenDP's map; raises as `choose_quantile` does."""
    if not 0 <= numerator <= denominator or denominator < 1:
        raise Failed("dp.quantile")
    move = max(numerator, denominator - numerator) * sensitivity
    # Both laws have the map (Δ/scale)²/2; the Gaussian's scale is checked there, the choice's map here.
    scale = gaussian(move, pico_rho).scale
    if pico(_choice(scale).map(move)) > pico_rho:
        raise Failed("dp.scale")
    return scale


def rank_half_width(bins: int, numerator: int, denominator: int, sensitivity: int, pico_rho: int) -> float:
    """How far, with probability 95 % at least, the target may be from the chosen bin, in the histogram's weight units.

    By the utility theorem of the exponential mechanism (McSherry and Talwar 2007): P[s(chosen) ≤ max s - scale·(ln m +
    t)] ≤ e^(-t) for m candidates; the best score is 0.
    """
    scale = choice_scale(numerator, denominator, sensitivity, pico_rho)
    return scale * (math.log(bins + 1) + LOG_20) / denominator * (1 + 2**-40)


@lru_cache(maxsize=16)  # a statement chooses for every group at one scale
def _choice(scale: float) -> dp.Measurement:
    domain, metric = dp.vector_domain(dp.atom_domain(T="i64")), dp.linf_distance(T="i64")
    return dp.m.make_noisy_max(domain, metric, dp.zero_concentrated_divergence(), scale=scale)
