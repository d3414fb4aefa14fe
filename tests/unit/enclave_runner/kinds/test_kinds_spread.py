"""The spread of norms: each unit in one bin, what is beyond the grid in the last, nothing for nothing."""

from __future__ import annotations

from bisect import bisect_left

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave_runner.kinds.spread import run
from enclave_runner.kinds.tasks import Extraction, Part, Spread
from tests.support.bound_plans import VISITS, visit
from tests.support.worker_files import extracted

NORM = 'abs(t0."amount")'


def spread(amounts: list[list[int]], norm: str, edges: tuple[int, ...]) -> tuple[int, ...]:
    """The histogram over people with these amounts each."""
    rows = [visit(f"p{n}", amount=amount) for n, found in enumerate(amounts) for amount in found]
    part = Part(spec=VISITS, rows=len(rows), columns=("amount",), counted=True, norm=NORM)
    with extracted(Extraction(parts=(part,), spread=True), rows) as file:
        (vector,) = run(Spread(norm=norm, edges=edges), [file]).vectors
    return vector


def test_an_edge_belongs_to_its_bin_and_what_is_beyond_to_the_last() -> None:
    people = [[1] * count for count in (1, 2, 3, 4, 5, 40)]
    assert spread(people, "rows", (1, 2, 4)) == (1, 1, 4)
    assert spread(people, "rows", (1, 2, 4, 8, 64)) == (1, 1, 2, 1, 1)
    assert spread([], "rows", (1, 2)) == (0, 0)


def test_a_norm_of_nothing_is_in_no_bin() -> None:
    assert spread([[0, 0], [3, -4], [100]], "measured", (1, 7, 50)) == (0, 1, 1)


@given(
    st.lists(st.lists(st.integers(-50, 50), min_size=1, max_size=4), max_size=8), st.sampled_from(["rows", "measured"])
)
@settings(max_examples=15, deadline=None)
def test_one_unit_more_moves_one_bin_by_one(amounts: list[list[int]], norm: str) -> None:
    edges = (1, 2, 3, 8, 30, 90)
    expected = [0] * len(edges)
    for found in amounts:
        value = len(found) if norm == "rows" else sum(map(abs, found))
        if value:
            expected[min(bisect_left(edges, value), len(edges) - 1)] += 1
    assert spread(amounts, norm, edges) == tuple(expected)


def test_there_is_no_other_norm() -> None:
    with pytest.raises(KeyError):
        spread([[1]], "who", (1,))
