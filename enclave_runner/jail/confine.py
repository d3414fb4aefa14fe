"""Putting a forked child into the jail, step by step, in an order that matters.

Written for one caller (`zygote`): it runs in a single-threaded child that has just been forked. Any exception means
that
the job must not start. Nothing here is optional.

Why this order: identity is dropped before any namespace is made, since a user namespace made by root keeps files of the
host's root writable; descriptors are closed first, so that nothing of the supervisor is left to leak; limits and
capabilities come after the mounts, which need them; Landlock comes while there is one thread and after the mounts,
whose objects its rules hold; the call filter comes after everything that it refuses; the read-back believes only the
kernel.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import socket
from collections.abc import Callable
from pathlib import Path

from enclave_runner.jail import landlock, seccomp, syscalls
from enclave_runner.jail.profile import INNER_UID, JOB_UID, JailProfile

NAMESPACE_FLAGS = {
    "user": syscalls.CLONE_NEWUSER,
    "pid": syscalls.CLONE_NEWPID,
    "net": syscalls.CLONE_NEWNET,
    "mount": syscalls.CLONE_NEWNS,
    "ipc": syscalls.CLONE_NEWIPC,
    "uts": syscalls.CLONE_NEWUTS,
    "cgroup": syscalls.CLONE_NEWCGROUP,
}
ENVIRONMENT = {"LANG": "C.UTF-8", "TZ": "UTC", "OPENBLAS_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}
NAMESPACE_CAP = "/proc/sys/user/max_user_namespaces"
# DuckDB follows a database's path to its end before it opens it, and a descriptor of sealed memory ends in a name that
# is no path. A name that leads to itself cannot be followed, and DuckDB then opens what it was given.
EXTRACT_NAME = "extract"
EXTRACT_LOOP = f"/memfd:{EXTRACT_NAME} (deleted)"
ROOT_NAMES = ["dev", EXTRACT_LOOP.removeprefix("/"), "proc", "scratch"]
LOCKED_MOUNT = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC


def take_descriptors(descriptors: list[int]) -> None:
    """Standard streams to /dev/null, `descriptors` to 3, 4, 5, …, everything else closed."""
    null = os.open("/dev/null", os.O_RDWR)
    parked = [_above(descriptor, 3 + len(descriptors)) for descriptor in [null, *descriptors]]
    for standard in (0, 1, 2):
        os.dup2(parked[0], standard)
    for target, source in enumerate(parked[1:], start=3):
        os.dup2(source, target)
    syscalls.close_from(3 + len(descriptors))


def _above(descriptor: int, floor: int) -> int:
    """A duplicate that no dup2 to a low number can overwrite."""
    spare = []
    copy = os.dup(descriptor)
    while copy < floor:
        spare.append(copy)
        copy = os.dup(descriptor)
    for number in spare:
        os.close(number)
    return copy


def die_with_parent(parent: int) -> None:
    """SIGKILL when the parent dies; and now, if it died before this was armed. 0 = the parent is outside our pid
    space."""
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(97)


def drop_identity(parent: int) -> None:
    """Stop being root. A caller that is not root stays what it is."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(JOB_UID, JOB_UID, JOB_UID)
        os.setresuid(JOB_UID, JOB_UID, JOB_UID)
        # A uid change makes /proc/self root's (the uid map could not be written) and disarms the death signal.
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)
        die_with_parent(parent)
    if os.geteuid() == 0 or os.getuid() == 0:
        raise PermissionError("still root")


def leave_network() -> None:
    """Put this process, and all that it forks, into a network namespace with nothing in it.

    For a process without privileges that takes a user namespace, and that a process without threads.
    """
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        syscalls.unshare(syscalls.CLONE_NEWNET)
        return
    syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNET)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")


def enter_namespaces(profile: JailProfile) -> None:
    """New namespaces, one mapped id that is not root."""
    uid, gid = os.getuid(), os.getgid()
    flags = 0
    for name in profile.namespaces:
        flags |= NAMESPACE_FLAGS[name]
    syscalls.unshare(flags)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{INNER_UID} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{INNER_UID} {gid} 1")
    # None below this one: in a namespace of its own a worker would have every capability again, and its own mounts.
    Path(NAMESPACE_CAP).write_text("0")


