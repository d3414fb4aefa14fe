"""Reconciled marginals: consistent, equal to brute-force least squares, never worse than measured, unbiased."""

from __future__ import annotations

import math
from itertools import combinations, product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave_runner.dp.marginals import Axes, Cells, reconcile

Measured = dict[Axes, tuple[Cells, float]]


@st.composite
def measurements(draw: st.DrawFn) -> tuple[list[int], Measured]:
    """Up to three axes of up to four values, any sets of them, noisy tables that do not agree at all."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    every = [frozenset(key) for count in range(len(sizes) + 1) for key in combinations(range(len(sizes)), count)]
    sets = draw(st.lists(st.sampled_from(every), min_size=1, max_size=len(every), unique=True))
    measured = {}
    for key in sets:
        shape = [sizes[axis] for axis in sorted(key)]
        cells = draw(st.lists(st.integers(-1000, 1000), min_size=math.prod(shape), max_size=math.prod(shape)))
        measured[key] = np.array(cells, dtype=np.float64).reshape(shape), draw(st.floats(0.01, 100))
    return sizes, measured


def summing(sizes: list[int], key: Axes) -> Cells:
    """The 0-1 matrix that takes the whole cube to one marginal."""
    cube = list(product(*map(range, sizes)))
    cells = list(product(*(range(sizes[axis]) for axis in sorted(key))))
    return np.array(
        [[tuple(x[axis] for axis in sorted(key)) == cell for x in cube] for cell in cells], dtype=np.float64
    )


@given(measurements())
@settings(max_examples=150, deadline=None)
def test_every_estimate_is_that_of_brute_force_least_squares(case: tuple[list[int], Measured]) -> None:
    """numpy's lstsq on the whole cube, each row divided by its deviation; variances by the pseudo-inverse."""
    sizes, measured = case
    matrix = np.vstack([summing(sizes, key) / math.sqrt(variance) for key, (_, variance) in measured.items()])
    right = np.concatenate([cells.ravel() / math.sqrt(variance) for cells, variance in measured.values()])
    solution = np.linalg.lstsq(matrix, right, rcond=1e-10)[0]
    covariance = np.linalg.pinv(matrix.T @ matrix, rcond=1e-10)
    for key, (cells, variance) in reconcile(sizes, measured).items():
        marginal = summing(sizes, key)
        np.testing.assert_allclose(cells.ravel(), marginal @ solution, rtol=1e-7, atol=1e-6)
        np.testing.assert_allclose(np.diag(marginal @ covariance @ marginal.T), variance, rtol=1e-6)


@given(measurements())
@settings(max_examples=150, deadline=None)
def test_a_coarser_estimate_is_the_sum_of_a_finer_one_and_no_variance_grows(case: tuple[list[int], Measured]) -> None:
    sizes, measured = case
    result = reconcile(sizes, measured)
    for fine, coarse in product(result, result):
        if coarse < fine:
            places = tuple(place for place, axis in enumerate(sorted(fine)) if axis not in coarse)
            np.testing.assert_allclose(result[fine][0].sum(axis=places), result[coarse][0], rtol=1e-9, atol=1e-7)
    assert all(variance <= measured[key][1] * (1 + 1e-12) for key, (_, variance) in result.items())
