"""Peak memory of descendants, watched from outside."""

from __future__ import annotations

import os
import subprocess
import sys

from benchmarks.dp.memory import Watch

HOLD = "import sys; data = bytearray({mib} << 20); data[::4096] = b'x' * len(data[::4096]); del data; sys.stdin.read()"


def held(mib: int) -> float:
    """What is seen of a grandchild that held and freed so much."""
    grandchild = [sys.executable, "-c", HOLD.format(mib=mib)]
    middle = f"import subprocess; subprocess.run({grandchild!r})"
    with (
        subprocess.Popen([sys.executable, "-c", middle], stdin=subprocess.PIPE) as process,
        Watch(
            process.pid
        ) as watch,  # not the test's own process: before it becomes another program a child is its copy
    ):
        assert process.stdin is not None
        while watch.peak_mib < mib:
            if process.poll() is not None:
                break
        process.stdin.close()
        process.wait()
    return watch.peak_mib


def test_a_grandchild_is_seen_with_its_highest_mark() -> None:
    assert 64 <= held(64) < 64 + 60


def test_nobody_below_is_nothing() -> None:
    with Watch(os.getpid()) as watch:
        pass
    assert watch.peak_mib == 0
