"""One escape attempt, how it is judged, and system calls without a library in between."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass

from enclave_runner.kinds.tasks import Finding, Outcome, Probe

# Name → (x86-64, arm64). Numbers that only one of them has are left out of the other's attempts.
_CALLS: dict[str, tuple[int | None, int | None]] = {
    "getpid": (39, 172), "kill": (62, 129), "ptrace": (101, 117), "personality": (135, 92), "mount": (165, 40),
    "mlockall": (151, 230), "clone": (56, 220), "execve": (59, 221), "socket": (41, 198), "socketpair": (53, 199),
    "setuid": (105, 146), "chroot": (161, 51), "unshare": (272, 97), "setns": (308, 268), "prctl": (157, 167),
    "ioctl": (16, 29), "prlimit64": (302, 261), "clone3": (435, 435), "memfd_create": (319, 279), "bpf": (321, 280),
    "userfaultfd": (323, 282), "io_uring_setup": (425, 425), "perf_event_open": (298, 241), "keyctl": (250, 219),
    "process_vm_readv": (310, 270), "pidfd_open": (434, 434), "shmget": (29, 194), "open_tree": (428, 428),
    "mmap": (9, 222), "mprotect": (10, 226), "munmap": (11, 215),
}  # fmt: skip
_COLUMN = {"x86_64": 0, "aarch64": 1}
_libc = ctypes.CDLL(None, use_errno=True)

Argument = int | bytes | ctypes.Array[ctypes.c_char] | None


class Hidden(Exception):
    """What the attempt was after is not there; the text says what stands in its place, never what it read."""


@dataclass(frozen=True)
class Attempt:
    """`run` raises when it is blocked: OSError with one of `blocked_by`, or Hidden. Returning means: it went through.

    `expected` are the answers of the layer itself; another refusal does not prove that the layer is there.
    """

    name: str
    layer: str
    run: Callable[[Probe], object]
    expected: tuple[int, ...] = ()

    def judge(self, probe: Probe) -> Finding:
        """Try it, and say how it went."""
        try:
            self.run(probe)
        except Hidden as hidden:
            return self._found(Outcome.BLOCKED, str(hidden))
        except OSError as error:
            number = error.errno or 0
            name = errno.errorcode.get(number, "no errno")
            if number in self.expected:
                return self._found(Outcome.BLOCKED, name)
            names = "|".join(errno.errorcode[code] for code in self.expected)
            return self._found(Outcome.MISSING, f"{name} where {names} was expected")
        except Exception as error:
            return self._found(Outcome.MISSING, f"not tried: {type(error).__name__}")
        return self._found(Outcome.ALLOWED, "it went through")

    def _found(self, outcome: Outcome, detail: str) -> Finding:
        return Finding(name=self.name, layer=self.layer, outcome=outcome, detail=detail)


def call(name: str, *arguments: Argument) -> int:
    """Make a system call by its number, so that nothing but the kernel can refuse it.

    Raises:
        OSError: what the kernel answered.
    """
    number = _CALLS[name][_COLUMN[platform.machine()]]
    if number is None:
        raise LookupError(name)
    return raw_call(number, *arguments)


def raw_call(number: int, *arguments: Argument) -> int:
    """The same for a number that has no name here."""
    passed = [ctypes.c_long(item) if isinstance(item, int) else item for item in arguments]
    _libc.syscall.restype = ctypes.c_long
    result = int(_libc.syscall(ctypes.c_long(number), *passed))
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def hide(condition: bool, what: str) -> None:
    """Raise Hidden when `condition` holds."""
    if condition:
        raise Hidden(what)
