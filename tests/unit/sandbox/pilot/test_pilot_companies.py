"""Enterprises: distinct codes, sizes by rank, employers drawn by size."""

from __future__ import annotations

import numpy as np
import pytest

from sandbox.pilot.companies import Companies, found


@pytest.mark.parametrize("count", [20, 21, 997, 2500, 250_000])
def test_ranks_are_a_permutation(count: int) -> None:
    ranks = Companies(count, 5, staff=count * 8).ranks(np.arange(count))
    assert np.array_equal(np.sort(ranks), np.arange(count))


def test_codes_are_distinct_and_depend_on_the_seed() -> None:
    indices = np.arange(5000)
    codes = Companies(5000, 1, staff=40_000).codes(indices).tolist()
    assert len(set(codes)) == 5000
    assert not set(codes) & set(Companies(5000, 2, staff=40_000).codes(indices).tolist())


def test_staff_adds_up_to_the_working_population() -> None:
    expected = Companies(3000, 1, staff=24_000).expected_staff(np.arange(3000))
    assert expected.sum() == pytest.approx(24_000)
    assert expected[0] == expected.max()


def test_employers_are_drawn_by_size() -> None:
    companies = Companies(500, 1, staff=4000)
    drawn = companies.employers(np.random.default_rng(1), 50_000).tolist()
    codes = companies.codes(np.arange(500)).tolist()
    largest = codes[companies.ranks(np.arange(500)).tolist().index(0)]
    assert set(drawn) <= set(codes)
    assert drawn.count(largest) / 50_000 == pytest.approx(companies.expected_staff(np.array([0]))[0] / 4000, rel=0.1)


def test_an_extreme_draw_stays_among_the_enterprises() -> None:
    companies = Companies(20, 1, staff=40)
    assert set(companies.employers(np.random.default_rng(1), 20_000).tolist()) == set(
        companies.codes(np.arange(20)).tolist()
    )


@pytest.mark.parametrize("seed", range(5))
def test_the_first_is_active_and_the_second_revoked(seed: int) -> None:
    business = found(np.random.default_rng(seed), Companies(20, seed, staff=40), np.arange(20))
    assert business.enterprises["status"].tolist()[:2] == ["active", "revoked"]
