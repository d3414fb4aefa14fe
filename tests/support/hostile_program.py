"""A zygote whose jobs are escape attempts, in the real jail or in one with named steps left out; and its launcher.

The program is the enclave's own in all but its work: the real launcher starts it, the real `serve` forks and jails.
Leaving out a step exists here alone: production code has no switch for it.
"""

from __future__ import annotations

import dataclasses
import encodings.idna  # noqa: F401 - a name lookup must fail for want of a network, not of a codec
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import msgspec

from enclave_runner.contract.codec import decode, encode
from enclave_runner.contract.errors import Failed
from enclave_runner.jail import confine
from enclave_runner.jail.confine import ENVIRONMENT
from enclave_runner.jail.launcher import Zygote
from enclave_runner.jail.profile import JailProfile
from enclave_runner.jail.zygote import serve
from enclave_runner.kinds import probe
from enclave_runner.kinds.onnx_graph import UnreadableModelError, check_model
from enclave_runner.kinds.tasks import Probe
from tests.support.hostile_attempts import CONTROLS, WENT_THROUGH, Attempt, Targets, outcome_of
from tests.support.hostile_calls import CALLS, install_foreign_page
from tests.support.hostile_excess import EXCESSES, PATIENCE
from tests.support.hostile_neighbours import NEIGHBOURS
from tests.support.hostile_paths import PATHS
from tests.support.hostile_sql import run_sql

ATTEMPTS: dict[str, Attempt] = {
    f"{item.family} {item.name}": item for item in (*PATHS, *NEIGHBOURS, *CALLS, *EXCESSES, *PATIENCE)
}


def work(data: bytes, descriptors: list[int]) -> bytes:
    """One attempt; or SQL against the locked engine; or one of the self-test's own."""
    kind, _, rest = data.partition(b" ")
    if kind == b"probe":
        wanted, _, order = rest.partition(b" ")
        (found,) = [item for item in probe.ATTEMPTS if item.name == wanted.decode()]
        return encode(found.judge(decode(order, Probe)))
    if kind == b"sql":
        return run_sql(rest)
    if kind == b"model":
        return _look_at(os.pread(descriptors[0], os.fstat(descriptors[0]).st_size, 0))
    if kind == b"trace":
        return leave_and_find(rest.decode(), Path("/scratch"))
    order = json.loads(rest)
    targets = Targets(**{**order["targets"], "descriptors": tuple(descriptors)})
    return outcome_of(ATTEMPTS[order["attempt"]].run, targets).encode()


def _look_at(model: bytes) -> bytes:
    """Whether a model may run beside data."""
    try:
        check_model(model)
    except UnreadableModelError as error:
        return error.what.encode()
    return WENT_THROUGH.encode()


def leave_and_find(mark: str, folder: Path) -> bytes:
    """What another worker left, in files, modules and environment; then leave the mark in all of them."""
    found = [*(path.name for path in folder.iterdir()), *LEFT, os.environ.get("LEFT", ""), getattr(json, "left", "")]
    (folder / mark).write_text(mark)
    LEFT.append(mark)
    os.environ["LEFT"] = json.left = mark  # type: ignore[attr-defined]
    return " ".join(filter(None, found)).encode()


LEFT: list[str] = []


class AttemptZygote(Zygote):
    """The real launcher in front of this program. `control` names what is left out of the jail."""

    def __init__(self, control: str = "jail") -> None:
        self._without = CONTROLS[control]
        super().__init__()

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-m",
                "tests.support.hostile_program",
                str(theirs.fileno()),
                ",".join(self._without),
            ],
            pass_fds=[theirs.fileno()],
            env={**ENVIRONMENT, "PYTHONPATH": str(Path(__file__).parents[2])},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
        )
        theirs.close()
        self._orders = ours

    def attempt(
        self, name: str, targets: Targets, profile: JailProfile, descriptors: list[int], wall: float | None = None
    ) -> str:
        """How it went; the launcher's code where the worker ended."""
        order = {"attempt": name, "targets": {**dataclasses.asdict(targets), "descriptors": []}}
        try:
            return self.run(b"attempt " + json.dumps(order).encode(), descriptors, profile, wall).decode()
        except Failed as failed:
            return failed.code


def leave_out(step: str) -> None:
    """From the first order on, `step` does nothing (the zygote itself has to hang on to its supervisor)."""
    real, calls = getattr(confine, step), []

    def nothing(*arguments: object) -> None:
        calls.append(step)
        if step == "die_with_parent" and len(calls) == 1:
            real(*arguments)

    setattr(confine, step, nothing)


def bounded(**fields: int) -> JailProfile:
    """A job's profile with smaller bounds."""
    return msgspec.structs.replace(JailProfile(wall_seconds=20), **fields)


if __name__ == "__main__":
    install_foreign_page()
    for name in filter(None, sys.argv[2].split(",")):
        leave_out(name)
    serve(socket.socket(fileno=int(sys.argv[1])), work)
