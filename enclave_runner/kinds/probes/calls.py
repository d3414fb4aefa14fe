"""System calls that no job needs: each must end in the filter, before the kernel looks at its arguments.

The arguments are harmless: where the filter is missing, the host stays as it is.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
from collections.abc import Callable

from enclave_runner.kinds.probes.attempt import Argument, Attempt, call
from enclave_runner.kinds.tasks import Probe

REFUSED = (errno.EPERM,)
NEW_USER, NEW_NET = 0x10000000, 0x40000000
TIOCSTI, PR_SET_DUMPABLE, PTRACE_TRACEME = 0x5412, 4, 0


def _asks(name: str, *arguments: Argument) -> Callable[[Probe], object]:
    return lambda probe: call(name, *arguments)


def _fork(probe: Probe) -> None:
    if call("clone", int(signal.SIGCHLD), 0, 0, 0, 0) == 0:
        os._exit(0)


def _fork_by_structure(probe: Probe) -> None:
    """clone3: its flags are in memory, where no filter can see them."""
    wanted = ctypes.create_string_buffer(bytes(32) + int(signal.SIGCHLD).to_bytes(8, "little") + bytes(24), 64)
    if call("clone3", wanted, 64) == 0:
        os._exit(0)


def _run_program(probe: Probe) -> None:
    call("execve", b"/nonexistent", None, None)


def _signal_host(probe: Probe) -> None:
    call("kill", probe.host_pid, 0)


CALLS = (
    Attempt("fork", "seccomp", _fork, REFUSED),
    Attempt("fork-by-structure", "seccomp", _fork_by_structure, (errno.ENOSYS,)),
    Attempt("run-program", "seccomp", _run_program, REFUSED),
    Attempt("signal-host", "seccomp", _signal_host, REFUSED),
    Attempt("anonymous-program", "seccomp", _asks("memfd_create", b"x", 0), REFUSED),
    Attempt("nested-user-namespace", "seccomp", _asks("unshare", NEW_USER), REFUSED),
    Attempt("nested-network", "seccomp", _asks("unshare", NEW_NET), REFUSED),
    Attempt("enter-namespace", "seccomp", _asks("setns", 0, 0), REFUSED),
    Attempt("mount", "seccomp", _asks("mount", b"none", b"/scratch", b"tmpfs", 0, None), REFUSED),
    Attempt("mount-tree", "seccomp", _asks("open_tree", -100, b"/scratch", 1), REFUSED),
    Attempt("change-root", "seccomp", _asks("chroot", b"/scratch"), REFUSED),
    Attempt("trace", "seccomp", _asks("ptrace", PTRACE_TRACEME, 0, 0, 0), REFUSED),
    Attempt("read-other-memory", "seccomp", _asks("process_vm_readv", 1, None, 0, None, 0, 0), REFUSED),
    Attempt("process-handle", "seccomp", lambda probe: call("pidfd_open", os.getpid(), 0), REFUSED),
    Attempt("kernel-program", "seccomp", _asks("bpf", 0, None, 0), REFUSED),
    Attempt(
        "kernel-ring", "seccomp", lambda probe: call("io_uring_setup", 1, ctypes.create_string_buffer(120)), REFUSED
    ),
    Attempt("page-faults", "seccomp", _asks("userfaultfd", 1), REFUSED),
    Attempt("performance-counters", "seccomp", _asks("perf_event_open", None, 0, -1, -1, 0), REFUSED),
    Attempt("key-ring", "seccomp", _asks("keyctl", 0, -3, 0), REFUSED),
    Attempt("shared-segment", "seccomp", _asks("shmget", 0, 4096, 0o600), REFUSED),
    Attempt("personality", "seccomp", _asks("personality", 0xFFFFFFFF), REFUSED),
    Attempt("lock-memory", "seccomp", _asks("mlockall", 1), REFUSED),
    Attempt("become-traceable", "seccomp", _asks("prctl", PR_SET_DUMPABLE, 1, 0, 0, 0), REFUSED),
    Attempt("type-into-terminal", "seccomp", _asks("ioctl", 0, TIOCSTI, b"x"), REFUSED),
)
