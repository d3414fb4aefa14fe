"""Attempts to take more than a job's share: memory by every kind of mapping, processor, time, files, threads."""

# ruff: noqa: PTH102, PTH106, PTH108, PTH110, PTH112, PTH118
from __future__ import annotations

import ctypes
import os
import resource
import signal
import threading
import time

from tests.support.hostile_attempts import Attempt, Run, Targets, call, must

MIB = 1 << 20
SECONDS = 3.0
TOO_MANY_FILES, TOO_MANY_THREADS = 400, 100


def touch(targets: Targets) -> None:
    """Write more memory than allowed."""
    held = [bytearray(MIB) for _ in range(targets.memory_mb + 128)]
    del held


def one_block(targets: Targets) -> None:
    """Ask for it at once."""
    address = call(9, 0, (targets.memory_mb + 128) * MIB, 3, 0x4022, -1, 0)
    call(11, address, (targets.memory_mb + 128) * MIB)


def readable_first(targets: Targets) -> None:
    """Map it for reading, which counts for nothing, and then for writing."""
    size = (targets.memory_mb + 128) * MIB
    address = call(9, 0, size, 1, 0x4022, -1, 0)
    call(10, address, size, 3)
    call(11, address, size)


def by_break(targets: Targets) -> None:
    """Grow the heap. The kernel answers a refusal with the old end."""
    old = call(12, 0)
    new = call(12, old + (targets.memory_mb + 128) * MIB)
    must(new != old)


def address_space(targets: Targets) -> None:
    """Reserve half a terabyte."""
    address = call(9, 0, 1 << 39, 0, 0x4022, -1, 0)
    call(11, address, 1 << 39)


def spin(targets: Targets) -> None:
    """Burn more processor time than allowed, with the signal for it ignored."""
    signal.signal(signal.SIGXCPU, signal.SIG_IGN)
    while time.process_time() < SECONDS:
        pass


def hold_lock(targets: Targets) -> None:
    """One call that never gives the interpreter back."""
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.valid_signals()))
    ctypes.PyDLL(None).usleep(int(SECONDS * 900_000))


def outstay(targets: Targets) -> None:
    """Sleep past the deadline with every signal blocked."""
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.valid_signals()))
    time.sleep(SECONDS)


def _folder(targets: Targets) -> str:
    return "/scratch" if os.path.isdir("/scratch") else targets.folder


def fill(targets: Targets) -> None:
    """More bytes than the scratch has."""
    made = [os.path.join(_folder(targets), f"fill{number}") for number in range(3)]
    try:
        for path in made:
            descriptor = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
            os.posix_fallocate(descriptor, 0, 30 * MIB)
            os.close(descriptor)
    finally:
        for path in made:
            if os.path.exists(path):
                os.unlink(path)


def many_files(targets: Targets) -> None:
    """More files than it has room for names."""
    folder = os.path.join(_folder(targets), "many")
    os.mkdir(folder)
    made = []
    try:
        for number in range(1100):
            path = os.path.join(folder, str(number))
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
            made.append(path)
    finally:
        for path in made:
            os.unlink(path)
        os.rmdir(folder)


def one_large_file(targets: Targets) -> None:
    """A file longer than a job's files may be."""
    path = os.path.join(_folder(targets), "large")
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        os.pwrite(descriptor, b"x", 8 * MIB)
    finally:
        os.close(descriptor)
        os.unlink(path)


def many_descriptors(targets: Targets) -> None:
    """More open files than allowed."""
    taken = []
    try:
        for _ in range(TOO_MANY_FILES):
            taken.append(os.dup(0))
    finally:
        for descriptor in taken:
            os.close(descriptor)


def many_threads(targets: Targets) -> None:
    """More threads than allowed."""
    stop = threading.Event()
    started = []
    try:
        for _ in range(TOO_MANY_THREADS):
            thread = threading.Thread(target=stop.wait, daemon=True)
            try:
                thread.start()
            except RuntimeError:
                raise OSError(11, "no more threads") from None
            started.append(thread)
    finally:
        stop.set()
        for thread in started:
            thread.join()


def unlimited(limit: int, bound: int) -> Run:
    """A hard limit above the bound."""

    def run(targets: Targets) -> None:
        _, hard = resource.getrlimit(limit)
        must(hard == resource.RLIM_INFINITY or hard > bound)

    return run


def flood(targets: Targets) -> None:
    """An answer of many times the cap."""
    for _ in range(24):
        os.write(3, b"x" * MIB)


EXCESSES = (
    Attempt("touch-memory", "RES", touch, ("MemoryError", "job.limit"), "no-limits"),
    Attempt("map-memory", "RES", one_block, ("ENOMEM",), "no-limits"),
    Attempt("map-for-reading-first", "RES", readable_first, ("ENOMEM",), "no-limits"),
    Attempt("grow-heap", "RES", by_break, ("hidden",), "no-limits"),
    Attempt("reserve-addresses", "RES", address_space, ("ENOMEM",), "no-limits"),
    Attempt("burn-processor", "RES", spin, ("job.limit",), "no-limits"),
    Attempt("fill-scratch", "RES", fill, ("ENOSPC",), "outside"),
    Attempt("many-files", "RES", many_files, ("ENOSPC",), "outside"),
    Attempt("large-file", "RES", one_large_file, ("EFBIG",), "no-limits"),
    Attempt("many-descriptors", "RES", many_descriptors, ("EMFILE",), "no-limits"),
    Attempt("many-threads", "RES", many_threads, ("EAGAIN",), "no-limits"),
    Attempt("unlimited-processor", "RES", unlimited(resource.RLIMIT_CPU, 3600), ("hidden",), "no-limits"),
    Attempt("unlimited-memory", "RES", unlimited(resource.RLIMIT_DATA, 1 << 36), ("hidden",), "no-limits"),
    Attempt("unlimited-stack", "RES", unlimited(resource.RLIMIT_STACK, 8 << 20), ("hidden",), "no-limits"),
    Attempt("lockable-memory", "RES", unlimited(resource.RLIMIT_MEMLOCK, 0), ("hidden",), "no-limits"),
    Attempt("message-queues", "RES", unlimited(resource.RLIMIT_MSGQUEUE, 0), ("hidden",), "no-limits"),
)
PATIENCE = (
    Attempt("outstay", "RES", outstay, ("job.deadline",), "patient"),
    Attempt("hold-interpreter", "RES", hold_lock, ("job.deadline",), "patient"),
)
