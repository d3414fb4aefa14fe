"""The enclave as a program of its own: started, asked over its socket, killed and started again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.wire import SOCKET_NAME, Hello, Identity, Reply, Request, receive_reply, send

ROOT = Path(__file__).parents[2]


def command(*arguments: str) -> list[str]:
    """The enclave's own command line."""
    return [sys.executable, "-m", "enclave_runner", *arguments]


@contextmanager
def connected(home: Path, timeout: float = 60.0) -> Iterator[socket.socket]:
    """A connection to the enclave of that home."""
    folder = os.open(home, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout)
            connection.connect(f"/proc/self/fd/{folder}/{SOCKET_NAME}")
            yield connection
    finally:
        os.close(folder)


def ask(home: Path, request: Request, descriptor: int | None = None) -> Reply:
    """One request, one reply."""
    with connected(home) as connection:
        send(connection, request, descriptor)
        return receive_reply(connection)


class EnclaveProcess:
    """`python -m enclave_runner serve` over a home; `wrapper` is a command that ends by executing it."""

    def __init__(self, home: Path, *options: str, wrapper: tuple[str, ...] = ()) -> None:
        self.home = home
        self._process = subprocess.Popen(
            [*wrapper, *command("serve", "--home", str(home), *options)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def wait_until_ready(self, seconds: float = 30.0) -> Identity:
        """Its identity, as soon as it answers."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                reply = ask(self.home, Hello())
            except (OSError, Failed, Refused):
                assert self._process.poll() is None, "the enclave ended"
                assert time.monotonic() < deadline, "the enclave never answered"
                time.sleep(0.02)
                continue
            assert isinstance(reply, Identity)
            return reply

    def kill(self) -> None:
        """kill -9: no chance to tidy up."""
        self.end(signal.SIGKILL)

    def end(self, number: int) -> tuple[int, bytes]:
        """Signal it and wait; its exit status and everything that it wrote."""
        self._process.send_signal(number)
        out, error = self._process.communicate(timeout=30)
        return self._process.returncode, out + error

    def ends_within(self, seconds: float) -> bool:
        """Whether it ends of itself, and well, in that time."""
        try:
            return self._process.wait(seconds) == 0
        except subprocess.TimeoutExpired:
            return False

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def __enter__(self) -> EnclaveProcess:
        return self

    def __exit__(self, *error: object) -> None:
        if self._process.poll() is None:
            self.kill()
        self._process.wait()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
