"""The way to the enclave: its socket, and its process when it is started from here."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from enclave_runner.contract.errors import Failed
from enclave_runner.contract.wire import (
    SOCKET_NAME,
    USERS_NAME,
    Hello,
    ImportData,
    OpenProduct,
    Reply,
    Request,
    RunJob,
    receive_reply,
    send,
)
from sandbox.settings import Home

START_SECONDS = 60.0
STOP_SECONDS = 2.0
# The enclave bounds jobs and imports itself; these only keep a caller from waiting on a dead host for ever.
PATIENCE_SECONDS, JOB_PATIENCE_SECONDS, IMPORT_PATIENCE_SECONDS = 60.0, 600.0, 7200.0


class EnclaveDoor(Protocol):
    """Anything that carries a request to an enclave and its reply back."""

    def call(self, request: Request, descriptor: int | None = None) -> Reply:
        """One request, at most one open file beside it.

        Raises:
            Refused, Failed: as the enclave says; Failed(`enclave.absent`) when nobody listens.
        """
        ...


@dataclass(frozen=True)
class SocketDoor:
    """The unix socket in the enclave's folder."""

    folder: Path

    def call(self, request: Request, descriptor: int | None = None) -> Reply:
        """One request over a connection of its own.

        Raises:
            Refused, Failed: as the enclave says; Failed(`enclave.absent`) when nobody listens, Failed(`enclave.lost`)
                when the connection broke: then only `FetchSettlement` tells how a job ended.
        """
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_patience(request))
            self._connect(connection)
            try:
                send(connection, request, descriptor)
                return receive_reply(connection)
            except OSError:
                raise Failed("enclave.lost") from None

    def _connect(self, connection: socket.socket) -> None:
        """By way of /proc/self/fd, so that the length of the folder's path does not matter."""
        try:
            folder = os.open(self.folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                connection.connect(f"/proc/self/fd/{folder}/{SOCKET_NAME}")
            finally:
                os.close(folder)
        except OSError:
            raise Failed("enclave.absent") from None


@dataclass(frozen=True)
class EnclaveProcess:
    """An enclave that answers. `process` is None when it was running already."""

    door: SocketDoor
    process: subprocess.Popen[bytes] | None


@contextmanager
def start_enclave(home: Home) -> Iterator[EnclaveProcess]:
    """An answering enclave for that deployment: the one that runs, or a new one.

    Whoever uses it holds a lock; the enclave ends by itself when nobody does. So no command ends another one's job, and
    none that is killed leaves an enclave behind.

    Raises:
        Failed: the code with which the enclave gave up, or `enclave.absent`.
    """
    door = SocketDoor(home.enclave)
    process = None
    try:
        with _users_lock(home):
            if not _answers(door):
                with tempfile.TemporaryFile() as errors:
                    process = _spawn_until_it_answers(home, door, errors)
            yield EnclaveProcess(door, process)
    finally:
        if process is not None:
            _let_go(process)


@contextmanager
def _users_lock(home: Home) -> Iterator[None]:
    """Held while the enclave is used. Waits for one that is about to end."""
    try:
        descriptor = os.open(home.enclave / USERS_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        yield  # no enclave's home: starting it will say so
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def _let_go(process: subprocess.Popen[bytes]) -> None:
    """Wait for an enclave that nobody uses any more; one that others use goes on without us."""
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.returncode = 0  # no longer ours to wait for


def _spawn_until_it_answers(home: Home, door: SocketDoor, errors: IO[bytes]) -> subprocess.Popen[bytes] | None:
    deadline = time.monotonic() + START_SECONDS
    process: subprocess.Popen[bytes] | None = _spawn(home, errors)
    while time.monotonic() < deadline:
        if _answers(door):
            return process
        if process is not None and process.poll() is not None:
            code = _last_words(errors)
            if code != "home.busy":
                raise Failed(code)
            process = None  # another one starts in this home at this moment: wait for it
        time.sleep(0.02)
    _stop(process)
    raise Failed("enclave.absent")


def _spawn(home: Home, errors: IO[bytes]) -> subprocess.Popen[bytes]:
    # -P: a module in the current folder is no module of the enclave.
    command = [sys.executable, "-P", "-m", "enclave_runner", "serve", "--while-used", "--home", str(home.enclave)]
    # A session of its own: Ctrl-C at the terminal reaches the caller, which then ends the enclave in good order.
    return subprocess.Popen(  # noqa: S603 - our own program, no shell
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True
    )


def _stop(process: subprocess.Popen[bytes] | None) -> None:
    if process is None:
        return
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _patience(request: Request) -> float:
    match request:
        case ImportData() | OpenProduct():
            return IMPORT_PATIENCE_SECONDS
        case RunJob():
            return JOB_PATIENCE_SECONDS
        case _:
            return PATIENCE_SECONDS


def _answers(door: SocketDoor) -> bool:
    try:
        door.call(Hello())
    except Failed:
        return False
    return True


def _last_words(errors: IO[bytes]) -> str:
    """The code that the enclave printed when it gave up; what may follow a colon is for the engineers."""
    errors.seek(0)
    lines = errors.read().decode(errors="replace").strip().splitlines()
    start = "yunei enclave: "
    said = lines[-1] if lines and lines[-1].startswith(start) else start + "enclave.absent"
    return said.removeprefix(start).partition(":")[0]
