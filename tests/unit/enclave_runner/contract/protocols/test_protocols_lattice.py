from __future__ import annotations

import itertools

import pytest

from enclave_runner.contract.call import MAX_QUESTION_BYTES
from enclave_runner.contract.protocols import lattice
from tests.support.lookups import exact_public

SEED = bytes(range(16))


def test_the_public_matrix_is_the_counter_stream() -> None:
    """NIST SP 800-38A by hand: single blocks of AES-128, the counter big-endian, words little-endian."""
    raw = lattice.public_rows(SEED, 0, 3)
    words = [int.from_bytes(raw[at : at + 4], "little") for at in range(0, len(raw), 4)]
    assert words == list(itertools.chain.from_iterable(exact_public(SEED, 3, lattice.DIMENSION)))


@pytest.mark.parametrize(("first", "count"), [(0, 0), (0, 1), (1, 1), (5, 3), (7, 0), (1023, 2)])
def test_a_part_of_the_matrix_is_a_part_of_the_stream(first: int, count: int) -> None:
    row = lattice.DIMENSION * lattice.WORD_BYTES
    whole = lattice.public_rows(SEED, 0, first + count)
    assert lattice.public_rows(SEED, first, count) == whole[first * row :]


def test_the_last_row_can_be_made_alone() -> None:
    assert len(lattice.public_rows(SEED, lattice.MAX_COLUMNS - 1, 1)) == lattice.DIMENSION * lattice.WORD_BYTES


def test_another_seed_is_another_matrix() -> None:
    assert lattice.public_rows(SEED, 0, 1) != lattice.public_rows(bytes(16), 0, 1)


@pytest.mark.parametrize(
    ("seed", "first", "count"),
    [
        (b"", 0, 1),
        (bytes(15), 0, 1),
        (bytes(32), 0, 1),
        (SEED, -1, 1),
        (SEED, 0, -1),
        (SEED, lattice.MAX_COLUMNS, 1),
        (SEED, 1, lattice.MAX_COLUMNS),
    ],
)
def test_what_is_no_part_of_it_is_refused(seed: bytes, first: int, count: int) -> None:
    with pytest.raises(ValueError, match="a seed of 16 bytes"):
        lattice.public_rows(seed, first, count)


def test_lengths_on_the_wire() -> None:
    assert lattice.question_bytes(lattice.MAX_COLUMNS) == MAX_QUESTION_BYTES
    assert lattice.reply_bytes(4096) == 16384
    assert lattice.hint_bytes(4096) == 4096 * lattice.DIMENSION * 4
    assert lattice.DIMENSION * lattice.WORD_BYTES % 16 == 0, "a row begins with a block of the cipher"
