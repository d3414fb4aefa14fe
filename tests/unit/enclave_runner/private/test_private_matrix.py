from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import pytest

from enclave_runner.contract.errors import Refused
from enclave_runner.private.matrix import RECORD, RECORD_BYTES, Placed, Shape, bucket, columns_of, place, shape_of
from tests.support.lookups import random_records, records

K_MIN = 1024
SIZES = [0, 1, 2, 127, 128, 129, 1000, 1024, 1500, 2600, 5000, 10**5, 10**6, 4 * 10**6, 4 * 10**6 + 1, 10**7, 10**8]


def found(placed: Placed) -> list[tuple[int, bytes]]:
    """Every slot of every column: its column and its 16 bytes."""
    columns = np.ascontiguousarray(placed.matrix.T).reshape(placed.shape.columns, placed.shape.slots, 16)
    return [(at, slot.tobytes()) for at, column in enumerate(columns) for slot in column]


@pytest.mark.parametrize("rows", SIZES)
def test_a_shape_has_room_and_whole_buckets(rows: int) -> None:
    shape = shape_of(rows, K_MIN)
    assert shape.height == (2048 if rows <= 4 * 10**6 else 4096)
    assert shape.slots * 16 == shape.height
    assert rows <= shape.columns * shape.slots
    assert shape.columns % shape.bucket_columns == 0
    assert shape.buckets * shape.bucket_columns == shape.columns <= 1 << 20
    assert shape.nbytes == shape.height * shape.columns
    assert rows >= shape.buckets * K_MIN or shape.buckets == 1


@pytest.mark.parametrize("rows", [size for size in SIZES if size >= 10**5])
def test_a_large_table_is_well_filled_and_its_buckets_are_narrow(rows: int) -> None:
    shape = shape_of(rows, K_MIN)
    assert rows / (shape.columns * shape.slots) > 0.6
    assert rows / shape.buckets < 1.3 * K_MIN


def test_a_table_below_k_is_one_bucket() -> None:
    shape = shape_of(K_MIN - 1, K_MIN)
    assert shape.buckets == 1
    assert place(random_records(K_MIN - 1), shape).k == K_MIN - 1


@pytest.mark.parametrize("k_min", [1, 2, 100, 10**4])
def test_any_k_can_be_asked_for(k_min: int) -> None:
    rows = 20_000
    placed = place(random_records(rows), shape_of(rows, k_min))
    assert placed.k >= k_min
    assert placed.shape.buckets > 1 or k_min == 10**4


def test_a_table_beyond_two_to_the_twentieth_columns_is_refused() -> None:
    with pytest.raises(Refused) as refused:
        shape_of(3 * 10**8, K_MIN)
    assert (refused.value.rule, refused.value.facts) == ("verification.too-many", {"most": str(256 << 20)})


