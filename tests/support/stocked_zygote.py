"""A zygote whose jobs tell about themselves: for the stock of waiting workers and for the watch over their memory."""

from __future__ import annotations

import json
import mmap
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from enclave_runner.jail.confine import ENVIRONMENT
from enclave_runner.jail.launcher import Zygote
from enclave_runner.jail.zygote import serve

PAGE = 4096
STARTED = time.monotonic_ns()
READIED: list[int] = []


def ready() -> None:
    """What comes before the task: remember when."""
    READIED.append(time.monotonic_ns())


def work(data: bytes, descriptors: list[int]) -> bytes:
    """`age`: how long ago this worker got ready, in ms. `map`: touch all of the handed file, shared. `note`: leave a
    trace for whoever comes next, and tell what is there."""
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
    return data


class StockedZygote(Zygote):
    """The real launcher in front of this program."""

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__)), str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env=dict(ENVIRONMENT),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
        )
        theirs.close()
        self._orders = ours


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])), work, ready)
