"""Putting a forked child into the jail, step by step, in an order that matters.

Written for one caller (`zygote`): it runs in a single-threaded child that has just been forked. Any exception means
that
the job must not start. Nothing here is optional.

Why this order: identity is dropped before any namespace is made, since a user namespace made by root keeps files of the
host's root writable; descriptors are closed first, so that nothing of the supervisor is left to leak; limits and
capabilities come after the mounts, which need them; the read-back comes last and believes only the kernel.
"""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

from enclave_runner.jail import syscalls
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
    for device in ("null", "urandom"):
        Path("dev", device).touch()
        syscalls.mount(f"/dev/{device}", f"dev/{device}", None, syscalls.MS_BIND)
    syscalls.mount("proc", "proc", "proc", LOCKED_MOUNT)
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
    mib = 1 << 20
    limits = {
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
    for limit, value in limits.items():
        resource.setrlimit(limit, (value, value))


def drop_privileges() -> None:
    """No new privileges, no capabilities, not traceable."""
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    syscalls.drop_capabilities()
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)


def read_back() -> None:
    """Believe the kernel, not the calls: what /proc says of this process must be the jail."""
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    empty = "0" * 16
    if any(status[name].strip() != empty for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")):
        raise PermissionError("capabilities left")
    if status["NoNewPrivs"].strip() != "1":
        raise PermissionError("new privileges possible")
    if Path(NAMESPACE_CAP).read_text().strip() != "0":
        raise PermissionError("namespaces possible")
    if sorted(os.listdir("/")) != ["dev", "proc", "scratch"] or os.getpid() != 1:
        raise PermissionError("another root")
    interfaces = Path("/proc/net/dev").read_text().splitlines()[2:]
    if [line.split(":")[0].strip() for line in interfaces] != ["lo"]:
        raise PermissionError("a network")


def set_environment() -> None:
    """A constant environment; the launcher's is gone."""
    os.environ.clear()
    os.environ.update(ENVIRONMENT)
    os.umask(0o077)
    syscalls.set_hostname("enclave")
