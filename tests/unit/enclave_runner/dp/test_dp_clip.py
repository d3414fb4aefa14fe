"""Clips: a public grid, the best edge of what is believed, a tail cut, and what is lost with an honest width."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_runner.contract.errors import Failed
from enclave_runner.dp.clip import believed, choose_clip, grid, lost_share


@given(st.integers(1, 1 << 60))
def test_the_grid_grows_by_a_quarter_of_a_doubling_up_to_its_limit(limit: int) -> None:
    edges = grid(limit)
    assert edges[-1] == limit
    assert all(a < b and (b - 1) ** 4 < 2 * a**4 for a, b in pairwise(edges))
    assert edges[0] == 1
    assert len(edges) <= 4 * limit.bit_length() + 1


def test_the_edges_are_exact_roots_rounded_up() -> None:
    assert grid(20) == (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20)
    assert {1 << 56, (1 << 58), 1 << 60} <= set(grid((1 << 60) + 1))


def histogram(norms: Sequence[int], edges: Sequence[int]) -> list[int]:
    counts = [0] * len(edges)
    for norm in norms:
        counts[next((place for place, edge in enumerate(edges) if norm <= edge), len(edges) - 1)] += 1
    return counts


def skewed(count: int, seed: int) -> list[int]:
    """Heavy-tailed norms; the generator of the test data only, never of noise."""
    source = random.Random(seed)
    return [max(1, min(1000, round(6 * source.lognormvariate(0, 1)))) for _ in range(count)]


def true_error(norms: Sequence[int], clip: int, noise_per_clip: float, cells: int) -> float:
    return noise_per_clip * clip + sum(max(0, norm - clip) for norm in norms) / cells


@pytest.mark.parametrize("cells", [1, 20])
def test_without_noise_the_choice_is_nearly_the_best_edge(cells: int) -> None:
    edges, norms = grid(1000), skewed(20_000, 1)
    clip = choose_clip(histogram(norms, edges), edges, 0.0, 4.0, cells)
    best = min(true_error(norms, edge, 4.0, cells) for edge in edges)
    assert true_error(norms, clip, 4.0, cells) <= 1.03 * best


def test_with_noise_the_choice_costs_little_more() -> None:
    """100 noisy histograms from a fixed seed: the mean error is within 15 % of the best that an oracle reaches."""
    edges, norms, source = grid(1 << 17), skewed(50_000, 2), random.Random(3)
    exact = histogram(norms, edges)
    best = min(true_error(norms, edge, 4.0, 20) for edge in edges)
    errors = []
    for _ in range(100):
        noisy = [count + round(source.gauss(0, 20)) for count in exact]
        errors.append(true_error(norms, choose_clip(noisy, edges, 20.0, 4.0, 20), 4.0, 20) / best)
    assert sum(errors) / len(errors) <= 1.15


def test_a_stray_count_far_out_is_not_believed() -> None:
    """Without the cut 60 noisy units at 2^20 would be 6·10⁷ of norm, and the clip would go there."""
    edges = grid(1 << 20)
    counts = histogram(skewed(20_000, 4), edges)
    calm = choose_clip(counts, edges, 20.0, 4.0, 20)
    counts[-1] += 60
    assert believed(counts, 20.0) < len(edges) - 20
    assert choose_clip(counts, edges, 20.0, 4.0, 20) == calm < 300


def test_a_run_of_small_counts_is_believed_together() -> None:
    counts = [0] * 10 + [1000] + [0] * 6 + [45] * 8 + [0] * 20
    assert believed(counts, 20.0) == 25
    assert believed([0] * 10 + [1000] + [0] * 34, 20.0) == 11


def test_neighbours_of_a_full_bin_are_believed_while_they_stand_up() -> None:
    assert believed([1000, 40, 25, 5, 25, 0, 0, 0], 20.0) == 3


def test_an_empty_histogram_gives_the_least_clip() -> None:
    assert believed([3, -7, 9, 0], 20.0) == 0
    assert choose_clip([3, -7, 9, 0], (1, 2, 3, 4), 20.0, 1.0) == 1


def test_negative_counts_are_kept_as_they_are() -> None:
    """Clamping them at zero would bias the lost norm upwards and the clip with it."""
    edges = (1, 2, 4, 8, 16)
    assert choose_clip([500, 500, -40, 40, 500], edges, 1.0, 300.0) == choose_clip(
        [500, 500, 0, 5, 500], edges, 1.0, 300.0
    )


@pytest.mark.parametrize("clip", [4, 32, 153])
def test_without_noise_the_lost_share_is_right_to_the_width_of_the_bins(clip: int) -> None:
    edges, norms = grid(1000), skewed(20_000, 5)
    share, width = lost_share(histogram(norms, edges), edges, clip, 0.0)
    truth = sum(max(0, norm - clip) for norm in norms) / sum(norms)
    assert abs(share - truth) <= width < 0.1
    assert abs(share - truth) < 0.02


def test_nothing_is_lost_at_the_last_edge() -> None:
    assert lost_share([1000] * 5, (1, 2, 4, 8, 16), 16, 3.0) == (0.0, 0.0)


def test_a_total_within_the_noise_is_not_known() -> None:
    assert lost_share([3, -2, 1, 0, 4], (1, 2, 4, 8, 16), 4, 20.0) == (0.0, 1.0)


@pytest.mark.parametrize("limit", [200, 1000])
def test_the_interval_of_the_lost_share_covers(limit: int) -> None:
    """300 noisy histograms from a fixed seed: at least 95 % cover, less 3.8 % (three standard deviations)."""
    edges, source = grid(limit), random.Random(6)
    norms = [min(norm, limit) for norm in skewed(50_000, 7)]
    exact, clip = histogram(norms, edges), 64
    truth = sum(max(0, norm - clip) for norm in norms) / sum(norms)
    covered = 0
    for _ in range(300):
        share, width = lost_share([count + round(source.gauss(0, 20)) for count in exact], edges, clip, 20.0)
        assert 0 <= share <= 1
        covered += abs(share - truth) <= width
    assert covered >= 274


@pytest.mark.parametrize(
    "action",
    [
        lambda: grid(0),
        lambda: choose_clip([1, 2], (1, 2, 3), 1.0, 1.0),
        lambda: choose_clip([], (), 1.0, 1.0),
        lambda: lost_share([1], (1, 2), 1, 1.0),
    ],
)
def test_a_histogram_off_its_grid_is_a_fault(action: Callable[[], object]) -> None:
    with pytest.raises(Failed) as caught:
        action()
    assert caught.value.code == "dp.clip"
