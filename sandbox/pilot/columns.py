"""Column values as CSV text, whole arrays at a time."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from sandbox.pilot.codes import Days, Integers, Texts

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]
Rows = Mapping[str, Texts]


def pick(rng: np.random.Generator, weights: Mapping[str, float], count: int) -> Texts:
    """Draw names with those weights, which need not add up to one."""
    edges = np.cumsum(list(weights.values()))
    chosen = np.searchsorted(edges, rng.random(count) * edges[-1], side="right")
    names = np.array(list(weights), dtype=np.str_)
    drawn: Texts = names[chosen]
    return drawn


def whole(values: Integers) -> Texts:
    """Whole numbers."""
    return values.astype(np.str_)


def fixed(values: Integers, scale: int) -> Texts:
    """Fixed point from units of 10^-scale that are not negative."""
    unit = 10**scale
    parts = zip((values // unit).tolist(), (values % unit).tolist(), strict=True)
    return np.array([f"{whole}.{part:0{scale}d}" for whole, part in parts], dtype=np.str_)


def boolean(values: Mask) -> Texts:
    """true and false."""
    return np.where(values, "true", "false")


def day(values: Days) -> Texts:
    """ISO dates."""
    return values.astype("datetime64[D]").astype(np.str_)


def skewed(rng: np.random.Generator, median: float, spread: float, count: int, low: int, high: int) -> Integers:
    """Log-normal whole numbers, clipped to low..high."""
    values = np.exp(rng.normal(np.log(median), spread, count))
    return np.clip(np.rint(values), low, high).astype(np.int64)


def take(rows: Rows, positions: NDArray[np.intp]) -> dict[str, Texts]:
    """The rows at those positions, in that order."""
    return {name: values[positions] for name, values in rows.items()}


def within(counts: Integers) -> Integers:
    """0, 1, … within each run of the given lengths: the running number of an event of its entity."""
    starts = np.cumsum(counts) - counts
    return np.arange(counts.sum(), dtype=np.int64) - np.repeat(starts, counts)
