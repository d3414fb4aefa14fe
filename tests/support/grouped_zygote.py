"""A zygote whose jobs hold memory where neither RLIMIT_DATA nor the watch sees it: for the control groups."""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path

from enclave_runner.jail import cgroup
from enclave_runner.jail.launcher import Zygote
from enclave_runner.jail.zygote import serve

BLOCK = bytes(1 << 20)


def work(data: bytes, descriptors: list[int]) -> bytes:
    """`wait`: stay. `hoard <MiB>`: write as much into scratch and into each handed file; nothing of it is mapped."""
    match data.split():
        case [b"wait"]:
            time.sleep(60)
        case [b"hoard", amount]:
            scratch = os.open("/scratch/hoard", os.O_RDWR | os.O_CREAT, 0o600)
            for file in (scratch, *descriptors):
                for _ in range(int(amount)):
                    os.write(file, BLOCK)
    return data


class GroupedZygote(Zygote):
    """The real launcher in front of this program; with `is_grouped` off, on a host that delegates nothing."""

    def __init__(self, is_grouped: bool = True) -> None:
        self._mode = "grouped" if is_grouped else "alone"
        super().__init__()

    def _command(self, orders: int) -> list[str]:
        return [sys.executable, str(Path(__file__)), str(orders), self._mode]


if __name__ == "__main__":
    if sys.argv[2] == "alone":
        cgroup.delegated = lambda: cgroup.NOT_DELEGATED
    serve(socket.socket(fileno=int(sys.argv[1])), work)
