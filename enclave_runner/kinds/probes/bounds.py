"""Attempts to pass the limits, and to win a privilege back."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from enclave_runner.kinds.probes.attempt import Attempt, call, hide
from enclave_runner.kinds.tasks import Probe

MIB = 1 << 20
SCRATCH_FILES = 1024
REFUSED = (errno.EPERM,)
PROT_READ, PROT_WRITE, PROT_EXEC = 1, 2, 4
MAP_SHARED, MAP_PRIVATE, MAP_ANONYMOUS, MAP_GROWSDOWN, MAP_NORESERVE = 1, 2, 0x20, 0x100, 0x4000
RETURN = b"\xc3"  # one instruction


def _limit(which: int, bound: Callable[[Probe], int]) -> Callable[[Probe], None]:
    def read(probe: Probe) -> None:
        soft, hard = resource.getrlimit(which)
        hide(0 <= soft <= hard <= bound(probe), f"at most {hard}")

    return read


def _set_limit(probe: Probe) -> None:
    """Set a limit to what it is: any setting at all must be refused."""
    values = resource.getrlimit(resource.RLIMIT_NOFILE)
    new = ctypes.create_string_buffer(b"".join(value.to_bytes(8, "little") for value in values), 16)
    call("prlimit64", 0, resource.RLIMIT_NOFILE, new, None)


def _map(size: int, flags: int, protection: int = PROT_READ | PROT_WRITE) -> int:
    address = call("mmap", 0, size, protection, flags | MAP_ANONYMOUS, -1, 0)
    call("munmap", address, size)
    return address


def _map_beyond(probe: Probe) -> None:
    _map((probe.profile.memory_mb + 64) * MIB, MAP_PRIVATE | MAP_NORESERVE)


def _scratch_bytes(probe: Probe) -> None:
    """One file of more than fits: the kernel refuses before it writes, for its size or for the room."""
    with _new_file("large") as descriptor:
        os.posix_fallocate(descriptor, 0, (probe.profile.scratch_mb + 1) * MIB)


def _scratch_files(probe: Probe) -> None:
    made = 0
    try:
        while made <= SCRATCH_FILES:
            os.close(os.open(f"/scratch/{made}", os.O_CREAT | os.O_WRONLY))
            made += 1
    finally:
        for number in range(made):
            os.unlink(f"/scratch/{number}")


@contextmanager
def _new_file(name: str) -> Iterator[int]:
    descriptor = os.open(f"/scratch/{name}", os.O_CREAT | os.O_WRONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
        os.unlink(f"/scratch/{name}")


def _dirty_scratch(probe: Probe) -> None:
    hide(not os.listdir("/scratch"), "empty")


def _exhaust_descriptors(probe: Probe) -> None:
    taken: list[int] = []
    try:
        while len(taken) <= probe.profile.descriptors:
            taken.append(os.dup(0))
    finally:
        for number in taken:
            os.close(number)


def _capabilities(probe: Probe) -> None:
    sets = [_status(name) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")]
    hide(all(int(held, 16) == 0 for held in sets), "five empty sets")


def _new_privileges(probe: Probe) -> None:
    hide(_status("NoNewPrivs") == "1", "no_new_privs is set")


def _filter(probe: Probe) -> None:
    hide(_status("Seccomp") == "2", "filter mode")


def _status(name: str) -> str:
    for line in Path("/proc/self/status").read_text().splitlines():
        key, _, value = line.partition(":\t")
        if key == name:
            return value.strip()
    raise LookupError(name)


def _identity(probe: Probe) -> None:
    hide(0 not in (os.getuid(), os.geteuid(), os.getgid(), os.getegid()), "ids of no account")


def _new_code(probe: Probe) -> None:
    """Write machine code, then make it executable."""
    page = call("mmap", 0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    try:
        ctypes.memmove(page, RETURN, len(RETURN))
        call("mprotect", page, 4096, PROT_READ | PROT_EXEC)
    finally:
        call("munmap", page, 4096)


LIMITS = (
    Attempt("core-dump", "limits", _limit(resource.RLIMIT_CORE, lambda probe: 0)),
    Attempt("memory-limit", "limits", _limit(resource.RLIMIT_DATA, lambda probe: probe.profile.memory_mb * MIB)),
    Attempt("address-space", "limits", _limit(resource.RLIMIT_AS, lambda probe: probe.profile.address_space_mb * MIB)),
    Attempt("processor-time", "limits", _limit(resource.RLIMIT_CPU, lambda probe: probe.profile.cpu_seconds)),
    Attempt("file-size", "limits", _limit(resource.RLIMIT_FSIZE, lambda probe: probe.profile.file_mb * MIB)),
    Attempt("threads", "limits", _limit(resource.RLIMIT_NPROC, lambda probe: probe.profile.processes)),
    Attempt("locked-memory", "limits", _limit(resource.RLIMIT_MEMLOCK, lambda probe: 0)),
    Attempt("message-queues", "limits", _limit(resource.RLIMIT_MSGQUEUE, lambda probe: 0)),
    Attempt("map-beyond-limit", "limits", _map_beyond, (errno.ENOMEM,)),
    Attempt("exhaust-descriptors", "limits", _exhaust_descriptors, (errno.EMFILE,)),
    Attempt("scratch-of-another-job", "limits", _dirty_scratch),
    Attempt("scratch-bytes", "limits", _scratch_bytes, (errno.ENOSPC, errno.EFBIG)),
    Attempt("scratch-files", "limits", _scratch_files, (errno.ENOSPC,)),
)
PRIVILEGES = (
    Attempt("capabilities", "privileges", _capabilities),
    Attempt("new-privileges", "privileges", _new_privileges),
    Attempt("root-identity", "privileges", _identity),
    Attempt("become-root", "privileges", lambda probe: call("setuid", 0), REFUSED),
)
NEW_CODE = (
    Attempt("filter-absent", "seccomp", _filter),
    Attempt("new-code", "seccomp", _new_code, REFUSED),
    Attempt(
        "map-executable",
        "seccomp",
        lambda probe: _map(4096, MAP_PRIVATE, PROT_READ | PROT_WRITE | PROT_EXEC),
        REFUSED,
    ),
    Attempt("map-shared-memory", "seccomp", lambda probe: _map(MIB, MAP_SHARED), REFUSED),
    Attempt("map-growing-stack", "seccomp", lambda probe: _map(MIB, MAP_PRIVATE | MAP_GROWSDOWN), REFUSED),
    Attempt("set-limit", "seccomp", _set_limit, REFUSED),
)
