"""The table of a private lookup: records in columns by their word, each at a random place, all other bytes random.

A column is a bucket of height/16 entries. What a client decodes is one column (P4) or some columns (P3): it shows
neither how many entries are somebody's nor an order among them, since entries are pseudorandom to whoever has not their
OPRF output, fill the column at random places, and stand beside random bytes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from enclave_runner.contract.errors import Refused
from enclave_runner.contract.protocols.cell import ENTRY_BYTES
from enclave_runner.contract.protocols.lattice import MAX_COLUMNS

# What `Evaluating` makes of a keyword: 8 bytes that choose the column (little-endian), then the 16-byte entry.
RECORD = np.dtype([("word", "<u8"), ("entry", "u1", (ENTRY_BYTES,))])
RECORD_BYTES = RECORD.itemsize
LOW_HEIGHT, HIGH_HEIGHT, LOW_ROWS = 2048, 4096, 4_000_000
_RISK = 0.01  # how likely the first choice of columns, or of the bucket's width, has to grow
_BLOCK_BYTES = 16 << 20

Bytes = NDArray[np.uint8]
Words = NDArray[np.uint64]
Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Shape:
    """`height` × `columns` bytes; a bucket of P3 is `bucket_columns` of them, which divides `columns`.

    Every bucket is to hold `k_min` records, unless the whole table is one bucket.
    """

    height: int
    columns: int
    bucket_columns: int
    k_min: int

    @property
    def slots(self) -> int:
        """How many entries a column holds."""
        return self.height // ENTRY_BYTES

    @property
    def buckets(self) -> int:
        """How many buckets there are."""
        return self.columns // self.bucket_columns

    @property
    def nbytes(self) -> int:
        """The size of the matrix."""
        return self.height * self.columns


@dataclass(frozen=True, slots=True)
class Placed:
    """A filled matrix, the shape that it came to have, and how many records its emptiest bucket holds."""

    matrix: Bytes
    shape: Shape
    k: int


def shape_of(rows: int, k_min: int) -> Shape:
    """The shape for that many records, before any is seen: `place` may have to grow it, once in 50 tables.

    The number of columns is the least of which, under random words, none overflows with probability 0.99; buckets are
    as narrow as `k_min` records in each of them allow, with the same probability.

    Raises:
        Refused: `verification.too-many`, more records than 2^20 columns hold.
    """
    height = LOW_HEIGHT if rows <= LOW_ROWS else HIGH_HEIGHT
    slots = height // ENTRY_BYTES
    columns = _least(max(1, -(-rows // slots)), lambda count: _overflow(rows, count, slots) <= _RISK)
    most = _least(1, lambda count: _shortage(rows, count + 1, k_min) > _RISK)
    return _bounded(_even(Shape(height, columns, -(-columns // most), k_min)))


def _overflow(rows: int, columns: int, slots: int) -> float:
    """A bound of the probability that any of the columns gets more records than it has slots."""
    return 0.0 if rows <= slots else columns * _poisson(rows / columns, range(slots + 1, 8 * slots))


def _shortage(rows: int, buckets: int, k_min: int) -> float:
    """A bound of the probability that any of the buckets gets fewer than `k_min` records."""
    return buckets * _poisson(rows / buckets, range(k_min))


def _poisson(mean: float, counts: range) -> float:
    """The probability that a Poisson variable is one of the counts."""
    if mean == 0:
        return float(0 in counts)
    return math.fsum(math.exp(count * math.log(mean) - mean - math.lgamma(count + 1)) for count in counts)


def _least(first: int, holds: Callable[[int], bool]) -> int:
    """The least number from `first` on of which it holds; it has to hold of all numbers above."""
    step = 1
    while not holds(first + step - 1):
        step *= 2
    low, high = first + step // 2, first + step - 1  # below `low` it does not hold, of `high` it does
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return high


def _even(shape: Shape) -> Shape:
    """The next shape that has whole buckets only."""
    buckets = -(-shape.columns // shape.bucket_columns)
    if buckets == 1:
        return replace(shape, bucket_columns=shape.columns)
    return replace(shape, columns=buckets * shape.bucket_columns)


def _bounded(shape: Shape) -> Shape:
    if shape.columns > MAX_COLUMNS:
        raise Refused("verification.too-many", most=MAX_COLUMNS * shape.slots)
    return shape


def columns_of(words: Words, columns: int) -> Counts:
    """floor(word · columns / 2⁶⁴), exactly: the column of each word (`protocols.cell.column_of`), in whole arrays."""
    wide, shift, low = np.uint64(columns), np.uint64(32), np.uint64(0xFFFFFFFF)
    return (((words >> shift) * wide + (((words & low) * wide) >> shift)) >> shift).astype(np.int64)


def place(
    records: NDArray[Any],
    shape: Shape,
    allocate: Callable[[tuple[int, int]], Bytes] = lambda size: np.empty(size, "u1"),
) -> Placed:
    """Fill a matrix with the records (RECORD, in any order, also a read-only memory map).

    `allocate((height, columns))` makes the memory of the matrix once its size is known. Beside the matrix this takes
    16 bytes for each record and some tens of MB.

    Raises:
        Refused: `verification.too-many`.
    """
    words = np.ascontiguousarray(records["word"])
    order = np.argsort(words)
    shape, counts = _fit(words, shape)
    matrix = allocate((shape.height, shape.columns))
    ends, width = np.cumsum(counts), max(1, _BLOCK_BYTES // shape.height)
    for first in range(0, shape.columns, width):
        last = min(first + width, shape.columns)
        taken = order[ends[first] - counts[first] : ends[last - 1]]
        matrix[:, first:last] = _filled(records["entry"][taken], counts[first:last], shape.slots).T
    return Placed(matrix, shape, int(_by_bucket(counts, shape).min()))


def _fit(words: Words, shape: Shape) -> tuple[Shape, Counts]:
    """Grow the shape until every column has room and every bucket its `k_min`; with the records of each column."""
    while True:
        counts = np.bincount(columns_of(words, shape.columns), minlength=shape.columns)
        if counts.max() > shape.slots:
            columns = shape.columns + -(-shape.columns // 50)
            width = columns if shape.buckets == 1 else shape.bucket_columns
            shape = _even(replace(shape, columns=columns, bucket_columns=width))
        elif shape.buckets > 1 and _by_bucket(counts, shape).min() < shape.k_min:
            shape = _even(replace(shape, bucket_columns=-(-shape.columns // (shape.buckets - 1))))
        else:
            return shape, counts
        _bounded(shape)


def _by_bucket(counts: Counts, shape: Shape) -> Counts:
    summed: Counts = counts.reshape(shape.buckets, shape.bucket_columns).sum(axis=1)
    return summed


def _filled(entries: Bytes, counts: Counts, slots: int) -> Bytes:
    """The columns one after the other: each with its entries at random places among random bytes."""
    filled = _random(len(counts) * slots * ENTRY_BYTES, np.uint8).reshape(len(counts), slots, ENTRY_BYTES).copy()
    places = np.argsort(_random(len(counts) * slots, np.uint64).reshape(len(counts), slots), axis=1)
    column = np.repeat(np.arange(len(counts)), counts)
    rank = np.arange(len(entries)) - np.repeat(np.cumsum(counts) - counts, counts)
    filled[column, places[column, rank]] = entries
    return filled.reshape(len(counts), slots * ENTRY_BYTES)


def _random(count: int, kind: type[np.uint8 | np.uint64]) -> NDArray[Any]:
    return np.frombuffer(os.urandom(count * np.dtype(kind).itemsize), kind)


def bucket(matrix: Bytes, bucket_columns: int, number: int) -> bytes:
    """The bucket of that number: its columns one after the other, each of the table's height.

    Raises:
        Refused: `verification.bucket`, there is no such bucket.
    """
    first = number * bucket_columns
    if not 0 <= first < matrix.shape[1]:
        raise Refused("verification.bucket")
    return matrix[:, first : first + bucket_columns].T.tobytes()
