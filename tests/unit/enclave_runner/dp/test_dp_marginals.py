"""Joint marginals on examples that can be checked by hand, the published optimum, and faults."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
import pytest

from enclave_runner.contract.errors import Failed
from enclave_runner.dp.marginals import Axes, allocate, reconcile, variances_of


def axes(*names: int) -> Axes:
    return frozenset(names)


def up_to(dimensions: int, ways: int) -> list[Axes]:
    return [frozenset(chosen) for count in range(ways + 1) for chosen in combinations(range(dimensions), count)]


ROLLUP = [frozenset(range(count)) for count in range(4)]


def test_a_total_and_its_cells_by_hand() -> None:
    """Four cells of variance 1 sum to 100, the total of variance 4 says 108: both are believed alike, 104."""
    result = reconcile([4], {axes(): (np.array(108), 4.0), axes(0): (np.array([10, 20, 30, 40]), 1.0)})
    cells, variance = result[axes(0)]
    assert cells.tolist() == pytest.approx([11, 21, 31, 41])
    assert float(result[axes()][0]) == pytest.approx(104)
    assert result[axes()][1] == pytest.approx(2)
    assert variance == pytest.approx(3 / 4 + 2 / 16)


def test_one_marginal_alone_is_left_as_it_is() -> None:
    cells = np.array([[3, -4, 5], [0, 1 << 40, -7]])
    (estimate, variance) = reconcile([2, 3], {axes(0, 1): (cells, 2.5)})[axes(0, 1)]
    np.testing.assert_allclose(estimate, cells, atol=1e-3)  # the largest cell has 2^-52 of itself as its last digit
    assert variance == pytest.approx(2.5)


def test_shapes_follow_the_axes_in_ascending_order() -> None:
    measured = {axes(2, 0): (np.zeros((2, 5)), 1.0), axes(1): (np.zeros(3), 1.0)}
    result = reconcile([2, 3, 5], measured)
    assert {key: cells.shape for key, (cells, _) in result.items()} == {axes(0, 2): (2, 5), axes(1): (3,)}


def test_an_axis_of_one_value_is_harmless() -> None:
    result = reconcile([1, 3], {axes(0, 1): (np.array([[1, 2, 3]]), 1.0), axes(1): (np.array([3, 4, 5]), 1.0)})
    assert result[axes(0, 1)][0].tolist() == [pytest.approx([2, 3, 4])]
    assert result[axes(1)][1] == pytest.approx(0.5)


def test_the_preview_is_the_variance_of_the_answer() -> None:
    measured = {key: (np.zeros([(8, 20, 12)[axis] for axis in sorted(key)]), 1.0 + len(key)) for key in ROLLUP}
    answered = {key: variance for key, (_, variance) in reconcile([8, 20, 12], measured).items()}
    assert variances_of([8, 20, 12], {key: variance for key, (_, variance) in measured.items()}) == answered


def root_mean(sizes: Sequence[int], shares: dict[Axes, float]) -> float:
    variances = variances_of(sizes, {key: 1 / share for key, share in shares.items()})
    return math.sqrt(sum(variances.values()) / len(variances))


def residual_planner(sizes: Sequence[int], workload: list[Axes]) -> float:
    """The optimum over all linear Gaussian mechanisms, in the closed form of arXiv 2305.08175."""
    subsets = {s for a in workload for count in range(len(a) + 1) for s in map(frozenset, combinations(a, count))}
    cost = {s: math.prod(1 - 1 / sizes[axis] for axis in s) for s in subsets}

    def share(a: Axes, s: Axes) -> float:
        return cost[s] / math.prod(sizes[axis] for axis in a - s) ** 2 if s <= a else 0.0

    value = {s: sum(share(a, s) for a in workload) for s in subsets}
    return math.sqrt(sum(math.sqrt(value[s] * cost[s]) for s in subsets) ** 2 / len(workload))


@pytest.mark.parametrize(
    ("sizes", "sets"),
    [((8, 20, 12), ROLLUP), ((8, 20, 12), up_to(3, 3)), ((8, 20, 12, 5, 4), up_to(5, 2)), ((10,) * 6, up_to(6, 2))],
)
def test_the_shares_reach_the_published_optimum(sizes: tuple[int, ...], sets: list[Axes]) -> None:
    """Sets closed downwards, measured with independent noise, lose nothing against the matrix mechanism's optimum."""
    shares = allocate(sizes, sets)
    assert 0.999 < sum(shares.values()) <= 1
    assert min(shares.values()) > 0
    optimum, equal = residual_planner(sizes, sets), root_mean(sizes, dict.fromkeys(sets, 1 / len(sets)))
    assert optimum * (1 - 1e-9) <= root_mean(sizes, shares) <= optimum * 1.001
    assert root_mean(sizes, shares) <= equal


def test_sets_not_closed_downwards_are_no_worse_than_equal_shares() -> None:
    sizes, sets = (8, 20, 12, 5, 4), [key for key in up_to(5, 2) if len(key) == 2]
    assert root_mean(sizes, allocate(sizes, sets)) <= root_mean(sizes, dict.fromkeys(sets, 1 / len(sets)))


def test_one_set_gets_everything() -> None:
    assert allocate([5], [axes(0)])[axes(0)] == pytest.approx(1)


@pytest.mark.parametrize(
    ("action", "code"),
    [
        (lambda: reconcile([2, 3], {axes(0, 1): (np.zeros((3, 2)), 1.0)}), "dp.shape"),
        (lambda: reconcile([2], {axes(0): (np.zeros(2), 0.0)}), "dp.no-noise"),
        (lambda: reconcile([2], {axes(0): (np.zeros(2), math.nan)}), "dp.no-noise"),
    ],
)
def test_what_cannot_be_answered_is_a_fault(action: Callable[[], object], code: str) -> None:
    with pytest.raises(Failed) as caught:
        action()
    assert caught.value.code == code
