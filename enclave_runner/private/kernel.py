"""The one product that answers a private lookup: bytes times words, modulo 2³².

Compiled when this module is imported, for these types and no others: a worker forked later compiles nothing. One
thread. Time and memory access depend on the shape alone, not on the question and not on the table.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types, uint32
from numpy.typing import NDArray

from enclave_runner.contract.errors import Refused
from enclave_runner.contract.protocols.lattice import question_bytes
from enclave_runner.private import dot

SIGNATURE = types.void(
    types.Array(types.uint8, 2, "C", readonly=True),
    types.Array(types.uint32, 1, "C", readonly=True),
    types.Array(types.uint32, 1, "C"),
)


def plain(matrix, vector, out):  # type: ignore[no-untyped-def]
    """Compiled: the product on any processor. Without the casts, numba's sums would have 64 bits."""
    for i in range(matrix.shape[0]):
        total = uint32(0)
        for j in range(matrix.shape[1]):
            total = uint32(total + uint32(matrix[i, j] * vector[j]))
        out[i] = total


def paired(matrix, vector, out):  # type: ignore[no-untyped-def]
    """Compiled: the product where there is AVX2. A word is low + 2¹⁶ · high, both of them signed."""
    height, columns = matrix.shape
    low, high = np.empty(columns, np.int16), np.empty(columns, np.int16)
    for j in range(columns):
        low[j] = np.int16(vector[j])
        high[j] = np.int16(uint32(vector[j] + uint32(0x8000)) >> uint32(16))
    whole, chunks = height - height % dot.ROWS, columns // dot.LANES
    for i in range(0, whole, dot.ROWS):
        dot.four_rows(matrix, low, high, i, chunks, out)
    for i in range(height):
        first = chunks * dot.LANES if i < whole else 0
        total = out[i] if i < whole else uint32(0)
        for j in range(first, columns):
            total = uint32(total + uint32(matrix[i, j] * vector[j]))
        out[i] = total


_times = njit(SIGNATURE)(paired if dot.is_there() else plain)


def times(matrix: NDArray[np.uint8], question: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """matrix @ question modulo 2³², exactly. The matrix may be a read-only memory map.

    Raises:
        ValueError: not a row-major matrix of bytes and a contiguous vector of words of its width.
    """
    if matrix.dtype != np.uint8 or matrix.ndim != 2 or not matrix.flags.c_contiguous:
        raise ValueError("a row-major matrix of bytes")
    if question.dtype != np.dtype("<u4") or question.shape != matrix.shape[1:] or not question.flags.c_contiguous:
        raise ValueError("a contiguous vector of one word for each column")
    out = np.empty(len(matrix), np.uint32)
    _times(np.asarray(matrix), question, out)
    return out


def answer(matrix: NDArray[np.uint8], question: bytes) -> bytes:
    """The answer to one question as it comes from the wire: 4 bytes for each row of the table.

    Raises:
        Refused: `verification.question`, the question has not 4 bytes for each column.
    """
    if len(question) != question_bytes(matrix.shape[1]):
        raise Refused("verification.question")
    return times(matrix, np.frombuffer(question, "<u4")).astype("<u4", copy=False).tobytes()
