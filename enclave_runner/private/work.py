"""From a task's bytes to its answer's bytes: the one entry point of a jailed worker of this zygote."""

from __future__ import annotations

from enclave_runner.contract.codec import decode, encode
from enclave_runner.he import scoring
from enclave_runner.he.tasks import Scoring
from enclave_runner.kinds import probe
from enclave_runner.kinds.tasks import Gating, Probe
from enclave_runner.private import assemble, evaluate, gate, hinting, serve, tabulate
from enclave_runner.private.tasks import Assembling, Evaluating, Hinting, Serving, Tabulating, Task, TaskAnswer


def work(data: bytes, descriptors: list[int]) -> bytes:
    """Run one task; of `Serving`, until its connection ends."""
    task: Task = decode(data, Task)  # type: ignore[arg-type]
    return encode(_run(task, descriptors))


def _run(task: Task, descriptors: list[int]) -> TaskAnswer:
    match task:
        case Gating():
            return gate.run(descriptors)
        case Probe():
            return probe.run(task, descriptors)
        case Tabulating():
            return tabulate.run(task, descriptors)
        case Evaluating():
            return evaluate.run(task, descriptors)
        case Assembling():
            return assemble.run(task, descriptors)
        case Hinting():
            return hinting.run(task, descriptors)
        case Serving():
            return serve.run(task, descriptors)
        case Scoring():
            return scoring.run(task, descriptors)
