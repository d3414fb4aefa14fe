"""Attempts that end their worker, or should: one worker each, whose fate is the outcome.

Before it tries, a worker writes `TRIED` into the file that it was handed; after it `SURVIVED`, or the number of the
error that the kernel gave. A worker that ended for another reason, or never got so far, proves nothing.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from enclave_runner.jail.zygote import HEAD_BYTES
from enclave_runner.kinds.probes.attempt import raw_call
from enclave_runner.kinds.tasks import Probe

TRIED, SURVIVED = b"T", b"\xff"  # no error has that number
X32_GETPID = 0x40000000 + 39
MIB = 1 << 20
ANSWER_BYTES = 64 * MIB


def _foreign_call(probe: Probe) -> None:
    raw_call(X32_GETPID)


def _memory_bomb(probe: Probe) -> None:
    held = []
    for _ in range(probe.profile.memory_mb * 2):
        held.append(bytearray(MIB))


def _spin(probe: Probe) -> None:
    until = time.process_time() + 3 * probe.profile.cpu_seconds
    while time.process_time() < until:
        pass


def _outstay(probe: Probe) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.valid_signals()))
    time.sleep(probe.profile.wall_seconds + 5)


def _fill_scratch(probe: Probe) -> None:
    for number in range(probe.profile.scratch_mb):
        with Path(f"/scratch/{number}").open("wb", buffering=0) as file:
            for _ in range(2):
                file.write(bytes(MIB))


def _flood(probe: Probe) -> None:
    for _ in range(ANSWER_BYTES // MIB):
        os.write(probe.answer, b"x" * MIB)


def _two_answers(probe: Probe) -> None:
    answers = 2 * b'{"type":"done"}'
    os.write(probe.answer, len(answers).to_bytes(HEAD_BYTES, "big") + answers)


def _tell(probe: Probe) -> None:
    raise ValueError(probe.secret)


# Name → (layer, how the supervisor must see it end: the code, and the kernel's error if there was one; the attempt).
EXCESSES: dict[str, tuple[str, str, Callable[[Probe], object]]] = {
    "foreign-call": ("seccomp", "job.limit", _foreign_call),
    "memory-bomb": ("limits", "job.limit", _memory_bomb),
    "processor-hog": ("limits", "job.limit", _spin),
    "outstay-deadline": ("limits", "job.deadline", _outstay),
    "fill-scratch": ("limits", "job.broken ENOSPC", _fill_scratch),
    "flood-answer": ("output", "job.limit", _flood),
    "two-answers": ("output", "job.answer", _two_answers),
    "tell-by-exception": ("output", "job.broken", _tell),
}


def exceed(name: str, probe: Probe, mark: int) -> None:
    """Try the one that is named, and leave the mark."""
    _, _, attempt = EXCESSES[name]
    os.pwrite(mark, TRIED, 0)
    try:
        attempt(probe)
    except OSError as error:
        os.pwrite(mark, bytes([error.errno or 0]), 1)
        raise
    os.pwrite(mark, SURVIVED, 1)
