"""Escape attempts from inside the jail: each is tried for real and must be blocked. Run before any job may run."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from enclave_runner.kinds.tasks import Probe, ProbeReport

CLONE_NEWUSER = 0x10000000
libc = ctypes.CDLL(None, use_errno=True)


def run(task: Probe, descriptors: list[int]) -> ProbeReport:
    """Which attempts went through; empty when the jail holds. `canary` is a host file that must not be seen."""
    attempts: dict[str, Callable[[], object]] = {
        "read-host-file": lambda: Path(task.canary).read_bytes(),
        "list-host-root": lambda: _must(len(os.listdir("/")) > 3),
        "read-passwd": lambda: Path("/etc/passwd").read_bytes(),
        "host-root-through-proc": lambda: Path(f"/proc/1/root{task.canary}").read_bytes(),
        "write-root": lambda: Path("/planted").write_bytes(b"x"),
        "write-proc-sys": lambda: Path("/proc/sys/kernel/core_pattern").write_text("|/bin/false"),
        "tcp-loopback": lambda: socket.create_connection(("127.0.0.1", task.port), 0.5),
        "udp-send": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.1", 53)),
        "host-abstract-socket": lambda: socket.socket(socket.AF_UNIX).connect("\0" + task.abstract_name),
        "see-host-processes": lambda: _must(len([name for name in os.listdir("/proc") if name.isdigit()]) > 1),
        "signal-host": lambda: os.kill(task.host_pid, 0),
        "become-root": lambda: os.setuid(0),
        "mount": lambda: _must(libc.mount(b"none", b"/scratch", b"tmpfs", 0, None) == 0),
        "nested-user-namespace": lambda: _must(libc.unshare(CLONE_NEWUSER) == 0),
        "run-program": lambda: subprocess.run([sys.executable, "-c", ""], check=True),
        "leaked-descriptor": lambda: _must(_open_descriptors() > 3 + 2 + len(descriptors)),
        "environment-secret": lambda: _must("YUNEI_CANARY" in os.environ or task.secret.encode() in _environ()),
        "core-dump": lambda: _must(_limit("Max core file size") != b"0"),
    }
    return ProbeReport(attempts=tuple(attempts), allowed=tuple(name for name, try_ in attempts.items() if _works(try_)))


def _works(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except Exception:
        return False
    return True


def _must(condition: bool) -> None:
    if not condition:
        raise PermissionError("blocked")


def _open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) - 1  # the listing itself is open


def _environ() -> bytes:
    return Path("/proc/self/environ").read_bytes()


def _limit(name: str) -> bytes:
    for line in Path("/proc/self/limits").read_bytes().splitlines():
        if line.startswith(name.encode()):
            return line[26:].split()[0]
    return b""
