"""Callers over HTTP, in a process of their own: each keeps one connection and asks again as soon as it is answered.

`python -m benchmarks.verification.load` reads an `Order` from standard input and writes a `Tally` to standard output.
"""

from __future__ import annotations

import base64
import secrets
import socket
import subprocess
import sys
import threading
import time
from itertools import count

from enclave_runner.contract.call import Asked, Call, PlainAsk
from enclave_runner.contract.codec import Value, decode, encode

PATIENCE_SECONDS = 30.0
PLACE = b"!" * 16


class Order(Value, frozen=True):
    """Who asks where, about whom, for how long. One subject is asked about after the other, from the n-th on."""

    host: str
    port: int
    path: str
    token: str
    version: str
    subjects: tuple[str, ...]
    first: int
    claim: str
    connections: int
    milliseconds: int


class Tally(Value, frozen=True):
    """How many were answered with 200, how many otherwise, and the microseconds of each answer, in rising order."""

    answered: int
    otherwise: int
    microseconds: tuple[int, ...]
    milliseconds: int

    @property
    def rate(self) -> float:
        """Answers each second."""
        return 1000 * self.answered / max(1, self.milliseconds)

    def centile(self, share: float) -> float:
        """Milliseconds within which that share was answered."""
        if not self.microseconds:
            return float("inf")
        return self.microseconds[min(len(self.microseconds) - 1, int(share * len(self.microseconds)))] / 1000


class Caller:
    """One connection. Requests are made beforehand but for the call's id, so that the callers cost little."""

    def __init__(self, order: Order, numbers: count[int]) -> None:
        self._order, self._numbers = order, numbers
        self._connection = socket.create_connection((order.host, order.port), PATIENCE_SECONDS)
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._left = b""
        self.answered, self.otherwise = 0, 0
        self.microseconds: list[int] = []

    def run(self, until: float) -> None:
        """Ask until then."""
        with self._connection:
            while (start := time.perf_counter()) < until:
                self._connection.sendall(self._request())
                if self._status() == 200:
                    self.answered += 1
                    self.microseconds.append(int(1e6 * (time.perf_counter() - start)))
                else:
                    self.otherwise += 1

    def _request(self) -> bytes:
        order = self._order
        subject = order.subjects[next(self._numbers) % len(order.subjects)]
        ask = PlainAsk(asked=(Asked(subject=subject, claim=order.claim),))
        call = Call(call_id=PLACE, salt=bytes(32), version=order.version, ask=ask)
        fresh = base64.b64encode(secrets.token_bytes(16))
        body = encode(call).replace(base64.b64encode(PLACE), fresh)
        head = (
            f"POST {order.path} HTTP/1.1\r\nHost: {order.host}:{order.port}\r\nAuthorization: Bearer {order.token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def _status(self) -> int:
        """Read one whole answer; its status."""
        while b"\r\n\r\n" not in self._left:
            self._left += self._more()
        head, _, rest = self._left.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next(int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:"))
        while len(rest) < length:
            rest += self._more()
        self._left = rest[length:]
        return int(lines[0].split()[1])

    def _more(self) -> bytes:
        part = self._connection.recv(1 << 16)
        if not part:
            raise ConnectionError("the server hung up")
        return part


def load(order: Order) -> Tally:
    """Have those callers ask at once; what they counted. In a process of its own: `ask_from_outside`."""
    numbers = count(order.first)
    callers = [Caller(order, numbers) for _ in range(order.connections)]
    start = time.perf_counter()
    until = start + order.milliseconds / 1000
    threads = [threading.Thread(target=caller.run, args=(until,)) for caller in callers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Tally(
        answered=sum(caller.answered for caller in callers),
        otherwise=sum(caller.otherwise for caller in callers),
        microseconds=tuple(sorted(each for caller in callers for each in caller.microseconds)),
        milliseconds=int(1000 * (time.perf_counter() - start)),
    )


def ask_from_outside(order: Order) -> Tally:
    """The same, from another process: what the callers cost is not the server's."""
    line = [sys.executable, "-m", "benchmarks.verification.load"]
    done = subprocess.run(line, input=encode(order), capture_output=True, check=True)
    return decode(done.stdout, Tally)


if __name__ == "__main__":
    sys.stdout.buffer.write(encode(load(decode(sys.stdin.buffer.read(), Order))))