def build_root(profile: JailProfile) -> None:
    """An empty read-only root. No interpreter, no library, no configuration: all code was imported before the fork."""
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    syscalls.mount("tmpfs", "/tmp", "tmpfs", LOCKED_MOUNT, "size=64k,nr_inodes=64,mode=755")  # noqa: S108 - a mount point
    os.chdir("/tmp")  # noqa: S108
    for folder in ("old", "proc", "dev", "scratch"):
        os.mkdir(folder)
    os.symlink(EXTRACT_LOOP, EXTRACT_LOOP.removeprefix("/"))
    for device in ("null", "urandom"):
        Path("dev", device).touch()
        syscalls.mount(f"/dev/{device}", f"dev/{device}", None, syscalls.MS_BIND)
    syscalls.mount("proc", "proc", "proc", LOCKED_MOUNT, "subset=pid")  # no host load, no switches, no kernel symbols
    scratch = f"size={profile.scratch_mb}m,nr_inodes=1k,mode=700"
    syscalls.mount("tmpfs", "scratch", "tmpfs", LOCKED_MOUNT, scratch)
    syscalls.pivot_root(".", "old")
    os.chdir("/")
    syscalls.detach("/old")
    os.rmdir("/old")
    syscalls.mount(None, "/", None, syscalls.MS_REMOUNT | syscalls.MS_BIND | syscalls.MS_RDONLY | LOCKED_MOUNT)
    os.chdir("/scratch")


def set_limits(profile: JailProfile) -> None:
    """Hard limits: memory, CPU, files, processes; no core dump, no locked memory, no message queues."""
    for limit, value in _limits(profile).items():
        resource.setrlimit(limit, (value, value))


def _limits(profile: JailProfile) -> dict[int, int]:
    mib = 1 << 20
    return {
        resource.RLIMIT_DATA: profile.memory_mb * mib,
        resource.RLIMIT_AS: profile.address_space_mb * mib,
        resource.RLIMIT_STACK: 8 * mib,
        resource.RLIMIT_FSIZE: profile.file_mb * mib,
        resource.RLIMIT_CPU: profile.cpu_seconds,
        resource.RLIMIT_NOFILE: profile.descriptors,
        resource.RLIMIT_NPROC: profile.processes,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_NICE: 0,
        resource.RLIMIT_RTPRIO: 0,
    }


def drop_privileges() -> None:
    """No new privileges, no capabilities, not traceable."""
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    syscalls.drop_capabilities()
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)


def check_root() -> None:
    """What can be seen only before the file system is closed: root, identity, pid space, network, no way to nest."""
    inner, outer, count = Path("/proc/self/uid_map").read_text().split()
    if (inner, count) != (str(INNER_UID), "1") or outer == "0":
        raise PermissionError("root outside")
    if sorted(os.listdir("/")) != ROOT_NAMES or os.getpid() != 1:
        raise PermissionError("another root")
    if [name for _, name in socket.if_nameindex()] != ["lo"]:
        raise PermissionError("a network")
    try:
        syscalls.unshare(syscalls.CLONE_NEWUSER)
    except OSError:
        return
    raise PermissionError("namespaces possible")


def restrict_paths(profile: JailProfile) -> None:
    """Landlock: no path but /scratch and two devices."""
    landlock.restrict_paths(profile.landlock_floor)


def filter_calls(profile: JailProfile) -> None:
    """The allow-list of system calls, for good."""
    if seccomp.program_digest() != profile.calls_sha256:
        raise PermissionError("another filter than the profile names")
    syscalls.load_filter(seccomp.packed_program())


def read_back(profile: JailProfile) -> None:
    """Believe the kernel, not the calls: what it says of this process, and what it now refuses, must be the jail."""
    if any(resource.getrlimit(limit) != (value, value) for limit, value in _limits(profile).items()):
        raise PermissionError("limits missing")
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    empty = "0" * 16
    if any(status[name].strip() != empty for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")):
        raise PermissionError("capabilities left")
    if status["NoNewPrivs"].strip() != "1":
        raise PermissionError("new privileges possible")
    if status["Seccomp"].strip() != "2":
        raise PermissionError("calls unfiltered")
    _must_refuse(errno.EACCES, lambda: os.listdir("/"), "paths open")
    _must_refuse(errno.EPERM, lambda: os.getpgid(0), "calls unfiltered")


def _must_refuse(code: int, attempt: Callable[[], object], what: str) -> None:
    try:
        attempt()
    except OSError as error:
        if error.errno == code:
            return
    raise PermissionError(what)


def set_environment() -> None:
    """A constant environment; the launcher's is gone."""
    os.environ.clear()
    os.environ.update(ENVIRONMENT)
    os.umask(0o077)
    syscalls.set_hostname("enclave")
