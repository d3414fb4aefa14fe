"""The hint of a table: its matrix times the public matrix, which each client downloads once for each version.

Exact by floating point: a byte times a word in [-2³¹, 2³¹) is below 2³⁹, and 2¹² of such products sum below 2⁵¹, so
every partial sum of a block is a whole number that a float64 holds, in whatever order the product is made.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from enclave_runner.contract.protocols.lattice import DIMENSION, public_rows

_COLUMNS = 4096  # of one block: 32 MB of public matrix as floats
_ROWS = 1024

Bytes = NDArray[np.uint8]
Hint = NDArray[np.uint32]


def public_matrix(seed: bytes, first: int, count: int) -> Hint:
    """Rows `first` to `first + count - 1` of the public matrix: count × DIMENSION words."""
    return np.frombuffer(public_rows(seed, first, count), "<u4").reshape(count, DIMENSION)


def hint_rows(rows: Bytes, seed: bytes) -> Hint:
    """rows @ A modulo 2³², exactly, for some rows of the table or all; may be a read-only memory map.

    Takes about 120 MB beside the answer. Several workers may each do some rows: the hint is theirs, one after the
    other, as little-endian words (`tobytes`).
    """
    hint = np.zeros((len(rows), DIMENSION), np.int64)
    for first in range(0, rows.shape[1], _COLUMNS):
        block = rows[:, first : first + _COLUMNS]
        public = public_matrix(seed, first, block.shape[1]).view(np.int32).astype(np.float64)
        for top in range(0, len(rows), _ROWS):
            hint[top : top + _ROWS] += (block[top : top + _ROWS].astype(np.float64) @ public).astype(np.int64)
    return hint.astype(np.uint32)
