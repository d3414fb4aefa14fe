"""What every local user can read of a process: locks and thread names. Neither may carry a row out of a worker."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path

import pytest

from enclave_runner.contract.errors import Failed
from enclave_runner.jail.profile import JailProfile
from tests.support.stocked_zygote import WHISPERED, WHISPERED_NAME, StockedZygote


def heard(mode: str) -> tuple[bool, bool]:
    """Whether the host can read what a worker said by a lock, and by the name of its thread."""
    said = os.memfd_create("said")
    with StockedZygote(mode) as zygote:
        worker = threading.Thread(target=_whisper, args=(zygote, said))
        worker.start()
        deadline = time.monotonic() + 20
        while os.pread(said, 4, 0) != b"said":
            assert time.monotonic() < deadline
            time.sleep(0.01)
        found = _in_locks(), _in_names()
    worker.join()
    os.close(said)
    return found


def _whisper(zygote: StockedZygote, said: int) -> None:
    with contextlib.suppress(Failed):  # it is killed while it sleeps
        zygote.run(b"whisper", [said], JailProfile(wall_seconds=20))


def _in_locks() -> bool:
    return f" {WHISPERED} {2 * WHISPERED - 1}" in Path("/proc/locks").read_text(encoding="ascii")


def _in_names() -> bool:
    for name in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):
            if name.read_bytes().strip() == WHISPERED_NAME:
                return True
    return False


@pytest.mark.parametrize(("mode", "is_heard"), [("", False), ("open", True)], ids=["BLOCKED", "control"])
def test_nothing_is_heard_by_lock_or_name(mode: str, is_heard: bool) -> None:
    assert heard(mode) == (is_heard, is_heard)
