"""Servers below HTTP: one that says whatever bytes it is told, and a line to another server that breaks."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Conversation = Callable[[socket.socket], None]


def read_request(connection: socket.socket) -> bytes:
    """One request, by its declared length."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return data
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    while lengths and len(body) < int(lengths[0]):
        piece = connection.recv(65536)
        if not piece:
            break
        body += piece
    return head + b"\r\n\r\n" + body


@contextmanager
def raw_server(converse: Conversation) -> Iterator[str]:
    """The address of a server that holds that conversation with everybody who connects."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def attend(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(10)
            converse(connection)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=attend, args=(connection,), daemon=True)
            threads.append(thread)
            thread.start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for thread in (accepting, *threads):
            thread.join(10)


class BreakingLine:
    """Passes single requests on to `url`; of those that `breaks` names by their number it loses the answer."""

    def __init__(self, url: str, breaks: set[int]) -> None:
        host, port = url.removeprefix("http://").split(":")
        self._address = (host, int(port))
        self._breaks = breaks
        self.passed: list[bytes] = []

    def converse(self, connection: socket.socket) -> None:
        """One request, one answer or none."""
        request = read_request(connection)
        if not request:
            return
        number = len(self.passed)
        self.passed.append(request)
        with socket.create_connection(self._address, 10) as onward:
            onward.sendall(request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            answer = b""
            while piece := onward.recv(65536):
                answer += piece
        if number not in self._breaks:
            connection.sendall(answer)
