"""The examination of a host: what it lacks, or how every escape attempt went in the real jail."""

from __future__ import annotations

import errno
import os

from enclave_runner.contract.codec import Value
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.jail.launcher import Zygote
from enclave_runner.jail.profile import JailProfile
from enclave_runner.kinds.tasks import Finding, Outcome
from enclave_runner.supervisor.host import landlock_version, missing_prerequisites
from enclave_runner.supervisor.selftest import JailOpen, SelfTest, probe_excesses, probe_jail

LAYERS = ("jail", "namespaces", "root", "limits", "privileges", "landlock", "seccomp", "network", "engine", "output")


class Examination(Value, frozen=True):
    """What `doctor` prints. `is_possible` says whether the jail could be tried at all."""

    probes: tuple[Finding, ...]
    ok: bool
    is_possible: bool
    profile: JailProfile
    kernel: str
    landlock_abi: int


def examine(profile: JailProfile) -> Examination:
    """Look at the host first; only where it lacks nothing, try every escape. Never raises: what fails is a row."""
    lacking = _lacking(profile)
    result = SelfTest(findings=lacking) if lacking else _attempts(profile)
    return Examination(
        probes=tuple(sorted(result.findings, key=lambda item: LAYERS.index(item.layer))),
        ok=result.is_closed,
        is_possible=not lacking,
        profile=profile,
        kernel=os.uname().release,
        landlock_abi=landlock_version(),
    )


def causes(failed: Failed, profile: JailProfile) -> tuple[str, ...]:
    """The names of the rows behind a jail that does not hold: what was open, or what the host lacks. Never raises.

    Call it while the process has one thread.
    """
    if isinstance(failed, JailOpen):
        return failed.names
    return tuple(row.name for row in _lacking(profile))


def _lacking(profile: JailProfile) -> tuple[Finding, ...]:
    try:
        return missing_prerequisites(profile)
    except OSError as error:  # no process and no descriptor is left to look with
        return (_row(error),)


def _attempts(profile: JailProfile) -> SelfTest:
    try:
        with Zygote() as zygote:
            first = probe_jail(zygote, profile)
            return SelfTest(findings=(*first.findings, *probe_excesses(zygote, profile).findings))
    except (Failed, Refused, OSError) as error:
        return SelfTest(findings=(_row(error),))


def _row(error: Failed | Refused | OSError) -> Finding:
    match error:
        case Failed():
            detail = error.code
        case Refused():  # an answer that is none
            detail = error.rule
        case _:
            detail = errno.errorcode.get(error.errno or 0, "refused")
    return Finding(name="jail", layer="jail", outcome=Outcome.MISSING, detail=detail)
