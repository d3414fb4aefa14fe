"""The Linux calls that Python does not offer, through ctypes. Each raises OSError when the kernel says no."""

from __future__ import annotations

import ctypes
import os
import platform

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS = 0x20000, 0x2000000, 0x4000000
CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x8000000, 0x10000000, 0x20000000, 0x40000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
MNT_DETACH = 2

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 1, 4, 24, 38, 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
LAST_CAPABILITY = 63  # the kernel answers EINVAL above its own last one

_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_CLOSE_RANGE = 436
_SECCOMP = {"x86_64": 317}
_SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_TSYNC = 1, 1
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_LANDLOCK_ASK_VERSION, _LANDLOCK_RULE_PATH_BENEATH = 1, 1
_CAPSET = {"x86_64": 126, "aarch64": 91}
_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]
_libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4


def _checked(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def _number(table: dict[str, int]) -> int:
    machine = platform.machine()
    if machine not in table:
        raise OSError(f"no reviewed system-call numbers for {machine}")
    return table[machine]


def _syscall(number: int, *arguments: ctypes.c_long | ctypes.c_char_p | ctypes.Array[ctypes.c_char]) -> int:
    return int(_libc.syscall(ctypes.c_long(number), *arguments))


def unshare(flags: int) -> None:
    """Leave the namespaces named by the CLONE_NEW* flags for new ones."""
    _checked(_libc.unshare(flags), "unshare")


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """mount(2)."""
    encoded = [text.encode() if text is not None else None for text in (source, target, kind, data)]
    _checked(_libc.mount(encoded[0], encoded[1], encoded[2], flags, encoded[3]), f"mount on {target}")


def detach(target: str) -> None:
    """umount2(2) with MNT_DETACH."""
    _checked(_libc.umount2(target.encode(), MNT_DETACH), f"detach {target}")


def pivot_root(new: str, old: str) -> None:
    """pivot_root(2)."""
    call = _number(_PIVOT_ROOT)
    _checked(_syscall(call, ctypes.c_char_p(new.encode()), ctypes.c_char_p(old.encode())), "pivot_root")


def set_hostname(name: str) -> None:
    """sethostname(2)."""
    _checked(_libc.sethostname(name.encode(), len(name.encode())), "sethostname")


def prctl(option: int, value: int = 0) -> None:
    """prctl(2) with one argument."""
    _checked(_libc.prctl(option, value, 0, 0, 0), f"prctl {option}")


def drop_capabilities() -> None:
    """Empty the bounding, ambient, effective, permitted and inheritable sets."""
    for capability in range(LAST_CAPABILITY + 1):
        _libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)  # EINVAL past the last one; checked by read-back below
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    header = ctypes.create_string_buffer(_CAPABILITY_VERSION_3.to_bytes(4, "little") + (0).to_bytes(4, "little"), 8)
    empty = ctypes.create_string_buffer(24)
    _checked(_syscall(_number(_CAPSET), header, empty), "capset")


def close_from(first: int) -> None:
    """Close every descriptor from `first` on."""
    arguments = (ctypes.c_long(first), ctypes.c_long(0x7FFFFFFF), ctypes.c_long(0))
    _checked(_syscall(_CLOSE_RANGE, *arguments), "close_range")


class _FilterProgram(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def load_filter(program: bytes) -> None:
    """seccomp(2), SET_MODE_FILTER, for all threads: 8-byte BPF instructions, final for this process."""
    buffer = ctypes.create_string_buffer(program, len(program))
    header = _FilterProgram(len(program) // 8, ctypes.addressof(buffer))
    mode, flags = ctypes.c_long(_SECCOMP_SET_MODE_FILTER), ctypes.c_long(_SECCOMP_FILTER_FLAG_TSYNC)
    result = _libc.syscall(ctypes.c_long(_number(_SECCOMP)), mode, flags, ctypes.byref(header))
    _checked(int(result), "seccomp")
    if result:  # TSYNC names a thread that could not be brought along
        raise OSError("seccomp: a thread stays outside")


def landlock_abi() -> int:
    """The kernel's Landlock ABI.

    Raises:
        OSError: the kernel has none, or it is switched off.
    """
    result = _syscall(_LANDLOCK_CREATE, ctypes.c_long(0), ctypes.c_long(0), ctypes.c_long(_LANDLOCK_ASK_VERSION))
    return _checked(result, "landlock")


def landlock_ruleset(attributes: bytes) -> int:
    """landlock_create_ruleset(2): a descriptor of a ruleset."""
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    result = _syscall(_LANDLOCK_CREATE, buffer, ctypes.c_long(len(attributes)), ctypes.c_long(0))
    return _checked(result, "landlock_create_ruleset")


def landlock_allow(ruleset: int, rule: bytes) -> None:
    """landlock_add_rule(2) for a path."""
    buffer = ctypes.create_string_buffer(rule, len(rule))
    kind = ctypes.c_long(_LANDLOCK_RULE_PATH_BENEATH)
    result = _syscall(_LANDLOCK_ADD, ctypes.c_long(ruleset), kind, buffer, ctypes.c_long(0))
    _checked(result, "landlock_add_rule")


def landlock_restrict(ruleset: int) -> None:
    """landlock_restrict_self(2)."""
    _checked(_syscall(_LANDLOCK_RESTRICT, ctypes.c_long(ruleset), ctypes.c_long(0)), "landlock_restrict_self")
