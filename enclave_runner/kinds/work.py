"""From a task's bytes to its answer's bytes: the one entry point of a jailed worker."""

from __future__ import annotations

from enclave_runner.contract.codec import decode, encode
from enclave_runner.kinds import (
    aggregate,
    discover,
    engine,
    extract,
    finish,
    gate,
    intake,
    lookup,
    parsing,
    probe,
    rehearsal,
    scoring,
    script,
    spread,
    unpack,
)
from enclave_runner.kinds.tasks import (
    Aggregation,
    Dealing,
    Discovery,
    Extraction,
    Finishing,
    Gating,
    Intake,
    Lookup,
    Parsing,
    Probe,
    Rehearsal,
    Scoring,
    ScriptBlock,
    ScriptTrial,
    Spread,
    Task,
    TaskAnswer,
    Trial,
    Unpacking,
)


def ready() -> None:
    """What a waiting worker can do before it knows its task."""
    engine.ready()


def work(data: bytes, descriptors: list[int]) -> bytes:
    """Run one task."""
    task: Task = decode(data, Task)  # type: ignore[arg-type]
    if isinstance(task, ScriptBlock):
        return script.run(task, descriptors)  # so many bytes, whatever happens
    return encode(_run(task, descriptors))


def _run(task: Task, descriptors: list[int]) -> TaskAnswer:
    match task:
        case Gating():
            return gate.run(descriptors)
        case Parsing():
            return parsing.run(task, descriptors)
        case Probe():
            return probe.run(task, descriptors)
        case Unpacking():
            return unpack.run(task, descriptors)
        case Intake():
            return intake.run(task, descriptors)
        case Extraction():
            return extract.run(task, descriptors)
        case Rehearsal():
            return rehearsal.run(task, descriptors)
        case Aggregation():
            return aggregate.run(task, descriptors)
        case Discovery():
            return discover.run(task, descriptors)
        case Spread():
            return spread.run(task, descriptors)
        case Finishing():
            return finish.run(task, descriptors)
        case Lookup():
            return lookup.run(task, descriptors)
        case Trial():
            return scoring.try_model(task, descriptors)
        case Scoring():
            return scoring.run(task, descriptors)
        case Dealing():
            return script.deal(task, descriptors)
        case ScriptTrial():
            return script.attempt(task)
        case ScriptBlock():
            raise TypeError("a block's answer has no type")
