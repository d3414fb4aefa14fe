"""From exact vectors to noisy ones. What is exact ends in this module; what leaves it has its noise and its variance.

One unit moves each vector by no more than the sensitivity that the mechanism is given: `plan/bound.py` says which.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from enclave_runner.contract.errors import Failed
from enclave_runner.dp.clip import believed, choose_clip, grid, lost_share
from enclave_runner.dp.marginals import allocate, reconcile
from enclave_runner.dp.mechanism import Mechanism
from enclave_runner.dp.quantile import choice_scale, choose_quantile
from enclave_runner.egress.shares import Share, Shares
from enclave_runner.plan.bound import BoundSelect, Clipping, Histogram, NormKind, Sums
from enclave_runner.plan.statistics import RATIOS, rounded_root

# Counts of units per group are scaled, so that a sensitivity such as √20 need not be rounded up to 5.
UNIT_STEP = 1 << 10
CELL_BITS = 58  # a coarsened cell and its noise stay far inside 64 bits
SENSITIVITY_BITS = 48
# How many times its noise a clip may cost in what it cuts away. A mean or a quantile hardly depends on how much of a
# few units is clipped, and a corrected total has most of it put back; a plain total has to bear it.
RATIO_TOLERANCE, CORRECTED_TOLERANCE, CORRECTED_RATIO_TOLERANCE = 100.0, 30.0, 200.0
MEAN_OF_NORMAL = math.sqrt(2 / math.pi)


@dataclass(frozen=True)
class Learned:
    """A noisy histogram of the units' norms."""

    edges: tuple[int, ...]
    counts: tuple[int, ...]
    deviation: float

    @property
    def furthest(self) -> int | None:
        """The largest norm that stands out of the noise; None where nothing does, and nothing was learned."""
        end = believed(self.counts, self.deviation)
        return self.edges[end - 1] if end else None


@dataclass(frozen=True)
class Noisy:
    """A noisy vector in its own units: value = cell · `unit`; `variance` and `half_width` (95 %) of every cell."""

    cells: tuple[Fraction, ...]
    variance: float
    half_width: float


def edges_of(clipping: Clipping) -> tuple[int, ...]:
    """The public grid over which a norm is spread."""
    return grid(clipping.limit)


def learn(exact: Sequence[int], edges: tuple[int, ...], share: Share) -> Learned:
    """The noisy histogram of norms: one unit falls into one bin, so its sensitivity is 1."""
    if len(exact) != len(edges):
        raise Failed("egress.shape")
    mechanism = share.mechanism(1)
    return Learned(edges, tuple(mechanism.add(exact)), math.sqrt(mechanism.variance))


def sums_clip(plan: BoundSelect, shares: Shares, learned: dict[NormKind, Learned]) -> int:
    """The clip of the joint vector: learned, or the catalogue's."""
    if plan.sums is None or shares.sums is None:
        return 1
    clipping = plan.sums.clipping
    found = learned.get(clipping.kind)
    if found is None or found.furthest is None:
        return clipping.limit
    # Noise grows with the sensitivity, so that the factor cancels out; with it the scale may be beyond any mechanism's.
    mechanism = shares.sums.mechanism(clipping.weight_scale)
    noise = MEAN_OF_NORMAL * math.sqrt(mechanism.variance) / clipping.weight_scale
    tolerance = _tolerance(plan, shares.correction is not None)
    return choose_clip(found.counts, found.edges, found.deviation, noise * tolerance, plan.cells)


def _tolerance(plan: BoundSelect, is_corrected: bool) -> float:
    linear = {item.kind for item in plan.estimates if item.total is not None or item.count is not None}
    if is_corrected:
        return CORRECTED_RATIO_TOLERANCE if linear & RATIOS else CORRECTED_TOLERANCE
    return RATIO_TOLERANCE if linear <= RATIOS else 1.0


def histogram_clip(histogram: Histogram, share: Share, learned: dict[NormKind, Learned], cells: int) -> int:
    """The clip of a quantile's histogram: learned, or the catalogue's."""
    clipping = histogram.clipping
    found = learned.get(clipping.kind)
    if found is None or found.furthest is None:
        return clipping.limit
    scale = choice_scale(1, 2, clipping.sensitivity(1), share.choice_pico_rho)
    noise = scale / 2 / clipping.weight_scale
    return choose_clip(found.counts, found.edges, found.deviation, noise * RATIO_TOLERANCE, cells)


