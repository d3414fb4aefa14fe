"""The most memory that any process below a given one held, watched from outside: jailed workers cannot tell."""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType
from typing import Self

EVERY_SECONDS = 0.002


class Watch:
    """While open, keeps the largest VmHWM among all descendants of `ancestor`.

    Of a worker that ends between two samples only what it added since the first of them is missed.
    """

    def __init__(self, ancestor: int) -> None:
        """Starts with the `with` block."""
        self.peak_mib = 0.0
        self._ancestor = ancestor
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(EVERY_SECONDS):
            self.peak_mib = max([self.peak_mib, *(_high_water_mib(pid) for pid in _below(self._ancestor))])


def _below(pid: int) -> list[int]:
    """All descendants, by the kernel's own lists of children; those that ended meanwhile have none."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        task = Path(f"/proc/{waiting.pop()}/task")
        try:
            children = [int(child) for thread in task.iterdir() for child in (thread / "children").read_text().split()]
        except OSError:
            continue
        found += children
        waiting += children
    return found


def _high_water_mib(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM:")), 0.0)