@pytest.mark.parametrize("columns", [1, 2, 3, 7, 255, 12255, 54474, (1 << 20) - 1, 1 << 20])
def test_columns_are_those_of_whole_numbers(columns: int) -> None:
    """Also at the last word of a column and the first of the next."""
    edges = [-(-(number << 64) // columns) + step for number in (1, columns // 2, columns - 1) for step in (-1, 0, 1)]
    words = [0, 1, 2**32 - 1, 2**32, 2**63, 2**64 - 1, *(word for word in edges if 0 <= word < 2**64)]
    words += [int(word) for word in np.random.default_rng(columns).integers(0, 2**64, 500, dtype=np.uint64)]
    expected = [word * columns >> 64 for word in words]
    assert columns_of(np.array(words, np.uint64), columns).tolist() == expected


@pytest.mark.parametrize("rows", [1, 2, 128, 129, 1000, 3000])
def test_every_record_stands_once_in_its_column_and_the_rest_is_random(rows: int) -> None:
    made = random_records(rows)
    placed = place(made, shape_of(rows, K_MIN))
    at = {record["entry"].tobytes(): int(record["word"]) * placed.shape.columns >> 64 for record in made}
    slots = found(placed)
    assert {entry: column for column, entry in slots if entry in at} == at
    fillers = [entry for _, entry in slots if entry not in at]
    assert len(set(fillers)) == len(fillers) == placed.shape.columns * placed.shape.slots - rows


def test_an_empty_table_is_random_and_has_k_0() -> None:
    placed = place(random_records(0), shape_of(0, K_MIN))
    assert (placed.k, placed.matrix.shape) == (0, (2048, 1))
    assert len(set(placed.matrix[:, 0].tolist())) > 200


def test_k_is_the_true_count_of_the_emptiest_bucket() -> None:
    made = random_records(30_000)
    placed = place(made, shape_of(30_000, K_MIN))
    columns = [int(word) * placed.shape.columns >> 64 for word in made["word"]]
    counts = np.bincount(np.array(columns) // placed.shape.bucket_columns, minlength=placed.shape.buckets)
    assert placed.k == counts.min() >= K_MIN
    assert len(counts) == placed.shape.buckets > 1


def test_a_crowded_column_makes_the_table_wider() -> None:
    """129 words within 2^57: 128 columns and more put a column's edge between them, or give them a column each."""
    words = [index << 50 for index in range(129)]
    shape = Shape(height=2048, columns=2, bucket_columns=2, k_min=1)
    placed = place(records(words), shape)
    counts = np.bincount([word * placed.shape.columns >> 64 for word in words])
    assert placed.shape.columns > 2
    assert counts.max() <= 128
    assert {entry for _, entry in found(placed)} >= {entry.tobytes() for entry in records(words)["entry"]}


def test_equal_words_beyond_a_column_are_refused_not_looped_over() -> None:
    with pytest.raises(Refused) as refused:
        place(records([5] * 129), shape_of(129, 1))
    assert refused.value.rule == "verification.too-many"


def test_an_empty_bucket_makes_the_buckets_wider() -> None:
    """All records in the lower half: two buckets cannot both have ten."""
    placed = place(records([index << 56 for index in range(100)]), Shape(2048, 16, 8, k_min=10))
    assert placed.shape.columns % placed.shape.bucket_columns == 0
    assert (placed.shape.buckets, placed.k) == (1, 100)


def test_neither_order_nor_load_shows() -> None:
    """The same records twice, and sorted otherwise: other places each time, and no column begins with what is full."""
    made = random_records(1000)
    shape = shape_of(1000, K_MIN)
    first, second, third = (found(place(table, shape)) for table in (made, made, made[::-1]))
    known = {record["entry"].tobytes() for record in made}
    patterns = {tuple(entry in known for _, entry in table) for table in (first, second, third)}
    orders = {tuple(entry for _, entry in table if entry in known) for table in (first, second, third)}
    assert len(patterns) == len(orders) == 3


def test_memory_maps_in_and_out(tmp_path: Path) -> None:
    made = random_records(5000)
    path = tmp_path / "records"
    path.write_bytes(made.tobytes())
    source = np.memmap(path, RECORD, "r")
    sizes: list[tuple[int, int]] = []

    def allocate(size: tuple[int, int]) -> np.ndarray:
        sizes.append(size)
        return np.frombuffer(mmap.mmap(-1, size[0] * size[1]), np.uint8).reshape(size)

    placed = place(source, shape_of(5000, K_MIN), allocate)
    assert sizes == [(placed.shape.height, placed.shape.columns)] == [placed.matrix.shape]
    assert {entry for _, entry in found(placed)} >= {entry.tobytes() for entry in made["entry"]}
    assert RECORD_BYTES == 24
    assert made.tobytes() == path.read_bytes()


def test_a_bucket_is_its_columns_one_after_the_other() -> None:
    matrix = np.arange(12, dtype=np.uint8).reshape(2, 6)
    assert bucket(matrix, 2, 0) == bytes([0, 6, 1, 7])
    assert bucket(matrix, 2, 2) == bytes([4, 10, 5, 11])
    assert bucket(matrix, 6, 0) == matrix.T.tobytes()


@pytest.mark.parametrize("number", [-1, 3, 4, 1 << 32, 1 << 70])
def test_no_other_bucket_is_handed_out(number: int) -> None:
    with pytest.raises(Refused) as refused:
        bucket(np.zeros((2, 6), np.uint8), 2, number)
    assert refused.value.rule == "verification.bucket"
