"""Joint answering of ROLLUP, CUBE and GROUPING SETS: noisy marginals of one base table made consistent.

A marginal over the axes A is the sum of orthogonal parts, one for every B ⊆ A: the part of B is what is left of the
marginal over B after the mean along each of its axes is taken out. A marginal over A with independent noise of
variance v in every cell shows the part of every B ⊆ A with noise v·Π_{i ∈ A∖B} n_i, independent between parts. The
best linear unbiased estimate of a part is therefore the mean of all that is measured of it, weighted by inverse
variance, and the marginals rebuilt from these parts are the generalized least squares solution (for the
decomposition: Xiao, Ding, Zhang, Li, "ResidualPlanner", 2023, arXiv 2305.08175). Post-processing of noisy numbers:
floats are harmless here.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

from enclave_runner.contract.errors import Failed

Axes = frozenset[int]
Cells = npt.NDArray[np.float64]

ROUNDS = 400
LEAST_SHARE = 1e-3


def reconcile(
    sizes: Sequence[int], measured: Mapping[Axes, tuple[npt.NDArray[np.generic], float]]
) -> dict[Axes, tuple[Cells, float]]:
    """For every measured set of axes the consistent estimate and the variance of each of its cells.

    Arrays have the shape of their axes in ascending order (a set of no axes has the shape ()), each with the variance
    of its independent noise per cell. Any coarser estimate is the sum of any finer one, to rounding; no variance is
    above the measured one.

    Raises:
        Failed: `dp.shape` for an array of another shape, `dp.no-noise` for a variance that is not above 0.
    """
    weights: dict[Axes, float] = {}
    parts: dict[Axes, Cells] = {}
    for axes, (cells, variance) in measured.items():
        if cells.shape != tuple(sizes[axis] for axis in sorted(axes)):
            raise Failed("dp.shape")
        if not variance > 0:
            raise Failed("dp.no-noise")
        for subset, part in _parts(axes, cells.astype(np.float64)).items():
            weight = 1 / (variance * _volume(sizes, axes - subset))
            parts[subset] = parts.get(subset, 0.0) + weight * part
            weights[subset] = weights.get(subset, 0.0) + weight
    means = {subset: part / weights[subset] for subset, part in parts.items()}
    variances = {subset: 1 / weight for subset, weight in weights.items()}
    return {axes: (_rebuilt(sizes, axes, means), _variance(sizes, axes, variances)) for axes in measured}


def variances_of(sizes: Sequence[int], measured: Mapping[Axes, float]) -> dict[Axes, float]:
    """The variance per cell after `reconcile`, from the variances before it alone (for a preview)."""
    weights: dict[Axes, float] = {}
    for axes, variance in measured.items():
        for subset in _subsets(axes):
            weights[subset] = weights.get(subset, 0.0) + 1 / (variance * _volume(sizes, axes - subset))
    return {
        axes: _variance(sizes, axes, {subset: 1 / weight for subset, weight in weights.items()}) for axes in measured
    }


def allocate(sizes: Sequence[int], sets: Collection[Axes]) -> dict[Axes, float]:
    """Shares of ρ, all above 0, sum at most 1, that make the mean over the sets of their cells' variance least.

    Every marginal has the same sensitivity (a row lies in one cell of each), so that its precision is proportional to
    its share. The mean of the reconciled variances is convex in the shares; the multiplicative iteration of optimal
    design (Silvey, Titterington, Torsney 1978; monotone by Yu 2010) finds its least value. No share falls below
    1/1000, so that every asked set is really measured.
    """
    asked = sorted(set(sets), key=sorted)
    subsets = sorted({subset for axes in asked for subset in _subsets(axes)}, key=sorted)
    shown = np.array([[_share(sizes, axes, subset) for subset in subsets] for axes in asked])
    worth = np.array([sum(_factor(sizes, axes, subset) for axes in asked) for subset in subsets])
    shares = np.full(len(asked), 1 / len(asked))
    for _ in range(ROUNDS):
        gain = shown @ (worth / (shares @ shown) ** 2)
        shares = shares * np.sqrt(gain)
        shares /= shares.sum()
    shares = np.maximum(shares, LEAST_SHARE)
    shares /= shares.sum() * (1 + 1e-12)
    return {axes: float(share) for axes, share in zip(asked, shares, strict=True)}


def _parts(axes: Axes, cells: Cells) -> dict[Axes, Cells]:
    """Every orthogonal part of one marginal: along each axis the sum, and what is left without the mean.

    Parts keep all axes of the marginal, those that are summed with length 1, and are squeezed at the end.
    """
    parts: dict[Axes, Cells] = {frozenset(): cells}
    for place, axis in enumerate(sorted(axes)):
        split: dict[Axes, Cells] = {}
        for subset, part in parts.items():
            total = part.sum(axis=place, keepdims=True)
            split[subset] = total
            split[subset | {axis}] = part - total / part.shape[place]
        parts = split
    return {
        subset: part.reshape([cells.shape[place] for place, axis in enumerate(sorted(axes)) if axis in subset])
        for subset, part in parts.items()
    }


def _rebuilt(sizes: Sequence[int], axes: Axes, parts: Mapping[Axes, Cells]) -> Cells:
    cells = np.zeros([sizes[axis] for axis in sorted(axes)])
    for subset in _subsets(axes):
        shape = [sizes[axis] if axis in subset else 1 for axis in sorted(axes)]
        cells += parts[subset].reshape(shape) / _volume(sizes, axes - subset)
    return cells


def _variance(sizes: Sequence[int], axes: Axes, variances: Mapping[Axes, float]) -> float:
    return math.fsum(variances[subset] * _factor(sizes, axes, subset) for subset in _subsets(axes))


def _factor(sizes: Sequence[int], axes: Axes, subset: Axes) -> float:
    """What one unit of variance in the part of `subset` adds to each cell of the marginal over `axes`."""
    if not subset <= axes:
        return 0.0
    return math.prod(1 - 1 / sizes[axis] for axis in subset) / _volume(sizes, axes - subset) ** 2


def _share(sizes: Sequence[int], axes: Axes, subset: Axes) -> float:
    """The precision that a marginal over `axes` of precision 1 gives to the part of `subset`."""
    return 1 / _volume(sizes, axes - subset) if subset <= axes else 0.0


def _volume(sizes: Sequence[int], axes: Collection[int]) -> int:
    return math.prod(sizes[axis] for axis in axes)


def _subsets(axes: Axes) -> list[Axes]:
    return [frozenset(chosen) for count in range(len(axes) + 1) for chosen in combinations(sorted(axes), count)]
