"""Attempts at the host's files: read, see, list, change; by every way round, and by what /proc shows."""

# ruff: noqa: PTH101, PTH108, PTH112, PTH116, PTH118, PTH120, PTH123, PTH208, PTH211
from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.support.hostile_attempts import SAY_OK, Attempt, Run, Targets, must

ABSENT, CLOSED = ("ENOENT",), ("EACCES",)
SEALED_ROOT = ("EROFS", "EACCES")
SITE_PACKAGES = os.path.dirname(os.path.dirname(os.__file__))


def read(path: str) -> Run:
    """The first byte of a file."""

    def run(targets: Targets) -> None:
        descriptor = os.open(path.format(t=targets), os.O_RDONLY)
        must(len(os.read(descriptor, 1)) == 1)

    return run


def seen(path: str) -> Run:
    """Its metadata."""
    return lambda targets: os.stat(path.format(t=targets))


def listed(path: str) -> Run:
    """The names in it."""
    return lambda targets: os.listdir(path.format(t=targets))


def opened(path: str, flags: int = os.O_WRONLY) -> Run:
    """A descriptor that may be written; nothing is."""
    return lambda targets: os.open(path.format(t=targets), flags)


def planted(path: str) -> Run:
    """A new file, which does not outlive its control."""

    def run(targets: Targets) -> None:
        name = path.format(t=targets)
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY))
        os.unlink(name)

    return run


def leaves_root(targets: Targets) -> None:
    """More in the root than the jail puts there."""
    names = {"etc", "usr", "var", "home", "root", "sys", "run", "bin"}
    must(any(os.path.lexists(f"/{name}") for name in names))


def fifo(targets: Targets) -> None:
    """A pipe with a name, for somebody else to open."""
    os.mkfifo(os.path.join(_writable(targets), "fifo"))


def symlink(targets: Targets) -> None:
    """A link for a privileged reader to follow."""
    os.symlink(targets.canary, os.path.join(_writable(targets), "link"))


def node(targets: Targets) -> None:
    """A socket's name."""
    os.mknod(os.path.join(_writable(targets), "node"), 0o140600)


def _writable(targets: Targets) -> str:
    return "/scratch" if os.path.isdir("/scratch") else targets.folder


def changed_mode(targets: Targets) -> None:
    """A file of the same uid on the host."""
    Path(targets.owned).chmod(0o600)


def run_from_scratch(targets: Targets) -> None:
    """Drop a program and start it."""
    path = os.path.join(_writable(targets), "program")
    with open(path, "w") as file:
        file.write(f"#!/bin/sh\n{SAY_OK}\n")
    os.chmod(path, 0o700)
    os.execv(path, [path])


FILES: dict[str, tuple[Run, tuple[str, ...]]] = {
    "read-canary": (read("{t.canary}"), ABSENT), "see-canary": (seen("{t.canary}"), ABSENT),
    "list-host-folder": (listed("{t.folder}"), ABSENT), "read-passwd": (read("/etc/passwd"), ABSENT),
    "read-host-names": (read("/etc/hosts"), ABSENT), "see-shadow": (seen("/etc/shadow"), ABSENT),
    "read-interpreter": (read(os.path.realpath(sys.executable)), ABSENT), "read-library": (read(os.__file__), ABSENT),
    "see-libraries": (seen(SITE_PACKAGES), ABSENT), "leaves-root": (leaves_root, ("hidden",)),
    "by-own-root": (read("/proc/self/root{t.canary}"), ABSENT + CLOSED),
    "by-own-folder": (read("/proc/self/cwd/../../../../..{t.canary}"), ABSENT + CLOSED),
    "by-dots": (read("/proc/../../..{t.canary}"), ABSENT), "by-neighbours-root": (
        read("/proc/{t.neighbour}/root{t.canary}"), ABSENT),
    "by-neighbours-folder": (listed("/proc/{t.neighbour}/cwd"), ABSENT),
    "read-kernel-version": (read("/proc/version"), ABSENT + CLOSED),
    "read-kernel-line": (read("/proc/cmdline"), ABSENT + CLOSED), "read-load": (read("/proc/loadavg"), ABSENT + CLOSED),
    "read-memory-load": (read("/proc/meminfo"), ABSENT + CLOSED), "read-cpus": (read("/proc/cpuinfo"), ABSENT + CLOSED),
    "read-symbols": (opened("/proc/kallsyms", os.O_RDONLY), ABSENT + CLOSED),
    "read-disks": (read("/proc/partitions"), ABSENT + CLOSED),
    "read-modules": (opened("/proc/devices", 0), ABSENT + CLOSED),
    "read-switch": (read("/proc/sys/kernel/osrelease"), ABSENT + CLOSED), "list-system": (listed("/sys"), ABSENT),
    "list-devices": (seen("/dev/zero"), ABSENT), "open-zero-shared": (opened("/dev/zero", os.O_RDWR), ABSENT),
    "open-full": (opened("/dev/full"), ABSENT), "list-terminals": (seen("/dev/ptmx"), ABSENT),
    "plant-in-shared-memory": (planted("/dev/shm/yunei-{t.secret}"), ABSENT + SEALED_ROOT),
    "plant-in-temporary": (planted("/tmp/yunei-{t.secret}"), ABSENT),
    "plant-on-host": (planted("{t.folder}/planted"), ABSENT), "write-owned": (opened("{t.owned}"), ABSENT),
    "change-mode-outside": (changed_mode, (*ABSENT, "EPERM")),
}  # fmt: skip
OWN_PROC = (
    "mountinfo", "mounts", "maps", "smaps", "stat", "statm", "cmdline", "limits", "comm", "oom_score",
    "sched", "uid_map", "wchan", "numa_maps", "schedstat", "cpuset",
)  # fmt: skip
PROC_FOLDERS = ("/", "/proc", "/proc/self", "/proc/self/fd", "/proc/self/task", "/dev")
PATHS = (
    *(Attempt(name, "FS", run, expected, "outside") for name, (run, expected) in FILES.items()),
    *(Attempt(f"own-{name}", "FS", opened(f"/proc/self/{name}", 0), CLOSED, "no-landlock") for name in OWN_PROC),
    *(Attempt(f"list {path}", "FS", listed(path), CLOSED, "no-landlock") for path in PROC_FOLDERS),
    Attempt("write-entropy", "FS", opened("/dev/urandom"), CLOSED, "no-landlock"),
    Attempt("plant-in-root", "FS", planted("/planted"), SEALED_ROOT, "none"),
    Attempt("make-fifo", "FS", fifo, (*CLOSED, "EPERM"), "outside"),
    Attempt("make-symlink", "FS", symlink, (*CLOSED, "EPERM"), "outside"),
    Attempt("make-socket-node", "FS", node, (*CLOSED, "EPERM"), "outside"),
    Attempt("run-dropped-program", "PRIV", run_from_scratch, (*CLOSED, "EPERM"), "outside"),
)
