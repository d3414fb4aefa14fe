"""The two discrete distributions, computed term by term, and a χ² test against them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import NormalDist

from enclave_runner.dp.mechanism import Mechanism, Noise


def density(mechanism: Mechanism) -> dict[int, float]:
    """P[noise = x], to where it falls below 10⁻³⁰ (Canonne, Kamath and Steinke 2020; Ghosh and others 2012)."""
    scale = mechanism.scale
    reach = int((12 if mechanism.noise is Noise.GAUSSIAN else 70) * scale) + 3
    weights = {x: math.exp(-_exponent(mechanism, x)) for x in range(-reach, reach + 1)}
    total = math.fsum(weights.values())
    return {x: weight / total for x, weight in weights.items()}


def _exponent(mechanism: Mechanism, x: int) -> float:
    if mechanism.noise is Noise.GAUSSIAN:
        return (x / mechanism.scale) ** 2 / 2
    return abs(x) / mechanism.scale


def chi_square(seen: Sequence[int], expected: Mapping[int, float]) -> tuple[float, int]:
    """(statistic, degrees of freedom) over all values expected at least 20 times, the others pooled."""
    counts, statistic, bins, rest, rest_seen = Counter(seen), 0.0, 0, 1.0, len(seen)
    for value, probability in expected.items():
        number = probability * len(seen)
        if number < 20:
            continue
        statistic += (counts[value] - number) ** 2 / number
        bins, rest, rest_seen = bins + 1, rest - probability, rest_seen - counts[value]
    if rest * len(seen) > 5:
        statistic, bins = statistic + (rest_seen - rest * len(seen)) ** 2 / (rest * len(seen)), bins + 1
    return statistic, bins - 1


def chi_square_limit(freedom: int, false_alarm: float) -> float:
    """The 1 - false alarm quantile (Wilson and Hilferty 1931), with 5 % of room for the approximation."""
    z = NormalDist().inv_cdf(1 - false_alarm)
    return 1.05 * freedom * (1 - 2 / (9 * freedom) + z * math.sqrt(2 / (9 * freedom))) ** 3
