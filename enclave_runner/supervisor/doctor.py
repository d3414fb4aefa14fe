"""The examination of a host: what it lacks, or how every escape attempt went in the real jail."""

from __future__ import annotations

import os

from enclave_runner.contract.codec import Value
from enclave_runner.contract.errors import Failed
from enclave_runner.jail.launcher import Zygote
from enclave_runner.jail.profile import JailProfile
from enclave_runner.kinds.tasks import Finding, Outcome
from enclave_runner.supervisor.host import landlock_version, missing_prerequisites
from enclave_runner.supervisor.selftest import SelfTest, probe_excesses, probe_jail

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
    lacking = missing_prerequisites(profile)
    result = SelfTest(findings=lacking) if lacking else _attempts(profile)
    return Examination(
        probes=tuple(sorted(result.findings, key=lambda item: LAYERS.index(item.layer))),
        ok=result.is_closed,
        is_possible=not lacking,
        profile=profile,
        kernel=os.uname().release,
        landlock_abi=landlock_version(),
    )


def _attempts(profile: JailProfile) -> SelfTest:
    try:
        with Zygote() as zygote:
            first = probe_jail(zygote, profile)
            return SelfTest(findings=(*first.findings, *probe_excesses(zygote, profile).findings))
    except Failed as failed:
        row = Finding(name="jail", layer="jail", outcome=Outcome.MISSING, detail=failed.code)
        return SelfTest(findings=(row,))
