"""Which system calls a worker may make: an allow-list in classic BPF, assembled here and loaded last.

Everything that is not on the list fails with EPERM, so that libraries fall back; a call through a foreign gate (32-bit,
x32) kills the process, since its numbers mean other calls. The list was taken from traces of every kind of job and then
read by hand; what is absent is absent on purpose: no program is started, no process made or signalled, no socket, no
anonymous file, no mount, namespace, key, trace, BPF program or ring, no change of mode, owner, link or limit.

Source: seccomp(2), Linux 5.13 and later; numbers from arch/x86/entry/syscalls/syscall_64.tbl.
"""

from __future__ import annotations

import errno
import platform
import struct
from collections.abc import Sequence

from enclave_runner.contract.codec import digest

# fmt: off
PLAIN = {
    "read": 0, "write": 1, "close": 3, "stat": 4, "fstat": 5, "lstat": 6, "poll": 7, "lseek": 8, "munmap": 11,
    "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "pread64": 17, "pwrite64": 18,
    "readv": 19, "writev": 20, "access": 21, "sched_yield": 24, "mremap": 25, "madvise": 28, "dup": 32,
    "nanosleep": 35, "getpid": 39, "sendfile": 40, "recvmsg": 47, "exit": 60, "uname": 63, "fsync": 74,
    "fdatasync": 75, "ftruncate": 77, "getcwd": 79, "rename": 82, "mkdir": 83, "rmdir": 84, "unlink": 87,
    "readlink": 89, "gettimeofday": 96, "getrusage": 98, "getuid": 102, "getgid": 104, "geteuid": 107,
    "getegid": 108, "getppid": 110, "sigaltstack": 131, "gettid": 186, "futex": 202, "sched_getaffinity": 204,
    "getdents64": 217, "set_tid_address": 218, "restart_syscall": 219, "clock_gettime": 228, "clock_getres": 229,
    "clock_nanosleep": 230, "exit_group": 231, "openat": 257, "newfstatat": 262, "unlinkat": 263, "readlinkat": 267,
    "set_robust_list": 273, "fallocate": 285, "preadv": 295, "pwritev": 296, "getcpu": 309, "getrandom": 318,
    "membarrier": 324, "statx": 332, "rseq": 334, "faccessat2": 439,
}
# fmt: on
MMAP, MPROTECT, IOCTL, CLONE, FCNTL, PRCTL, TGKILL, PRLIMIT64, CLONE3 = 9, 10, 16, 56, 72, 157, 234, 302, 435

LOAD, JUMP, JEQ, JGE, JSET, AND, RET = 0x20, 0x05, 0x15, 0x35, 0x45, 0x54, 0x06  # classic BPF operations
KILL, ERRNO, ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
X86_64, X32_BIT = 0xC000003E, 0x40000000

CLONE_THREAD, CLONE_NEW_ANY = 0x10000, 0x7E020000  # the second: every CLONE_NEW* flag that clone() takes
SHARED_ANONYMOUS, GROWS_DOWN, PROT_EXEC = 0x21, 0x100, 4
TERMINAL_CALLS = (0x5401, 0x541B, 0x5451)  # TCGETS, FIONREAD, FIOCLEX: no TIOCSTI
# Names of threads, which every local user can read: PR_SET_NAME is told that it was done, PR_GET_NAME is done.
SET_NAME, GET_NAME = 15, 16
# Duplicate, descriptor and status flags, F_DUPFD_CLOEXEC, F_GET_SEALS: no F_SETOWN, F_SETSIG, F_NOTIFY.
FILE_CALLS = (0, 1, 2, 3, 4, 1030, 1034)
# Record locks (F_GETLK, F_SETLK, F_SETLKW) can be read by others, on /dev/null and in /proc/locks, and are memory of
# the kernel that no limit counts. DuckDB gives up without them: it is told that they are set, and nothing is.
LOCK_CALLS = (5, 6, 7)
WORKER_PID = 1  # a worker is always the first process of its pid namespace

