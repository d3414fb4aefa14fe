"""What the jail needs of its host, looked at before the jail is tried, so that an operator learns what to change."""

from __future__ import annotations

import errno
import os
import platform
from pathlib import Path

from enclave_runner.jail import confine, seccomp, syscalls
from enclave_runner.jail.profile import JailProfile
from enclave_runner.kinds.tasks import Finding, Outcome

SWITCHES = {  # the file, and the value that closes user namespaces
    "user.max_user_namespaces": "0",
    "kernel.unprivileged_userns_clone": "0",
    "kernel.apparmor_restrict_unprivileged_userns": "1",
}
KILLS = "kill_process"
ACTIONS = Path("/proc/sys/kernel/seccomp/actions_avail")


def missing_prerequisites(profile: JailProfile) -> tuple[Finding, ...]:
    """One row for each layer that this host cannot give. Call it while the process has one thread."""
    found = [_namespaces(profile), _landlock(profile), _calls()]
    return tuple(row for row in found if row is not None)


def landlock_version() -> int:
    """The kernel's Landlock ABI, 0 without."""
    try:
        return syscalls.landlock_abi()
    except OSError:
        return 0


def _row(name: str, layer: str, detail: str) -> Finding:
    return Finding(name=name, layer=layer, outcome=Outcome.MISSING, detail=detail)


def _landlock(profile: JailProfile) -> Finding | None:
    try:
        version = syscalls.landlock_abi()
    except OSError as error:
        return _row("landlock", "landlock", _reason(error))
    if version < profile.landlock_floor:
        return _row("landlock-floor", "landlock", f"ABI {version}, at least {profile.landlock_floor} is needed")
    return None


def _calls() -> Finding | None:
    try:
        seccomp.packed_program()
    except OSError:
        return _row("processor", "seccomp", platform.machine())
    actions = _setting(ACTIONS)
    return None if KILLS in actions.split() else _row("seccomp", "seccomp", f"no {KILLS}")


def _namespaces(profile: JailProfile) -> Finding | None:
    """Really make the namespaces and the root, in a child; where that fails, name the switch that forbids it."""
    child = os.fork()
    if child == 0:
        os._exit(_try_root(profile))
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if ended == 0:
        return None
    for switch, closed in SWITCHES.items():
        if _setting(Path("/proc/sys") / switch.replace(".", "/")) == closed:
            return _row(switch, "namespaces", f"{switch} = {closed}")
    in_root = ended >= ROOT_FAILED
    reason = errno.errorcode.get(ended - ROOT_FAILED if in_root else ended, f"ended {ended}")
    return _row("private-root", "root", reason) if in_root else _row("user-namespaces", "namespaces", reason)


ROOT_FAILED = 128  # added to the number of an error that came after the namespaces were there


def _try_root(profile: JailProfile) -> int:
    stage = 0
    try:
        confine.drop_identity(os.getppid())
        confine.enter_namespaces(profile)
        stage = ROOT_FAILED
        inner = os.fork()
        if inner == 0:
            os._exit(_build(profile))
        ended = os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1])
    except OSError as error:
        return stage + min(error.errno or errno.EPERM, 126)
    return stage + ended if ended else 0


def _build(profile: JailProfile) -> int:
    try:
        confine.build_root(profile)
    except OSError as error:
        return min(error.errno or errno.EPERM, 126)
    return 0


def _setting(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _reason(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, "refused")
