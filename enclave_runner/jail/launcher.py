"""The supervisor's side of the zygote: start it clean, order jobs, wait with a deadline, kill."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

from enclave_runner.contract.codec import encode
from enclave_runner.contract.errors import Failed
from enclave_runner.jail import cgroup
from enclave_runner.jail.confine import ENVIRONMENT
from enclave_runner.jail.profile import JailProfile
from enclave_runner.jail.zygote import HEAD_BYTES, JAILED, LIMIT, MAX_DESCRIPTORS, NO_WORKER, Keep, Order

MAX_RESULT_BYTES = 8 << 20
PARTING_SECONDS = 5.0
ORDER_SECONDS = 20.0
JOBS = "enclave_runner.kinds"
SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


class Zygote:
    """A running zygote of one program. `run` and `hold` may be called from several threads."""

    def __init__(self, program: str = JOBS) -> None:
        """`program` is the module that it runs: what its workers know is what that module has imported."""
        self._program = program
        self._lock, self._reviving = threading.Lock(), threading.Lock()
        self._kept: dict[JailProfile, int] = {}
        self._undertaker = ThreadPoolExecutor(1, "undertaker")
        self._start()

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Executed, not forked: none of the supervisor's memory, keys or descriptors is in the image.
        self._process = subprocess.Popen(
            self._command(theirs.fileno()),
            pass_fds=[theirs.fileno()],
            env=dict(ENVIRONMENT),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
        )
        theirs.close()
        ours.settimeout(ORDER_SECONDS)
        self._orders = ours

    def _command(self, orders: int) -> list[str]:
        """The zygote's program; by argument, since the environment is emptied."""
        return [sys.executable, "-I", "-m", self._program, str(orders)]

    def __enter__(self) -> Zygote:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the zygote; its workers die with it."""
        self._orders.close()
        self._process.kill()
        self._process.wait()
        self._undertaker.shutdown()
        cgroup.sweep()

    def revive(self, prove: Callable[[Zygote], object]) -> None:
        """Start a new zygote where the old one has died. Nobody can give it orders before `prove` has returned."""
        with self._reviving:
            if self.is_alive:
                return
            fresh = Zygote(self._program)
            try:
                prove(fresh)
            except BaseException:
                fresh.close()
                raise
            with self._lock:
                self._orders.close()
                self._undertaker.shutdown()
                self._process, self._orders, self._undertaker = fresh._process, fresh._orders, fresh._undertaker
            for profile, count in self._kept.items():
                self.keep_ready(profile, count)

    @property
    def is_alive(self) -> bool:
        """Whether orders can still be given."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """The zygote's process id on the host."""
        return self._process.pid

    def keep_ready(self, profile: JailProfile, count: int) -> None:
        """Have `count` workers of that profile wait in their jails, so that a job need not wait for its own.

        Raises:
            Failed: `jail.zygote-gone`.
        """
        self._kept[profile] = count
        with self._lock:
            try:
                self._orders.send(encode(Keep(profile=profile, count=count)))
            except OSError:
                raise Failed("jail.zygote-gone") from None

    def run(
        self, task: bytes, descriptors: list[int], profile: JailProfile, wall_seconds: float | None = None
    ) -> bytes:
        """Run one job in a jail of its own and return its raw answer, at most 8 MiB.

        The worker is killed as soon as its answer is complete; its end is not waited for.

        Args:
            descriptors: sealed memory and pipes; anything else the worker cannot open.
            wall_seconds: the deadline, where it is not the profile's.

        Raises:
            Failed: `jail.absent` when the jail could not be built (nothing ran), `job.limit` when a limit ended it,
                `job.deadline` when the wall clock did, `job.broken` for everything else. None carries text of the job.
        """
        with MemoryFile(task) as task_file:
            try:
                pidfd, result, status = self._order(profile, [task_file.descriptor, *descriptors])
            except (OSError, ValueError):
                raise Failed("jail.zygote-gone") from None
        try:
            answer = _await_answer(result, status, wall_seconds or profile.wall_seconds)
        except BaseException:
            _bury(pidfd)
            raise
        finally:
            os.close(result)
            os.close(status)
        self._undertaker.submit(_bury, pidfd)
        return answer

    def hold(self, task: bytes, descriptors: list[int], profile: JailProfile) -> Held:
        """Start a worker that lives until it is closed, in the same jail as a job of that profile.

        It finds its end of a connection (a stream socket) behind `descriptors`, and nothing else tells it anything. No
        clock ends it: whoever asks it something has to bring a deadline of its own.

        Raises:
            Failed: `jail.absent` when the jail could not be built (nothing ran), `jail.zygote-gone`.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(ours.close)
            with theirs, MemoryFile(task) as task_file:
                handed = [task_file.descriptor, *descriptors, theirs.fileno()]
                try:
                    pidfd, result, status = self._order(profile, handed)
                except (OSError, ValueError):
                    raise Failed("jail.zygote-gone") from None
            os.close(result)
            on_failure.callback(_bury, pidfd)
            with os.fdopen(status, "rb", buffering=0) as told:
                if _read_status(told.fileno(), time.monotonic() + ORDER_SECONDS, 1) != JAILED:
                    raise Failed("jail.absent")
            on_failure.pop_all()
        return Held(ours, pidfd)

    def _order(self, profile: JailProfile, descriptors: list[int]) -> list[int]:
        if len(descriptors) > MAX_DESCRIPTORS:
            raise Failed("jail.descriptors")
        with self._lock:
            try:
                socket.send_fds(self._orders, [encode(Order(profile=profile))], descriptors)
                said, received, _, _ = socket.recv_fds(self._orders, 1, 3)
            except TimeoutError:
                self._process.kill()  # whatever it says later would be taken for the answer to another order
                raise
        if said == NO_WORKER:
            raise Failed("jail.absent")
        if len(received) != 3:
            # It hung up, or this process has no descriptor left and a worker is on its way that nobody would end.
            self._process.kill()
            for descriptor in received:
                os.close(descriptor)
            raise OSError("no whole answer")
        return received


class Held:
    """A worker that `Zygote.hold` started, and our end of the connection to it."""

    def __init__(self, connection: socket.socket, pidfd: int) -> None:
        self.connection = connection
        self._pidfd = pidfd
        self._closing = threading.Lock()
        self._is_closed = False

    @property
    def is_alive(self) -> bool:
        """Whether it has neither ended nor been closed."""
        with self._closing:
            return not self._is_closed and not select.select([self._pidfd], [], [], 0)[0]

    def close(self) -> None:
        """End it, and wait for its end. Again: nothing happens."""
        with self._closing:
            if self._is_closed:
                return
            self._is_closed = True
            self.connection.close()
            _bury(self._pidfd)


class MemoryFile:
    """A sealed memfd: fixed content, no name, gone with its last descriptor."""

    def __init__(self, content: bytes) -> None:
        self.descriptor = os.memfd_create("sealed", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        with os.fdopen(os.dup(self.descriptor), "wb") as file:
            file.write(content)
        seal_memory(self.descriptor)

    def __enter__(self) -> MemoryFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.descriptor)


def seal_memory(descriptor: int) -> None:
    """Fix the content of a memfd for good: no holder of the descriptor, and no one who reopens it, may change it."""
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALS)


def _await_answer(result: int, status: int, wall_seconds: float) -> bytes:
    """The one frame of an answer: its length in eight bytes, and that many bytes."""
    deadline = time.monotonic() + wall_seconds
    said = bytearray()
    while len(said) < HEAD_BYTES or len(said) < HEAD_BYTES + int.from_bytes(said[:HEAD_BYTES], "big"):
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([result], [], [], left)[0]:
            raise Failed("job.deadline")
        part = os.read(result, 1 << 16)
        if not part:
            raise _no_answer(_read_status(status, deadline, 2))
        said += part
        if len(said) > HEAD_BYTES + MAX_RESULT_BYTES:
            raise Failed("job.limit")
    if _read_status(status, deadline, 1) != JAILED:
        raise Failed("jail.absent")
    return bytes(said[HEAD_BYTES : HEAD_BYTES + int.from_bytes(said[:HEAD_BYTES], "big")])


def _no_answer(said: bytes) -> Failed:
    if said[:1] != JAILED:
        return Failed("jail.absent")
    ending = said[1:2]
    if ending == LIMIT:
        return Failed("job.limit")
    return Failed("job.broken" if ending else "job.killed")


def _read_status(status: int, deadline: float, count: int) -> bytes:
    said = bytearray()
    while len(said) < count:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([status], [], [], left)[0]:
            raise Failed("job.deadline")
        part = os.read(status, count - len(said))
        if not part:
            break
        said += part
    return bytes(said)


def _bury(pidfd: int) -> None:
    """End a job: its outer process is asked to kill the worker and follows it; forced when it does not."""
    try:
        for number in (signal.SIGTERM, signal.SIGKILL):
            signal.pidfd_send_signal(pidfd, number)
            if select.select([pidfd], [], [], PARTING_SECONDS)[0]:
                return
    except ProcessLookupError:
        return
    finally:
        os.close(pidfd)