def lost(learned: Learned | None, clip: int) -> tuple[float, float] | None:
    """The share of all contributions that the clip cut away, with its 95 % half width; None when it is not known."""
    if learned is None or learned.furthest is None:
        return None
    share, half_width = lost_share(learned.counts, learned.edges, clip, learned.deviation)
    return None if half_width >= 1 else (share, half_width)


def coarsening_of(population: int, sensitivity: int) -> int:
    """The least power of two that keeps cells and noise inside 64-bit integers; 1 nearly always."""
    excess = max((population * sensitivity).bit_length() - CELL_BITS, sensitivity.bit_length() - SENSITIVITY_BITS, 0)
    return 1 << excess


def coarsened(sensitivity: int, coarsening: int, power: int, cells: int, is_marginal: bool) -> int:
    """The sensitivity of cells that are floored to multiples of `coarsening`: each adds an error below 1.

    Where cells are added up to marginals, so are their errors.
    """
    if coarsening == 1:
        return sensitivity
    return -(-sensitivity // coarsening) + (rounded_root(cells) if power == 2 and not is_marginal else cells)


def sums_coarsening(plan: BoundSelect, clip: int) -> int:
    """The coarsening of the joint vector at that clip."""
    return 1 if plan.sums is None else coarsening_of(plan.population, plan.sums.clipping.sensitivity(clip))


def sums_bound(plan: BoundSelect, sums: Sums, clip: int) -> int:
    """By how much one unit moves the coarsened joint vector over public groups, and any sum of its cells."""
    cells, several = plan.cells * len(sums.statistics), len(plan.grouping_sets) > 1
    return coarsened(sums.clipping.sensitivity(clip), sums_coarsening(plan, clip), plan.power, cells, several)


def noisy_sums(
    plan: BoundSelect, sums: Sums, share: Share, clip: int, exact: Sequence[Sequence[int]]
) -> list[list[Noisy]]:
    """For each grouping set, the noisy vector of every statistic."""
    cells = plan.cells
    if len(exact) != len(sums.statistics) or any(len(vector) != cells for vector in exact):
        raise Failed("egress.shape")
    bound, coarsening = sums_bound(plan, sums, clip), sums_coarsening(plan, clip)
    units = [sums.unit(at, coarsening) for at in range(len(sums.statistics))]
    if len(plan.grouping_sets) == 1:
        mechanism = share.mechanism(bound)
        flat = mechanism.add([cell for vector in exact for cell in vector])
        parts = [flat[start : start + cells] for start in range(0, len(flat), cells)]
        return [[noisy(part, unit, mechanism) for part, unit in zip(parts, units, strict=True)]]
    return _marginals(plan, share, bound, exact, units)


def open_sums(plan: BoundSelect, sums: Sums, share: Share, clip: int, exact: Sequence[Sequence[int]]) -> list[Noisy]:
    """The noisy vector of every statistic over the keys that passed the threshold."""
    coarsening = sums_coarsening(plan, clip)
    count = len(exact[0]) if exact else 0
    bound = coarsened(sums.clipping.sensitivity(clip), coarsening, plan.power, len(exact) * count, False)
    mechanism = share.mechanism(bound)
    flat = mechanism.add([cell for vector in exact for cell in vector])
    return [
        noisy(flat[at * count : (at + 1) * count], sums.unit(at, coarsening), mechanism)
        for at in range(len(sums.statistics))
    ]


def whole_sums(
    plan: BoundSelect, sums: Sums, share: Share, clip: int, coarsening: int, exact: Sequence[int]
) -> list[Noisy]:
    """The statistics over all groups together: they move by no more than the vector over the groups."""
    bound = coarsened(sums.clipping.sensitivity(clip), coarsening, plan.power, plan.cells * len(exact), True)
    mechanism = share.mechanism(bound)
    return [noisy([cell], sums.unit(at, coarsening), mechanism) for at, cell in enumerate(mechanism.add(exact))]


def ratio_of(high: Noisy, low: Noisy) -> tuple[Fraction, float]:
    """(ratio, variance) of a total at a higher clip to the sum of the groups at theirs; 1 where noise hides it."""
    whole, part = high.cells[0], sum(low.cells, Fraction(0))
    part_variance = low.variance * len(low.cells)
    if abs(float(part)) < 10 * math.sqrt(part_variance) or abs(float(whole)) < 10 * math.sqrt(high.variance):
        return Fraction(1), 0.0
    ratio = max(Fraction(1), whole / part)
    relative = high.variance / float(whole) ** 2 + part_variance / float(part) ** 2
    return ratio, float(ratio) ** 2 * relative


def noisy_units(exact: Sequence[int], groups: int, power: int, share: Share) -> Noisy:
    """Counts of units in groups, one unit counting in at most `groups` of them."""
    mechanism, step = units_mechanism(groups, power, share)
    return noisy(mechanism.add([cell * step for cell in exact]), Fraction(1, step), mechanism)


def units_mechanism(groups: int, power: int, share: Share) -> tuple[Mechanism, int]:
    """The noise of such counts, and the whole number by which they are scaled before it."""
    step = 1 if groups == 1 or power == 1 else UNIT_STEP
    moved = groups * step if power == 1 else rounded_root(groups * step * step)
    return share.mechanism(moved), step


def noisy_values(exact: Sequence[int], limit: int, share: Share) -> Noisy:
    """How many values occur: one unit can bring or take away at most `limit`."""
    mechanism = share.mechanism(limit)
    return noisy(mechanism.add([sum(1 for cell in exact if cell > 0)]), Fraction(1), mechanism)


def noisy_quantile(
    histogram: Histogram, exact: Sequence[int], cells: int, fraction: Fraction, clip: int, share: Share
) -> tuple[Fraction, ...]:
    """The middle of the chosen bin of every group, in the value's unit. All groups together cost what one costs."""
    if len(exact) != cells * histogram.bins:
        raise Failed("egress.shape")
    bound = histogram.clipping.sensitivity(clip)
    parts = [exact[start : start + histogram.bins] for start in range(0, len(exact), histogram.bins)]
    chosen = [
        choose_quantile(part, fraction.numerator, fraction.denominator, bound, share.choice_pico_rho) for part in parts
    ]
    first = Fraction(2 * histogram.low + histogram.step - 1, 2)
    return tuple((first + histogram.step * at) / 10**histogram.scale for at in chosen)


def noisy(cells: Sequence[int], unit: Fraction, mechanism: Mechanism) -> Noisy:
    """Cells that the mechanism has made noisy, of that unit."""
    scale = float(unit)
    return Noisy(tuple(cell * unit for cell in cells), mechanism.variance * scale**2, mechanism.half_width * scale)


def _marginals(
    plan: BoundSelect, share: Share, bound: int, exact: Sequence[Sequence[int]], units: Sequence[Fraction]
) -> list[list[Noisy]]:
    """Every grouping set gets noise of its own, then all are made consistent."""
    sizes = [len(axis.labels) for axis in plan.axes]
    sets = [frozenset(item) for item in plan.grouping_sets]
    parts = allocate(sizes, sets)
    bases = [np.array(vector, dtype=np.int64).reshape(sizes) for vector in exact]
    mechanisms = {axes: share.part(parts[axes]).mechanism(bound) for axes in sets}
    made: list[list[Noisy]] = [[] for _ in sets]
    for base, unit in zip(bases, units, strict=True):
        measured = {}
        for axes, mechanism in mechanisms.items():
            summed = base.sum(axis=tuple(axis for axis in range(len(sizes)) if axis not in axes))
            drawn = np.array(mechanism.add([int(cell) for cell in summed.ravel()]), dtype=np.int64)
            measured[axes] = (drawn.reshape(summed.shape), mechanism.variance)
        consistent = reconcile(sizes, measured)
        for at, axes in enumerate(sets):
            cells, variance = consistent[axes]
            scale, mechanism = float(unit), mechanisms[axes]
            width = mechanism.half_width / math.sqrt(mechanism.variance) * math.sqrt(variance)
            values = tuple(Fraction(float(cell)) * unit for cell in cells.ravel())
            made[at].append(Noisy(values, variance * scale**2, width * scale))
    return made
