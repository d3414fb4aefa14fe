"""What the zygote does before its first fork: it imports and compiles all that a worker will need."""

from __future__ import annotations

import os

from enclave_runner.private import kernel
from enclave_runner.private.program import rehearse


def test_a_rehearsal_leaves_nothing_open_and_compiles_nothing_new() -> None:
    """Nothing can be compiled in a jail: the kernel has the one signature that it was imported with."""
    before = sorted(os.listdir("/proc/self/fd"))  # noqa: PTH208
    rehearse()
    assert sorted(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    assert len(kernel._times.signatures) == 1
