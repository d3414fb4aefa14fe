"""Keys of an import: exact counts and the rows that repeat one, in slices as in one piece."""

from __future__ import annotations

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave_runner.kinds import keys
from enclave_runner.kinds.keys import Keys


def filled(values: list[str], unique: bool, batch: int = 7) -> Keys:
    held = Keys(duckdb.connect(), unique)
    for start in range(0, len(values), batch):
        part = values[start : start + batch]
        held.add(pa.chunked_array([part]), np.arange(start + 1, start + 1 + len(part), dtype=np.uint64))
    return held


@given(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=40), st.sampled_from([1, 3, 1000]))
@settings(max_examples=25, deadline=None)
def test_all_but_the_first_row_of_each_key_repeat_it(values: list[str], slice_rows: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys, "SLICE_ROWS", slice_rows)
        held = filled(values, unique=True)
        assert held.count() == len(set(values))
        expected = [number for number, value in enumerate(values, 1) if value in values[: number - 1]]
        assert held.repeated().tolist() == expected


def test_keys_that_may_repeat_are_kept_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "COMPACT_ROWS", 10)
    held = filled([str(number % 5) for number in range(500)], unique=False)
    assert held.count() == 5
    assert held._held < 40
