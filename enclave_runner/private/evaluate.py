"""From keyword records to cells: one evaluation of the pseudorandom function for each row of a hidden-subject table."""

from __future__ import annotations

import os

from enclave_runner.contract.protocols import cell, oprf
from enclave_runner.contract.protocols.canonical import DIGEST_BYTES
from enclave_runner.kinds.tasks import Done
from enclave_runner.private.tasks import KEYWORD_BYTES, Evaluating

BLOCK = 4096


def run(task: Evaluating, descriptors: list[int]) -> Done:
    """The cells of the task's records, in their order, appended to the last descriptor."""
    records, target = descriptors
    end = task.first + task.count
    for first in range(task.first, end, BLOCK):
        size = min(BLOCK, end - first) * KEYWORD_BYTES
        some = os.pread(records, size, first * KEYWORD_BYTES)
        if len(some) != size:
            raise ValueError("fewer records than were ordered")
        view = memoryview(cells_of(some, task.key, task.version))
        while view:
            view = view[os.write(target, view) :]
    return Done()


def cells_of(records: bytes, key: bytes, version: str) -> bytes:
    """A cell (where it belongs, 8 bytes little-endian, and its 16-byte entry) for each record (keyword, label code)."""
    made = bytearray()
    for start in range(0, len(records), KEYWORD_BYTES):
        middle = start + DIGEST_BYTES
        entry = cell.entry(oprf.evaluate_directly(key, records[start:middle]), version)
        label = cell.label(int.from_bytes(records[middle : start + KEYWORD_BYTES], "little"))
        made += entry.word.to_bytes(8, "little") + entry.seal(label)
    return bytes(made)
