"""Attempts to reach the host: its files, its processes, its network, what the launcher may have left open."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path

from enclave_runner.kinds.probes.attempt import Attempt, Hidden, call, hide
from enclave_runner.kinds.tasks import Probe

NOT_THERE, CLOSED = (errno.ENOENT,), (errno.EACCES,)
READ_ONLY = (errno.EROFS, errno.EACCES)
REFUSED = (errno.EPERM,)
STANDARD = 5  # standard streams, the result pipe, the task
AF_NETLINK, AF_PACKET, AF_VSOCK, AF_ALG = 16, 17, 40, 38


def _list_root(probe: Probe) -> None:
    for name in ("etc", "usr", "home", "root", "var", "bin", "tmp", "sys", "run"):
        if os.path.lexists(f"/{name}"):
            return
    raise Hidden("an empty root")


def _climb(probe: Probe) -> None:
    os.stat(f"/proc/../../../..{probe.canary}")


def _leaked(probe: Probe) -> None:
    handed = STANDARD + probe.handed
    found = [number for number in range(1024) if _kind(number)]
    hide(len(found) <= handed, f"{len(found)} of {handed} agreed descriptors are open")


def _kind(descriptor: int) -> int:
    try:
        return stat.S_IFMT(os.fstat(descriptor).st_mode)
    except OSError:
        return 0


def _environment(probe: Probe) -> None:
    hide(probe.secret not in os.environ.values() and "YUNEI_CANARY" not in os.environ, "a constant environment")


def _host_name(probe: Probe) -> None:
    hide(os.uname().nodename == "enclave", "a name of its own")


def _pid_space(probe: Probe) -> None:
    hide(os.getpid() == 1 and os.getppid() == 0, "process 1, without a parent")


ROOT = (
    Attempt("read-host-file", "root", lambda probe: Path(probe.canary).read_bytes(), NOT_THERE),
    Attempt("see-host-file", "root", lambda probe: os.stat(probe.canary), NOT_THERE),
    Attempt("climb-out-of-root", "root", _climb, NOT_THERE),
    Attempt("list-host-root", "root", _list_root),
    Attempt("read-passwd", "root", lambda probe: Path("/etc/passwd").read_bytes(), NOT_THERE),
    Attempt("write-root", "root", lambda probe: os.open("/planted", os.O_WRONLY | os.O_CREAT), READ_ONLY),
    Attempt(
        "write-host-switch",
        "root",
        lambda probe: os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY),
        NOT_THERE + READ_ONLY + REFUSED,
    ),
    Attempt("leaked-descriptor", "root", _leaked),
    Attempt("environment-secret", "root", _environment),
)
NAMESPACES = (
    Attempt("see-host-processes", "namespaces", lambda probe: os.stat(f"/proc/{probe.host_pid}"), NOT_THERE),
    Attempt("host-name", "namespaces", _host_name),
    Attempt("host-process-space", "namespaces", _pid_space),
    Attempt(
        "host-root-through-proc",
        "namespaces",
        lambda probe: Path(f"/proc/{probe.host_pid}/root{probe.canary}").read_bytes(),
        NOT_THERE,
    ),
)
NETWORK = (
    Attempt("tcp-loopback", "network", lambda probe: socket.create_connection(("127.0.0.1", probe.port), 0.5), REFUSED),
    Attempt(
        "udp-send",
        "network",
        lambda probe: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", probe.port)),
        REFUSED,
    ),
    Attempt(
        "host-abstract-socket",
        "network",
        lambda probe: socket.socket(socket.AF_UNIX).connect("\0" + probe.abstract_name),
        REFUSED,
    ),
    Attempt("socket-pair", "network", lambda probe: socket.socketpair(), REFUSED),
    Attempt("netlink-socket", "network", lambda probe: call("socket", AF_NETLINK, 3, 0), REFUSED),
    Attempt("packet-socket", "network", lambda probe: call("socket", AF_PACKET, 3, 0), REFUSED),
    Attempt("host-socket", "network", lambda probe: call("socket", AF_VSOCK, 1, 0), REFUSED),
    Attempt("kernel-crypto-socket", "network", lambda probe: call("socket", AF_ALG, 5, 0), REFUSED),
)
LANDLOCK = (
    Attempt("read-mount-table", "landlock", lambda probe: Path("/proc/self/mountinfo").read_bytes(), CLOSED),
    Attempt("read-memory-map", "landlock", lambda probe: Path("/proc/self/maps").read_bytes(), CLOSED),
    Attempt("read-own-environment", "landlock", lambda probe: Path("/proc/self/environ").read_bytes(), CLOSED),
    Attempt("list-processes", "landlock", lambda probe: os.listdir("/proc"), CLOSED),
    Attempt("write-entropy-device", "landlock", lambda probe: os.open("/dev/urandom", os.O_WRONLY), CLOSED),
)
