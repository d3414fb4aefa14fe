"""A serving zygote whose workers were taken over: the real launcher and jail, replies that no honest worker gives."""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path

from enclave_runner.jail.launcher import Zygote
from enclave_runner.jail.zygote import serve
from enclave_runner.private.asks import ANSWERED, BROKEN, LENGTH_BYTES, REFUSED

# What each says to every ask; those that do more than speak stand below.
SAID = {
    "no-state": b"Z" * 64,
    "unknown-rule": REFUSED + b"\xc8",
    "broken": BROKEN,
    "short": ANSWERED,
    "silent": b"",
    "ones": ANSWERED + b"\x01" * 65,
    "sevens": ANSWERED + b"\x07" * 65,
}


def work(data: bytes, descriptors: list[int]) -> bytes:
    """One worker that is asked, and says what its zygote's mode is."""
    connection, mode = descriptors[-1], sys.argv[2]
    if mode == "unasked":
        os.write(connection, b"hello")
    while _heard(connection):
        _say(connection, mode)
    return data


def _heard(connection: int) -> bool:
    head = os.read(connection, LENGTH_BYTES)
    left = int.from_bytes(head, "big")
    while left and head:
        left -= len(os.read(connection, left))
    return bool(head)


def _say(connection: int, mode: str) -> None:
    match mode:
        case "echo":
            os.write(connection, b"echo")
        case "exit":
            os._exit(0)
        case "eat":
            held = []
            while True:
                held.append(bytearray(16 << 20))
        case "hang-up":
            os.close(connection)
            time.sleep(3600)
        case "drip":
            while True:
                os.write(connection, ANSWERED)
                time.sleep(0.05)
        case "deaf":
            time.sleep(3600)
        case _:
            os.write(connection, SAID[mode])


class HostileServing(Zygote):
    """The real launcher in front of this program, in one of its modes."""

    def __init__(self, mode: str) -> None:
        self._mode = mode
        super().__init__()

    def _command(self, orders: int) -> list[str]:
        return [sys.executable, str(Path(__file__)), str(orders), self._mode]


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])), work)
