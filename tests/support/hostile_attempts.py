"""An escape attempt as a value, and how it is told whether it went through.

An attempt is a function that raises when it is blocked (OSError, or Blocked) and returns when it went through. The same
function runs in the real jail and in its control: a jail with one layer taken away, or none at all.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field

WENT_THROUGH, HIDDEN = "ok", "hidden"
# For a program that took the worker's place: the frame of an answer that says `ok`.
SAY_OK = r"printf '\000\000\000\000\000\000\000\002ok' >&3"
# What is left out of the jail in a control. `die_with_parent` and `check_root` cannot hold where there is no pid space.
FILTER_OFF = ("filter_calls", "read_back")
LANDLOCK_OFF = ("restrict_paths", "read_back")
LIMITS_OFF = ("set_limits", "read_back")
BEFORE_ROOT = (
    "build_root",
    "set_environment",
    "set_limits",
    "drop_privileges",
    "check_root",
    *LANDLOCK_OFF,
    "filter_calls",
)
OUTSIDE = ("die_with_parent", "enter_namespaces", *BEFORE_ROOT)
CONTROLS: dict[str, tuple[str, ...]] = {
    "jail": (),
    "no-filter": FILTER_OFF,
    "no-landlock": LANDLOCK_OFF,
    "no-limits": LIMITS_OFF,
    "captive-root": BEFORE_ROOT,  # every capability, in a user namespace of its own
    "outside": OUTSIDE,  # a plain process of the job's uid
}


class Blocked(Exception):
    """What the attempt was after is not there."""


@dataclass(frozen=True)
class Targets:
    """What there is to reach on the host. Empty strings where an attempt does not need it."""

    canary: str = ""  # a readable file
    owned: str = ""  # a file of the job's uid
    folder: str = ""  # a folder that everybody may write
    secret: str = ""  # what stands in the canary, and in the environment of the neighbour
    neighbour: int = 0  # a process of the job's uid
    port: int = 0
    abstract: str = ""
    socket_path: str = ""
    segment: int = 0  # shared memory, by id
    memory_mb: int = 3072
    descriptors: tuple[int, ...] = field(default=())  # as the worker got them


Run = Callable[[Targets], object]


@dataclass(frozen=True)
class Attempt:
    """`expected`: what the jail must answer, an error, HIDDEN or the launcher's code. `control`: where it works."""

    name: str
    family: str
    run: Run
    expected: tuple[str, ...]
    control: str


def outcome_of(run: Run, targets: Targets) -> str:
    """WENT_THROUGH, HIDDEN, the error's name, or the type of any other exception."""
    try:
        run(targets)
    except Blocked:
        return HIDDEN
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, f"errno {error.errno}")
    except Exception as error:
        return type(error).__name__
    return WENT_THROUGH


def must(condition: bool) -> None:
    """Blocked unless it holds."""
    if not condition:
        raise Blocked


libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
Argument = int | bytes | ctypes.Array[ctypes.c_char] | None


def call(number: int, *arguments: Argument) -> int:
    """A system call by its x86-64 number, so that nothing but the kernel can refuse it."""
    passed = [ctypes.c_long(item) if isinstance(item, int) else item for item in arguments]
    result = int(libc.syscall(ctypes.c_long(number), *passed))
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def structure(length: int, /, **fields: tuple[int, int, int]) -> ctypes.Array[ctypes.c_char]:
    """A C structure of zeros with some integers in it: name=(offset, width, value)."""
    content = bytearray(length)
    for offset, width, value in fields.values():
        content[offset : offset + width] = value.to_bytes(width, "little")
    return ctypes.create_string_buffer(bytes(content), length)
