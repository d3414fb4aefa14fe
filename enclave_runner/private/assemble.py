"""From the cells of all rows to the matrix that is looked up, at its final shape."""

from __future__ import annotations

import mmap
import os

import numpy as np
from numpy.typing import NDArray

from enclave_runner.private.matrix import RECORD, place, shape_of
from enclave_runner.private.tasks import Assembled, Assembling

PIECE = 16 << 20


def run(task: Assembling, descriptors: list[int]) -> Assembled:
    """Place the cells of the first descriptor and write the matrix, row by row, into the second."""
    cells, target = descriptors
    placed = place(_records(cells), shape_of(os.fstat(cells).st_size // RECORD.itemsize, task.k_min))
    shape, rows = placed.shape, max(1, PIECE // placed.shape.columns)
    for first in range(0, shape.height, rows):
        view = memoryview(placed.matrix[first : first + rows].tobytes())
        while view:
            view = view[os.write(target, view) :]
    return Assembled(height=shape.height, columns=shape.columns, bucket_columns=shape.bucket_columns, k=placed.k)


def _records(descriptor: int) -> NDArray[np.void]:
    if not os.fstat(descriptor).st_size:
        return np.empty(0, RECORD)
    return np.frombuffer(mmap.mmap(descriptor, 0, mmap.MAP_PRIVATE, mmap.PROT_READ), RECORD)
