"""A zygote whose jobs tell about themselves: for the stock of waiting workers and for the watch over their memory."""

from __future__ import annotations

import ctypes
import fcntl
import json
import mmap
import os
import socket
import sys
import time
from pathlib import Path

from enclave_runner.jail import confine
from enclave_runner.jail.launcher import Zygote
from enclave_runner.jail.zygote import serve

PAGE = 4096
WHISPERED, WHISPERED_NAME = 77_123_456, b"canary-row"
READIED: list[int] = []


def ready() -> None:
    """What comes before the task: remember when."""
    READIED.append(time.monotonic_ns())


def work(data: bytes, descriptors: list[int]) -> bytes:
    """`age`: how long ago this worker got ready, in ms. `map`: touch all of the handed file, shared. `note`: leave a
    trace for whoever comes next, and tell what is there. `whisper`: tell the host by locks and a thread's name."""
    match data:
        case b"age":
            return json.dumps([len(READIED), (time.monotonic_ns() - READIED[0]) / 1e6]).encode()
        case b"map":
            size = os.fstat(descriptors[0]).st_size
            with mmap.mmap(descriptors[0], size) as memory:
                for place in range(0, size, PAGE):
                    memory[place] = 1
                time.sleep(30)
            return b"unwatched"
        case b"note":
            seen = [path.name for path in Path("/scratch").iterdir()]
            Path("/scratch/note").write_bytes(b"x")
            os.environ["NOTE"] = "x"
            READIED.append(0)
            return json.dumps([seen, len(READIED), sorted(os.environ)]).encode()
        case b"whisper":
            with Path("/dev/null").open("r+b") as null:
                fcntl.lockf(null, fcntl.LOCK_EX, WHISPERED, WHISPERED)
                ctypes.CDLL(None).prctl(15, WHISPERED_NAME, 0, 0, 0)
                os.pwrite(descriptors[0], b"said", 0)
                time.sleep(30)
    return data


class StockedZygote(Zygote):
    """The real launcher in front of this program; `open` leaves the call filter out, for controls."""

    def __init__(self, mode: str = "") -> None:
        self._mode = mode
        super().__init__()

    def _command(self, orders: int) -> list[str]:
        return [sys.executable, str(Path(__file__)), str(orders), self._mode]


if __name__ == "__main__":
    if sys.argv[2] == "open":
        confine.filter_calls = confine.read_back = lambda profile: None
    serve(socket.socket(fileno=int(sys.argv[1])), work, ready)
