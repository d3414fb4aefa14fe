"""Hinting as a task: the parts of several workers are the hint."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np

from enclave_runner.contract.protocols.lattice import hint_bytes
from enclave_runner.kinds.tasks import Done
from enclave_runner.private import hinting
from enclave_runner.private.hint import hint_rows
from enclave_runner.private.tasks import Hinting
from tests.support.private_tables import content, memory

SEED = bytes(range(16))


def test_a_hint_in_parts_is_the_hint() -> None:
    matrix = np.random.default_rng(1).integers(0, 256, (64, 30), dtype=np.uint8)
    with ExitStack() as owner:
        table, target = memory(owner, matrix.tobytes()), memory(owner)
        for first, count in ((0, 40), (40, 24)):
            order = Hinting(seed=SEED, height=64, columns=30, first=first, count=count)
            assert hinting.run(order, [table, target]) == Done()
        assert content(target) == hint_rows(matrix, SEED).tobytes()
        assert len(content(target)) == hint_bytes(64)
