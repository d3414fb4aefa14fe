"""Attempts at the rest of the host: its processes, its network, its shared memory; and at privileges."""

# ruff: noqa: PTH110, PTH123
from __future__ import annotations

import ctypes
import os
import socket
from pathlib import Path

from tests.support.hostile_attempts import Attempt, Run, Targets, call, must, structure

REFUSED, ABSENT = ("EPERM",), ("ENOENT",)


def status(name: str, harmless: str) -> Run:
    """A field of the own status that is not what it is in the jail."""

    def run(targets: Targets) -> None:
        lines = Path("/proc/self/status").read_text().splitlines()
        (found,) = [line.split(":", 1)[1].strip() for line in lines if line.startswith(f"{name}:")]
        must(found != harmless)

    return run


def tcp(targets: Targets) -> None:
    """Connect to a port that listens on the host."""
    socket.create_connection(("127.0.0.1", targets.port), 2).close()


def udp(targets: Targets) -> None:
    """Send a packet."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.sendto(b"x", ("127.0.0.1", targets.port))


def listen(targets: Targets) -> None:
    """Wait for others."""
    socket.create_server(("127.0.0.1", 0)).close()


def abstract(targets: Targets) -> None:
    """A socket of the host that has no path."""
    with socket.socket(socket.AF_UNIX) as made:
        made.connect("\0" + targets.abstract)


def by_path(targets: Targets) -> None:
    """A socket of the host that has one."""
    with socket.socket(socket.AF_UNIX) as made:
        made.connect(targets.socket_path)


def name_lookup(targets: Targets) -> None:
    """Ask for a name; the answer stands in the host's own table."""
    socket.gethostbyname("localhost")


def interfaces(targets: Targets) -> None:
    """The host's network cards."""
    must(len(socket.if_nameindex()) > 0)


def environment(targets: Targets) -> None:
    """What a process was started with."""
    content = Path(f"/proc/{targets.neighbour}/environ").read_bytes()
    must(targets.secret.encode() in content)


def memory_file(targets: Targets) -> None:
    """All of its memory."""
    os.close(os.open(f"/proc/{targets.neighbour}/mem", os.O_RDWR))


def attach(targets: Targets) -> None:
    """Stop it and look inside."""
    call(101, 16, targets.neighbour, 0, 0)
    os.waitpid(targets.neighbour, 0)
    call(101, 17, targets.neighbour, 0, 0)


def read_memory(targets: Targets) -> None:
    """Ask the kernel for its memory; where it starts is not known, so its first page must be no answer but EFAULT."""
    here = ctypes.create_string_buffer(8)
    local = structure(16, base=(0, 8, ctypes.addressof(here)), size=(8, 8, 8))
    remote = structure(16, base=(0, 8, _first_address(targets.neighbour)), size=(8, 8, 8))
    call(310, targets.neighbour, local, 1, remote, 1, 0)


def _first_address(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/maps") as maps:
            return int(maps.readline().split("-")[0], 16)
    except OSError:
        return 0x1000


def processes(targets: Targets) -> None:
    """Any process but its own."""
    must(any(os.path.exists(f"/proc/{pid}") for pid in (targets.neighbour, os.getppid() or targets.neighbour)))


def parent(targets: Targets) -> None:
    """Its parent's number."""
    must(os.getppid() != 0)


def host_name(targets: Targets) -> None:
    """The host's own name."""
    must(os.uname().nodename != "enclave")


def on_neighbour(number: int, *arguments: object) -> Run:
    """A call on the neighbour's number."""
    return lambda targets: call(number, targets.neighbour, *arguments)  # type: ignore[arg-type]


NETWORK: dict[str, Run] = {
    "tcp": tcp, "udp": udp, "listen": listen, "abstract-socket": abstract, "socket-by-path": by_path,
    "interfaces": interfaces,
}  # fmt: skip
PROCESSES: dict[str, tuple[Run, tuple[str, ...]]] = {
    "neighbours-environment": (environment, ABSENT), "neighbours-memory": (memory_file, ABSENT),
    "see-neighbour": (processes, ("hidden",)), "see-parent": (parent, ("hidden",)),
    "host-name": (host_name, ("hidden",)),
    "attach": (attach, REFUSED), "read-neighbours-memory": (read_memory, REFUSED),
    "signal-neighbour": (on_neighbour(62, 0), REFUSED), "handle-of-neighbour": (on_neighbour(434, 0), REFUSED),
    "thread-signal-neighbour": (lambda targets: call(234, targets.neighbour, targets.neighbour, 0), REFUSED),
    "limit-neighbour": (on_neighbour(302, 7, structure(16, soft=(0, 8, 64), hard=(8, 8, 4096)), None), REFUSED),
    "slow-neighbour": (lambda targets: call(141, 0, targets.neighbour, 19), REFUSED),
    "pin-neighbour": (on_neighbour(203, 128, structure(128, cpus=(0, 8, 3))), REFUSED),
    "attach-shared-memory": (lambda targets: call(30, targets.segment, 0, 0), REFUSED),
    "look-at-shared-memory": (lambda targets: call(31, targets.segment, 2, ctypes.create_string_buffer(256)), REFUSED),
}  # fmt: skip
NEIGHBOURS = (
    *(Attempt(name, "NET", run, REFUSED, "outside") for name, run in NETWORK.items()),
    Attempt("name-lookup", "NET", name_lookup, ("gaierror", "EPERM", "errno -3", "errno -2"), "outside"),
    *(Attempt(name, "IPC", run, expected, "outside") for name, (run, expected) in PROCESSES.items()),
    *(
        Attempt(f"has {name}", "PRIV", status(name, "0" * 16), ("hidden",), "captive-root")
        for name in ("CapPrm", "CapEff", "CapBnd")
    ),
    Attempt("new-privileges-possible", "PRIV", status("NoNewPrivs", "1"), ("hidden",), "outside"),
    Attempt("no-filter", "PRIV", status("Seccomp", "2"), ("hidden",), "no-filter"),
)
