"""Some rows of a hint, which several workers make beside each other."""

from __future__ import annotations

import mmap
import os

import numpy as np

from enclave_runner.kinds.tasks import Done
from enclave_runner.private.hint import hint_rows
from enclave_runner.private.tasks import Hinting


def run(task: Hinting, descriptors: list[int]) -> Done:
    """The hint of the task's rows of the matrix (the first descriptor), into the second."""
    table, target = descriptors
    mapped = mmap.mmap(table, 0, mmap.MAP_PRIVATE, mmap.PROT_READ)
    rows = np.frombuffer(mapped, np.uint8).reshape(task.height, task.columns)[task.first : task.first + task.count]
    view = memoryview(hint_rows(rows, task.seed).astype("<u4", copy=False).tobytes())
    while view:
        view = view[os.write(target, view) :]
    return Done()
