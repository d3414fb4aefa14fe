"""The self-test: escape attempts inside the real jail, with a live target on the host for each. One success stops
everything."""

from __future__ import annotations

import secrets
import socket
import tempfile
from pathlib import Path

from enclave_runner.contract.codec import decode, encode
from enclave_runner.contract.errors import Failed
from enclave_runner.jail.launcher import Zygote
from enclave_runner.jail.profile import JailProfile
from enclave_runner.kinds.tasks import Probe, ProbeReport, TaskAnswer


def probe_jail(zygote: Zygote, profile: JailProfile) -> ProbeReport:
    """Try every escape once. The targets really exist: a listening port, a readable file, a named socket."""
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
        probe = Probe(
            canary=canary.name,
            port=tcp.getsockname()[1],
            abstract_name=name,
            host_pid=zygote.pid,  # never 1: that number is the worker itself in its own pid space
            secret=secret,
        )
        answer: TaskAnswer = decode(zygote.run(encode(probe), [], profile), TaskAnswer)  # type: ignore[arg-type]
    if not isinstance(answer, ProbeReport):
        raise Failed("jail.probe")
    return answer


def require_jail(zygote: Zygote, profile: JailProfile) -> ProbeReport:
    """The report of a jail that holds.

    Raises:
        Failed: `jail.open` when an escape went through; `jail.absent` when the jail cannot be built here.
    """
    report = probe_jail(zygote, profile)
    if report.allowed or not report.attempts:
        raise Failed("jail.open")
    return report
