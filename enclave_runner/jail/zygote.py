"""The zygote: holds the libraries, never a key, a row or a network; forks one-shot jailed workers and keeps some ready.

Protocol on its socket (SOCK_SEQPACKET): an order is an encoded `Order` with descriptors [task, data …]; the answer is
[pidfd of the worker's outer process, the read end of its result pipe, the read end of its status pipe]. A worker
writes one byte `J` on the status pipe when it stands in the jail, before anything of the job reaches it; the outer
process adds one byte for how the worker ended. `Keep` says how many workers of a profile wait ready in their jails; it
has no answer.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from enclave_runner.contract.codec import Value, decode
from enclave_runner.jail import cgroup, confine, syscalls
from enclave_runner.jail.profile import JailProfile

Work = Callable[[bytes, list[int]], bytes]
Ready = Callable[[], None]

JAILED, UNJAILED = b"J", b"X"
DONE, BROKEN, LIMIT = b"0", b"1", b"2"
NO_WORKER = b"!"
HEAD_BYTES = 8  # before an answer: its length
MAX_DESCRIPTORS = 128
RESULT, STATUS, TASK_DOOR, GATE = 3, 4, 5, 6
REST_SECONDS = 0.02  # a job that has just begun gets the processor before the next worker is made ready
WATCH_MS = 50
# What a worker shares with the zygote (code, libraries) counts as resident but is no memory of the job.
SHARED_MB = 512
PAGES_PER_MB = (1 << 20) // os.sysconf("SC_PAGE_SIZE")


class Order(Value, frozen=True, tag="order"):
    """Run the task in the descriptors beside this message."""

    profile: JailProfile


class Keep(Value, frozen=True, tag="keep"):
    """From now on, have `count` workers of this profile waiting."""

    profile: JailProfile
    count: int


@dataclass(frozen=True)
class Worker:
    """A worker in its jail, or on its way there. `door` takes its task; the rest is the supervisor's."""

    pidfd: int
    result: int
    status: int
    door: socket.socket

    @property
    def is_alive(self) -> bool:
        """Whether it still waits."""
        return not select.select([self.pidfd], [], [], 0)[0]

    def close(self) -> None:
        """Forget it; without a door it ends by itself."""
        self.door.close()
        for descriptor in (self.pidfd, self.result, self.status):
            os.close(descriptor)


class Stock:
    """The workers that wait, by profile."""

    def __init__(self, spawn: Callable[[JailProfile], Worker]) -> None:
        self._spawn = spawn
        self._wanted: dict[JailProfile, int] = {}
        self._waiting: dict[JailProfile, list[Worker]] = {}

    def keep(self, profile: JailProfile, count: int) -> None:
        """Change how many are wanted; they are made ready when there is time."""
        self._wanted[profile] = count
        self._waiting.setdefault(profile, [])

    def take(self, profile: JailProfile) -> Worker:
        """One that waits, or a new one."""
        waiting = self._waiting.get(profile, [])
        while waiting:
            worker = waiting.pop(0)
            if worker.is_alive:
                return worker
            worker.close()
        return self._spawn(profile)

    def is_short(self) -> bool:
        """Whether fewer wait than are wanted."""
        return any(len(self._waiting[profile]) < count for profile, count in self._wanted.items())

    def replenish(self) -> None:
        """Make one worker ready; when the host has nothing left for it, the next pause will do."""
        for profile, count in self._wanted.items():
            if len(self._waiting[profile]) < count:
                with contextlib.suppress(OSError):
                    self._waiting[profile].append(self._spawn(profile))
                return


def serve(orders: socket.socket, work: Work, ready: Ready = lambda: None) -> None:
    """Answer orders until the supervisor hangs up. Single-threaded: fork copies no lock in use.

    `ready` runs in a jailed worker before its task is there: what every task needs and no task decides.
    """
    confine.die_with_parent(os.getppid())
    gc.freeze()  # worker pages stay shared until written
    cgroup.sweep()
    groups = cgroup.WorkerGroups(cgroup.delegated())
    stock = Stock(lambda profile: _spawn(profile, work, ready, groups))
    while True:
        if not _is_told(orders, stock, groups):
            continue
        message, descriptors, _, _ = socket.recv_fds(orders, 1 << 16, MAX_DESCRIPTORS)
        if not message:
            return
        said = decode(message, Order | Keep)  # type: ignore[arg-type]
        if isinstance(said, Keep):
            stock.keep(said.profile, said.count)
            continue
        try:
            worker = stock.take(said.profile)
        except OSError:  # no process or descriptor left on this host: this job does not start, others go on
            _decline(orders, descriptors)
            continue
        with contextlib.suppress(OSError):  # it died on the way into its jail: its status pipe says so
            socket.send_fds(worker.door, [b"."], descriptors)
        socket.send_fds(orders, [b"."], [worker.pidfd, worker.result, worker.status])
        worker.close()
        for descriptor in descriptors:
            os.close(descriptor)
        _reap()


def _decline(orders: socket.socket, descriptors: list[int]) -> None:
    orders.send(NO_WORKER)
    for descriptor in descriptors:
        os.close(descriptor)


