from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from enclave_runner.contract.protocols.lattice import DIMENSION, hint_bytes, public_rows
from enclave_runner.private import hint
from tests.support.lookups import BYTES, exact_product, exact_public

SEED = bytes(range(100, 116))


def test_the_hint_is_that_of_whole_numbers() -> None:
    matrix = np.random.default_rng(1).integers(0, 256, (3, 9), dtype=np.uint8)
    public = np.array(exact_public(SEED, 9, DIMENSION), np.uint32)
    expected = [exact_product(matrix, public[:, column]) for column in range(DIMENSION)]
    made = hint.hint_rows(matrix, SEED)
    assert made.T.tolist() == expected
    assert len(made.tobytes()) == hint_bytes(3)


# The blocks of the product end at 4096 columns and 1024 rows.
@pytest.mark.parametrize(
    ("height", "columns"), [(1, 1), (2, 4095), (1, 4096), (3, 4097), (1025, 5), (1, 8193)], ids=str
)
def test_no_block_is_lost_or_counted_twice(height: int, columns: int) -> None:
    """Rows of 255 at the ends of all sums, beside the sums of the public matrix's columns in whole numbers."""
    matrix = np.full((height, columns), 255, np.uint8)
    matrix[0] = 0
    matrix[0, [0, -1]] = 1
    public = np.frombuffer(public_rows(SEED, 0, columns), "<u4").reshape(columns, DIMENSION)
    sums = public.astype(object).sum(axis=0)
    made = hint.hint_rows(matrix, SEED)
    ends = public[0].astype(object) + (public[-1] if columns > 1 else 0)
    assert made[0].tolist() == [value % 2**32 for value in ends]
    assert all(made[row].tolist() == [255 * value % 2**32 for value in sums] for row in range(1, height))


@pytest.mark.parametrize("byte", BYTES)
@pytest.mark.parametrize("word", [0, 1, 2**31 - 1, 2**31, 2**32 - 1])
def test_extreme_words_are_exact(byte: int, word: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest partial sums that a block can have, of either sign."""

    def extreme(seed: bytes, first: int, count: int) -> bytes:
        return np.full(count * DIMENSION, word, "<u4").tobytes()

    monkeypatch.setattr(hint, "public_rows", extreme)
    made = hint.hint_rows(np.full((1, 4097), byte, np.uint8), SEED)
    assert set(made.ravel().tolist()) == {byte * word * 4097 % 2**32}


def test_rows_may_be_shared_out() -> None:
    matrix = np.random.default_rng(2).integers(0, 256, (40, 300), dtype=np.uint8)
    whole = hint.hint_rows(matrix, SEED).tobytes()
    parts = [hint.hint_rows(matrix[first:last], SEED).tobytes() for first, last in ((0, 1), (1, 17), (17, 40))]
    assert b"".join(parts) == whole


def test_the_public_matrix_in_words() -> None:
    assert hint.public_matrix(SEED, 2, 3).tolist() == exact_public(SEED, 5, DIMENSION)[2:]


@pytest.mark.slow
def test_a_wide_table_needs_no_more_memory_than_a_narrow_one() -> None:
    matrix = np.zeros((1024, 40_000), np.uint8)
    tracemalloc.start()
    hint.hint_rows(matrix, SEED)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200e6
