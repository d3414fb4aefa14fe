"""The zygote: holds the libraries, never a key, a row or a network; forks one jailed worker per order.

Protocol on its socket (SOCK_SEQPACKET): an order is the encoded profile with descriptors [result, status, task, data
…];
the answer is a pidfd of the worker's outer process. The worker writes one byte `J` on the status pipe when it stands in
the jail, before anything of the job runs; the outer process adds one byte for how the worker ended.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
from collections.abc import Callable

from enclave_runner.contract.codec import decode
from enclave_runner.jail import confine, syscalls
from enclave_runner.jail.profile import JailProfile

Work = Callable[[bytes, list[int]], bytes]

JAILED, UNJAILED = b"J", b"X"
DONE, BROKEN, LIMIT = b"0", b"1", b"2"
MAX_DESCRIPTORS = 16
RESULT, STATUS, TASK, FIRST_DATA = 3, 4, 5, 6


def serve(orders: socket.socket, work: Work) -> None:
    """Fork a worker for each order until the supervisor hangs up. Single-threaded: fork copies no lock in use."""
    supervisor = os.getppid()
    confine.die_with_parent(supervisor)
    gc.freeze()  # worker pages stay shared until written
    while True:
        message, descriptors, _, _ = socket.recv_fds(orders, 1 << 16, MAX_DESCRIPTORS)
        if not message:
            return
        zygote = os.getpid()
        child = os.fork()
        if child == 0:
            _outer(decode(message, JailProfile), descriptors, work, zygote)
        pidfd = os.pidfd_open(child)
        socket.send_fds(orders, [b"."], [pidfd])
        for descriptor in [pidfd, *descriptors]:
            os.close(descriptor)
        _reap()


def _reap() -> None:
    """Bury workers that have ended. Not left to the kernel: a child that is gone at once would have no pidfd."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _outer(profile: JailProfile, descriptors: list[int], work: Work, zygote: int) -> None:
    """The half that stays outside the pid namespace: jails, forks pid 1, waits, tells how it ended. Never returns."""
    try:
        os.setsid()
        confine.die_with_parent(zygote)
        confine.take_descriptors(descriptors)
        confine.drop_identity(zygote)
        confine.enter_namespaces(profile)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # no end of ours before we can end the worker
        inner = os.fork()
        if inner == 0:
            _inner(profile, work)
        _hold(inner, zygote)
        os.close(RESULT)
        _, status = os.waitpid(inner, 0)
        os.write(STATUS, _how_it_ended(status))
    except BaseException:
        os.write(STATUS, UNJAILED)
    finally:
        os._exit(0)


def _hold(inner: int, zygote: int) -> None:
    """From now on SIGTERM, from the launcher or at the zygote's death, kills the worker.

    The worker's own death signal would not do: hostile code can take it off.
    """
    signal.signal(signal.SIGTERM, lambda number, frame: os.kill(inner, signal.SIGKILL))
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != zygote:
        os.kill(inner, signal.SIGKILL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _inner(profile: JailProfile, work: Work) -> None:
    """Pid 1 of the namespace: finishes the jail, says so, runs the job. Never returns."""
    try:
        confine.die_with_parent(0)
        confine.build_root(profile)
        confine.set_environment()
        confine.set_limits(profile)
        confine.drop_privileges()
        confine.read_back()
        os.write(STATUS, JAILED)
        os.close(STATUS)
    except BaseException:
        os.write(STATUS, UNJAILED)
        os._exit(97)
    try:
        size = os.fstat(TASK).st_size
        answer = work(os.pread(TASK, size, 0), _data_descriptors())
        _write_all(RESULT, answer)
    except MemoryError:
        os._exit(96)
    except BaseException:  # the text of an exception may hold raw cells: it ends here
        os._exit(95)
    os._exit(0)


def _data_descriptors() -> list[int]:
    listed = {int(name) for name in os.listdir("/proc/self/fd")}
    return [number for number in sorted(listed) if number >= FIRST_DATA and _is_open(number)]


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _how_it_ended(status: int) -> bytes:
    if os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 96:
        return LIMIT
    return DONE if status == 0 else BROKEN