def _is_told(orders: socket.socket, stock: Stock, groups: cgroup.WorkerGroups) -> bool:
    """Wait for an order; meanwhile bury who has ended, and make the next worker ready. Whether an order is there."""
    is_busy = stock.is_short() or groups.is_late
    told = orders.fileno()
    moved = select.select([told, *groups.pidfds], [], [], REST_SECONDS if is_busy else None)[0]
    if moved != [told]:
        _reap()
        groups.remove_ended([pidfd for pidfd in moved if pidfd != told])
    if not moved and stock.is_short():
        stock.replenish()
    return told in moved


def _reap() -> None:
    """Bury workers that have ended. Not left to the kernel: a child that is gone at once would have no pidfd."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _spawn(profile: JailProfile, work: Work, ready: Ready, groups: cgroup.WorkerGroups) -> Worker:
    """A worker on its way into its jail.

    Raises:
        OSError: the host has no process or descriptor left; nothing stays open then.
    """
    with contextlib.ExitStack() as on_failure:
        result, result_end = _pipe(on_failure)
        status, status_end = _pipe(on_failure)
        door, door_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        zygote, group = os.getpid(), groups.fresh()
        child = os.fork()
        if child == 0:
            _outer(profile, [result_end, status_end, door_end.fileno()], work, ready, zygote, group)
        on_failure.callback(os.kill, child, signal.SIGKILL)
        worker = Worker(os.pidfd_open(child), result, status, door)
        groups.belongs_to(group, worker.pidfd)
        on_failure.pop_all()
    door_end.close()
    os.close(result_end)
    os.close(status_end)
    return worker


def _pipe(on_failure: contextlib.ExitStack) -> tuple[int, int]:
    ends = os.pipe()
    for end in ends:
        on_failure.callback(os.close, end)
    return ends


def _outer(
    profile: JailProfile, descriptors: list[int], work: Work, ready: Ready, zygote: int, group: cgroup.Group
) -> None:
    """The half that stays outside the pid namespace: jails, forks pid 1, watches, tells how it ended. Never returns."""
    status = descriptors[1]
    try:
        os.setsid()
        confine.die_with_parent(zygote)
        confine.take_descriptors(descriptors)
        status = STATUS
        Path("/proc/self/oom_score_adj").write_text("1000")  # the first to go when the host runs out of memory
        _, opener = os.pipe()  # the first of the two is GATE: all lower numbers are taken
        doors = group.make(profile)
        confine.drop_identity(zygote)
        confine.enter_namespaces(profile)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # no end of ours before we can end the worker
        inner = os.fork()
        if inner == 0:
            _inner(profile, work, ready)
        _hold(inner, zygote)
        cgroup.enter(doors, inner)
        os.write(opener, b".")
        os.close(RESULT)
        syscalls.close_from(TASK_DOOR)
        os.write(status, _watch(inner, profile))
    except BaseException:
        os.write(status, UNJAILED)
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


def _watch(inner: int, profile: JailProfile) -> bytes:
    """Wait for the worker's end; kill it when it holds more memory than any limit of the kernel's would stop."""
    ceiling = (profile.memory_mb + SHARED_MB) * PAGES_PER_MB
    ended = select.poll()
    pidfd = os.pidfd_open(inner)
    ended.register(pidfd, select.POLLIN)
    over = False
    while not ended.poll(WATCH_MS):
        if _resident_pages() > ceiling:
            over = True
            os.kill(inner, signal.SIGKILL)
    _, status = os.waitpid(inner, 0)
    return LIMIT if over else _how_it_ended(status)


def _resident_pages() -> int:
    """Of the worker. Both halves share the mounts, and so the worker's /proc, where it is the first process."""
    if not os.path.lexists(confine.EXTRACT_LOOP):
        return 0  # its root is not there yet, and the first process is the host's
    return int(Path("/proc/1/statm").read_text().split()[1])


def _inner(profile: JailProfile, work: Work, ready: Ready) -> None:
    """Pid 1 of the namespace: finishes the jail, says so, waits for its task, runs it. Never returns."""
    try:
        confine.die_with_parent(0)
        syscalls.close_from(GATE + 1)  # the doors of its control group are for the other half alone
        door = socket.socket(fileno=TASK_DOOR)  # now: asking what kind of socket it is will be refused
        confine.build_root(profile)
        confine.set_environment()
        _await_group()
        confine.set_limits(profile)
        confine.drop_privileges()
        confine.check_root()
        confine.restrict_paths(profile)
        confine.filter_calls(profile)
        confine.read_back(profile)
        os.write(STATUS, JAILED)
        os.close(STATUS)
    except BaseException:
        os.write(STATUS, UNJAILED)
        os._exit(97)
    try:
        ready()
        task, *data = _await_task(door)
        answer = work(os.pread(task, os.fstat(task).st_size, 0), data)
        _write_all(RESULT, len(answer).to_bytes(HEAD_BYTES, "big") + answer)
    except MemoryError:
        os._exit(96)
    except BaseException:  # the text of an exception may hold raw cells: it ends here
        os._exit(95)
    os._exit(0)


def _await_group() -> None:
    """Go on only once the other half has put this one into its control group."""
    if not os.read(GATE, 1):
        raise PermissionError("not in its group")
    os.close(GATE)


def _await_task(door: socket.socket) -> list[int]:
    """The descriptors of the one task; the door is closed behind it."""
    with door:
        message, descriptors, _, _ = socket.recv_fds(door, 1, MAX_DESCRIPTORS)
    if not message:
        os._exit(0)  # never needed
    return descriptors


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _how_it_ended(status: int) -> bytes:
    if os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 96:
        return LIMIT
    return DONE if status == 0 else BROKEN
