"""Aggregates from noisy vectors: post-processing, with the variance that the noise alone gives each value.

A mean has the interval of a ratio by Fieller (1954), which covers 95 % whatever the number of rows; where that number
does not stand out of its noise the interval has no end, and neither mean nor interval is told. Variances take theirs to
second order, widened in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from enclave_runner.contract.errors import Failed
from enclave_runner.egress.measure import Noisy
from enclave_runner.plan.bound import Estimate, Statistic
from enclave_runner.plan.nodes import AggregateKind


@dataclass(frozen=True)
class Estimated:
    """One aggregate's values over the groups, and the half width of each one's 95 % interval; None: not known."""

    values: tuple[Fraction | None, ...]
    half_widths: tuple[float | None, ...]


@dataclass(frozen=True)
class Moments:
    """The noisy number of rows, sum and sum of squares of one group, about a centre, with their variances.

    `reach` is how many standard deviations of the noise hold 95 % of it.
    """

    count: float
    total: float
    square: float
    count_variance: float
    total_variance: float
    square_variance: float
    reach: float

    @property
    def blur(self) -> float:
        """Fieller's g: the square of the number of rows' half width by that number; from 1 on it may be 0."""
        return self.reach**2 * self.count_variance / self.count**2 if self.count > 0 else 1.0


def linear(estimate: Estimate, vectors: Sequence[Noisy], statistics: Sequence[Statistic]) -> Estimated:
    """COUNT, SUM, AVG, VARIANCE and STDDEV from the joint vector."""
    match estimate.kind:
        case AggregateKind.COUNT if estimate.count is not None:
            return plain(vectors[estimate.count])
        case AggregateKind.SUM if estimate.total is not None:
            centre = _centre(estimate, statistics)
            if estimate.count is None or not centre:
                return plain(vectors[estimate.total])
            return _shifted(vectors[estimate.total], vectors[estimate.count], centre)
        case AggregateKind.AVG:
            return _by_group(estimate, vectors, statistics, _mean)
        case AggregateKind.VARIANCE:
            return _by_group(estimate, vectors, statistics, _variance)
        case AggregateKind.STDDEV:
            return _by_group(estimate, vectors, statistics, _deviation)
    raise Failed("egress.shape")


def rescaled(noisy: Noisy, ratio: Fraction, ratio_variance: float) -> Noisy:
    """Every cell times a noisy ratio; the largest cell decides the width that the ratio adds."""
    largest = max((abs(float(cell)) for cell in noisy.cells), default=0.0)
    factor = float(ratio)
    variance = noisy.variance * factor**2 + largest**2 * ratio_variance
    width = noisy.half_width / math.sqrt(noisy.variance) * math.sqrt(variance)
    return Noisy(tuple(cell * ratio for cell in noisy.cells), variance, width)


def plain(noisy: Noisy) -> Estimated:
    """A noisy vector as it is."""
    return Estimated(noisy.cells, (noisy.half_width,) * len(noisy.cells))


def _centre(estimate: Estimate, statistics: Sequence[Statistic]) -> Fraction:
    if estimate.total is None:
        return Fraction(0)
    return Fraction(statistics[estimate.total].centre, 10 ** statistics[estimate.total].scale)


def _shifted(total: Noisy, count: Noisy, centre: Fraction) -> Estimated:
    """Σ(x - c) + c·n."""
    values = tuple(some + centre * rows for some, rows in zip(total.cells, count.cells, strict=True))
    width = math.hypot(total.half_width, float(centre) * count.half_width)
    return Estimated(values, (width,) * len(values))


def _by_group(
    estimate: Estimate,
    vectors: Sequence[Noisy],
    statistics: Sequence[Statistic],
    of: Callable[[Moments], tuple[float, float] | None],
) -> Estimated:
    """A function of each group's moments: its value and half width, None where the noise leaves none."""
    if estimate.count is None or estimate.total is None:
        raise Failed("egress.shape")
    count, total = vectors[estimate.count], vectors[estimate.total]
    square = vectors[estimate.square] if estimate.square is not None else total
    centre = float(_centre(estimate, statistics)) if estimate.kind is AggregateKind.AVG else 0.0
    reach = count.half_width / math.sqrt(count.variance)
    values: list[Fraction | None] = []
    widths: list[float | None] = []
    for rows, some, squares in zip(count.cells, total.cells, square.cells, strict=True):
        found = of(
            Moments(float(rows), float(some), float(squares), count.variance, total.variance, square.variance, reach)
        )
        values.append(None if found is None else Fraction(found[0] + centre))
        widths.append(None if found is None else found[1])
    return Estimated(tuple(values), tuple(widths))


def _mean(group: Moments) -> tuple[float, float] | None:
    """The ratio, and how far the farther end of Fieller's interval is from it."""
    blur = group.blur
    if group.count < 1 or blur >= 1:
        return None
    mean = group.total / group.count
    spread = group.total_variance * (1 - blur) + mean**2 * group.count_variance
    return mean, (group.reach / group.count * math.sqrt(spread) + abs(mean) * blur) / (1 - blur)


def _variance(group: Moments) -> tuple[float, float] | None:
    """The sample variance, never below 0."""
    n, blur = group.count, group.blur
    if n < 2 or blur >= 1:
        return None
    mean, second = group.total / n, group.square / n
    slope_count = (2 * mean**2 - second) / n
    spread = (
        group.square_variance / n**2
        + (2 * mean / n) ** 2 * group.total_variance
        + slope_count**2 * group.count_variance
    )
    bessel = n / (n - 1)
    variance = max(0.0, (second - mean**2) * bessel)
    # The square of the mean is bent: noise of the sum alone moves it by up to (reach·σ/n)².
    bent = group.reach**2 * group.total_variance / n**2
    return variance, ((group.reach * math.sqrt(spread) + bent) * bessel + variance * blur) / (1 - blur)


def _deviation(group: Moments) -> tuple[float, float] | None:
    """The root; its interval is that of the variance, each end under the root."""
    found = _variance(group)
    if found is None or found[0] <= 0:
        return None
    variance, width = found
    deviation = math.sqrt(variance)
    low, high = math.sqrt(max(0.0, variance - width)), math.sqrt(variance + width)
    return deviation, max(deviation - low, high - deviation)
