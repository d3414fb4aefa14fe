"""What a process holds open, to see that nothing is left behind."""

from __future__ import annotations

import os
from contextlib import suppress


def open_kinds() -> list[str]:
    """What this process holds open, but for workers that have answered and are about to be buried."""
    targets = []
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        with suppress(FileNotFoundError):  # the listing's own, or one that was just closed
            targets.append(os.readlink(f"/proc/self/fd/{name}"))  # noqa: PTH115
    return sorted(target for target in targets if target != "anon_inode:[pidfd]" and "/proc/" not in target)