Instruction = tuple[int, int, int, int]  # operation, jump if true, jump if false, operand
DENY: Instruction = (RET, 0, 0, ERRNO | errno.EPERM)
PERMIT: Instruction = (RET, 0, 0, ALLOW)
PRETEND: Instruction = (RET, 0, 0, ERRNO)  # errno 0: the call returns as if it had been made


def program() -> list[Instruction]:
    """The filter: foreign gates, the calls that are looked into, the plain ones, and then no."""
    instructions: list[Instruction] = [
        (LOAD, 0, 0, ARCHITECTURE),
        (JEQ, 1, 0, X86_64),
        (RET, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER),
        (JGE, 0, 1, X32_BIT),
        (RET, 0, 0, KILL),
    ]
    for number, body in _guards().items():
        instructions += [(JEQ, 0, len(body), number), *body]
    for number in sorted(PLAIN.values()):
        instructions += [(JEQ, 0, 1, number), PERMIT]
    return [*instructions, DENY]


def _guards() -> dict[int, list[Instruction]]:
    """Calls that are allowed for some arguments only. Each body returns on every path."""
    no_new_code: list[Instruction] = [(LOAD, 0, 0, _low(2)), (JSET, 0, 1, PROT_EXEC), DENY, PERMIT]
    return {
        # Its flags are in memory, where a filter cannot look: ENOSYS makes the C library fall back to clone.
        CLONE3: [(RET, 0, 0, ERRNO | errno.ENOSYS)],
        # A thread of this process, and no new namespace.
        CLONE: [(LOAD, 0, 0, _low(0)), (JSET, 0, 1, CLONE_THREAD), (JSET, 0, 1, CLONE_NEW_ANY), DENY, PERMIT],
        IOCTL: _one_of(1, TERMINAL_CALLS),
        FCNTL: _one_of(1, FILE_CALLS, LOCK_CALLS),
        PRCTL: _one_of(0, (GET_NAME,), (SET_NAME,)),
        TGKILL: _one_of(0, (WORKER_PID,)),
        # Reading a limit: the pointer to a new one is null in both of its halves.
        PRLIMIT64: [
            (LOAD, 0, 0, _low(2)),
            (JEQ, 0, 2, 0),
            (LOAD, 0, 0, _low(2) + 4),
            (JEQ, 1, 0, 0),
            DENY,
            PERMIT,
        ],
        # RLIMIT_DATA counts neither shared anonymous memory nor mappings that grow down like a stack.
        MMAP: [
            (LOAD, 0, 0, _low(3)),
            (JSET, 3, 0, GROWS_DOWN),
            (AND, 0, 0, SHARED_ANONYMOUS),
            (JEQ, 1, 0, SHARED_ANONYMOUS),
            (JUMP, 0, 0, 1),
            DENY,
            *no_new_code,
        ],
        # Write, then make executable, would run new machine code as surely as both at once.
        MPROTECT: no_new_code,
    }


def _low(argument: int) -> int:
    """Where the low 32 bits of an argument are; the high ones follow 4 bytes later."""
    return ARGUMENTS + 8 * argument


def _one_of(argument: int, values: Sequence[int], pretended: Sequence[int] = ()) -> list[Instruction]:
    """Permit some values of an argument, pretend for others, deny the rest."""
    tests: list[Instruction] = [(LOAD, 0, 0, _low(argument))]
    for verdict, listed in ((PERMIT, values), (PRETEND, pretended)):
        for value in listed:
            tests += [(JEQ, 0, 1, value), verdict]
    return [*tests, DENY]


def packed_program() -> bytes:
    """The filter as the kernel takes it.

    Raises:
        OSError: on a processor whose numbers nobody has reviewed.
    """
    if platform.machine() != "x86_64":
        raise OSError(f"no reviewed system-call filter for {platform.machine()}")
    return b"".join(struct.pack("HBBI", *instruction) for instruction in program())


def program_digest() -> str:
    """SHA-256 of the filter, as it stands in the jail's profile."""
    return digest(b"".join(struct.pack("HBBI", *instruction) for instruction in program()))
