"""The client's half of a private lookup (P4): ask for a column of the platform's table, and read it.

A question is one sample of learning with errors for each column: it tells the platform nothing about which column is
meant, for as long as its secret is used once and stays here. Errors are drawn from the operating system's randomness by
a cumulative table that is read to its end for every sample, and the wanted column is marked by a comparison with every
number: neither time nor memory access depends on what is drawn or asked.

Sampler: weights e^(-x²/2σ²) on the integers from -84 to 84, outside of which lies less than 2^-130; the thresholds are
whole multiples of 2^-127. A sample is within 2^-120 of the discrete Gaussian in statistical distance, and so a question
of 2^20 columns within 2^-100. Parameters and sources: `enclave_runner.contract.protocols.lattice`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal, localcontext

import numpy as np
from numpy.typing import NDArray

from enclave_runner.contract.errors import Refused
from enclave_runner.contract.protocols.lattice import (
    DIMENSION,
    MAX_COLUMNS,
    SIGMA,
    STEP_BITS,
    WORD_BYTES,
    hint_bytes,
    public_rows,
)

Words = NDArray[np.uint32]
_ROWS = 64  # of the public matrix at a time: 360 KB, which stay in the cache
_SAMPLES = 4096
_THRESHOLD_COUNT = 84
_CENTRE = 128
# A reply is refused when a word is further from a multiple of 2^24 than the error can explain: 9.5 standard deviations
# of the worst table. The error is subgaussian, so an honest word gets there once in 2^64 at most; 2^23 is out of reach.
_DEVIATIONS = 9.5


@dataclass(frozen=True, slots=True)
class Secret:
    """What reads the answer to one question, and to that one only. Never leaves the client.

    `words` is s; `lift` is 128·Σe, which centres the bytes of the table; `slack` is how far the error may reach.
    """

    words: Words = field(repr=False)
    lift: int = field(repr=False)
    slack: int


def ask(seed: bytes, columns: int, column: int) -> tuple[Secret, bytes]:
    """The question for one column of a table of that many, and the secret that reads its answer.

    Makes the public matrix from its seed in blocks and keeps none of it: takes some 25 bytes for each column.

    Raises:
        ValueError: a column outside the table, more than 2^20 columns, or a seed that has not 16 bytes.
    """
    if not 0 <= column < columns <= MAX_COLUMNS:
        raise ValueError("a column of the table, and at most 2^20 of them")
    secret = np.frombuffer(os.urandom(DIMENSION * WORD_BYTES), "<u4")
    errors = gaussian(columns)
    question = np.concatenate(list(_masks(seed, columns, secret))) + errors.astype(np.uint32)
    question += (np.arange(columns) == column).astype(np.uint32) << np.uint32(STEP_BITS)
    lift = _CENTRE * int(errors.sum()) % 2**32
    return Secret(secret, lift, _slack(columns)), question.astype("<u4", copy=False).tobytes()


def _masks(seed: bytes, columns: int, secret: Words) -> Iterator[Words]:
    """A·s, block by block."""
    for first in range(0, columns, _ROWS):
        count = min(_ROWS, columns - first)
        yield _times(np.frombuffer(public_rows(seed, first, count), "<u4").reshape(count, DIMENSION), secret)


def _times(matrix: Words, secret: Words) -> Words:
    """matrix @ secret modulo 2³²; einsum is some times faster than @ at whole numbers."""
    product: Words = np.einsum("ij,j->i", matrix, secret)
    return product


def _slack(columns: int) -> int:
    return math.ceil(_DEVIATIONS * _CENTRE * float(SIGMA) * math.sqrt(columns))


def decode(reply: bytes, hint: bytes | memoryview | Words, secret: Secret) -> bytes:
    """The column that was asked for: one byte for each row of the table.

    `hint` is the hint of that version as it was downloaded (the caller has checked its digest), also as a memory map.
    Whether the reply is refused does not depend on the column that was asked for.

    Raises:
        Refused: `verification.answer`, hint or reply have not the length of this table; `verification.noise`, the reply
            was not made from this question and the table of this hint: an error, never a "no".
    """
    height, said = len(reply) // WORD_BYTES, np.frombuffer(hint, np.uint8)
    if height == 0 or len(reply) % WORD_BYTES or len(said) != hint_bytes(height):
        raise Refused("verification.answer")
    masked = _times(said.view("<u4").reshape(height, DIMENSION), secret.words)
    # M·(A·s + e + 2^24·u) - hint·s - 128·Σe = (M - 128)·e + 2^24·(M·u): the error is centred whatever the table holds.
    plain = np.frombuffer(reply, "<u4") - masked - np.uint32(secret.lift)
    rounded = plain + np.uint32(1 << (STEP_BITS - 1))
    error = (rounded & np.uint32((1 << STEP_BITS) - 1)).astype(np.int64) - (1 << (STEP_BITS - 1))
    if np.abs(error).max() > secret.slack:
        raise Refused("verification.noise")
    return (rounded >> np.uint32(STEP_BITS)).astype(np.uint8).tobytes()


def gaussian(count: int) -> NDArray[np.int64]:
    """That many samples of the discrete Gaussian of deviation SIGMA."""
    return np.concatenate([_samples(min(_SAMPLES, count - first)) for first in range(0, count, _SAMPLES)])


def _samples(count: int) -> NDArray[np.int64]:
    """Magnitude: how many thresholds a number of 127 random bits reaches; sign: one more random bit."""
    high, low = np.frombuffer(os.urandom(16 * count), "<u8").reshape(2, count)
    sign = (low & np.uint64(1)).astype(np.int64)
    low = low >> np.uint64(1)
    magnitude = np.zeros(count, np.int64)
    for above, below in _THRESHOLDS:
        magnitude += (high > above) | ((high == above) & (low >= below))
    return magnitude * (1 - 2 * sign)


def thresholds() -> list[int]:
    """floor(2^127 · P[|X| ≤ x]) for x = 0, …, 83: a sample's magnitude is how many of them its 127 bits reach."""
    with localcontext() as context:
        context.prec = 60
        width = 2 * Decimal(SIGMA) ** 2
        weights = [(-(x * x) / width).exp() * (1 if x == 0 else 2) for x in map(Decimal, range(2 * _THRESHOLD_COUNT))]
        total = sum(weights)
        return [int(2**127 * sum(weights[: x + 1]) / total) for x in range(_THRESHOLD_COUNT)]


_THRESHOLDS = [(np.uint64(cut >> 63), np.uint64(cut & (2**63 - 1))) for cut in thresholds()]
