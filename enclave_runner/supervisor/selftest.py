"""The self-test: escape attempts inside the real jail, with a live target on the host for each. One success stops
everything."""

from __future__ import annotations

import errno
import os
import secrets
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from enclave_runner.contract.codec import Value, decode, encode
from enclave_runner.contract.errors import Failed
from enclave_runner.jail.launcher import Zygote
from enclave_runner.jail.profile import JailProfile
from enclave_runner.jail.zygote import RESULT
from enclave_runner.kinds.probes.excess import EXCESSES, SURVIVED, TRIED
from enclave_runner.kinds.tasks import Done, Finding, Outcome, Probe, ProbeReport, TaskAnswer

# Small and quick, so that what an excess reaches is a limit and not the patience of who waits.
EXCESS_BOUNDS = {"memory_mb": 384, "scratch_mb": 16, "cpu_seconds": 1, "wall_seconds": 60}
DEADLINE_SECONDS = 2.0


class SelfTest(Value, frozen=True):
    """How every escape attempt went."""

    findings: tuple[Finding, ...]

    @property
    def is_closed(self) -> bool:
        """Whether there were attempts, and every one was blocked by the layer that it names."""
        return bool(self.findings) and all(item.outcome is Outcome.BLOCKED for item in self.findings)

    @property
    def allowed(self) -> tuple[str, ...]:
        """The attempts that went through."""
        return tuple(item.name for item in self.findings if item.outcome is Outcome.ALLOWED)

    @property
    def unblocked(self) -> tuple[str, ...]:
        """The attempts that went through, could not be made or met a layer that did not answer."""
        return tuple(item.name for item in self.findings if item.outcome is not Outcome.BLOCKED)

    @property
    def outcomes(self) -> dict[str, str]:
        """Name → outcome, as it is measured."""
        return {item.name: item.outcome.value for item in self.findings}


class JailOpen(Failed):
    """`jail.open`, with the names of the attempts that were not blocked."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__("jail.open")
        self.names = names


def probe_jail(zygote: Zygote, profile: JailProfile) -> SelfTest:
    """Try every escape that leaves its worker alive, all in one worker."""
    with _targets(zygote, profile) as probe:
        answer: TaskAnswer = decode(zygote.run(encode(probe), [], profile), TaskAnswer)  # type: ignore[arg-type]
    if not isinstance(answer, ProbeReport):
        raise Failed("jail.probe")
    return SelfTest(findings=answer.findings)


def probe_excesses(zygote: Zygote, profile: JailProfile) -> SelfTest:
    """Try every escape that must end its worker, each in one of its own, under smaller bounds than a job's."""
    small = msgspec.structs.replace(profile, **EXCESS_BOUNDS)
    with _targets(zygote, small) as probe:
        return SelfTest(findings=tuple(_exceed(zygote, small, probe, name) for name in EXCESSES))


def require_jail(zygote: Zygote, profile: JailProfile) -> SelfTest:
    """The self-test of a jail that holds.

    Raises:
        Failed: `jail.open` (a `JailOpen`) when an escape went through, a layer did not answer or an attempt could not
            be made; `jail.absent` when the jail cannot be built here.
    """
    result = probe_jail(zygote, profile)
    if not result.is_closed:
        raise JailOpen(result.unblocked)
    return result


@contextmanager
def _targets(zygote: Zygote, profile: JailProfile) -> Iterator[Probe]:
    """What is looked for really exists: a listening port, a readable file, a named socket, a process."""
    name, secret = f"yunei-{secrets.token_hex(8)}", secrets.token_hex(16)
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_UNIX) as abstract,
        tempfile.NamedTemporaryFile(prefix="yunei-canary-") as canary,
    ):
        abstract.bind("\0" + name)
        abstract.listen()
        canary.write(secret.encode())
        canary.flush()
        Path(canary.name).chmod(0o644)
        yield Probe(
            canary=canary.name,
            port=tcp.getsockname()[1],
            abstract_name=name,
            host_pid=zygote.pid,  # never 1: that number is the worker itself in its own pid space
            secret=secret,
            profile=profile,
            answer=RESULT,
        )


def _exceed(zygote: Zygote, profile: JailProfile, probe: Probe, name: str) -> Finding:
    layer, expected, _ = EXCESSES[name]
    with _mark() as mark:
        order = msgspec.structs.replace(probe, excess=name, handed=1)
        code = _fate(zygote, order, mark, profile, expected == "job.deadline")
        said = os.pread(mark, 2, 0)
    detail = code if said[1:2] in (b"", SURVIVED) else f"{code} {errno.errorcode.get(said[1], '')}"
    outcome = Outcome.BLOCKED if detail == expected else Outcome.ALLOWED
    return Finding(name=name, layer=layer, outcome=outcome if said[:1] == TRIED else Outcome.MISSING, detail=detail)


@contextmanager
def _mark() -> Iterator[int]:
    descriptor = os.memfd_create("mark", os.MFD_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _fate(zygote: Zygote, order: Probe, mark: int, profile: JailProfile, is_patience: bool) -> str:
    """The code with which the supervisor sees the worker end."""
    try:
        raw = zygote.run(encode(order), [mark], profile, DEADLINE_SECONDS if is_patience else None)
    except Failed as failed:
        return failed.code
    try:
        decode(raw, Done | ProbeReport)  # type: ignore[arg-type]
    except Exception:
        return "job.answer"
    return "answered"
