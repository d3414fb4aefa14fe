"""A script job: checked and tried without data, its entities dealt to blocks, each block in a worker of its own.

Blocks run one after the other and each has its own slot of time, of a length that the pack fixes: beside another block
it could slow that one down, and how long it took would be an answer. For the same reason one script job runs at a time.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from enclave_runner.contract.codec import digest, encode
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.privacy import PrivacyLoss, number
from enclave_runner.contract.receipt import DPTable
from enclave_runner.contract.script import MAX_SCRIPT_BYTES, ScriptJob
from enclave_runner.egress.blocks import block_cells, release_means
from enclave_runner.jail.launcher import seal_memory
from enclave_runner.kinds.tasks import Dealing, Declined, Done, Extraction, Part, ScriptBlock, ScriptTrial
from enclave_runner.plan.bound import UNIT, BoundFeatures
from enclave_runner.plan.tables import quote
from enclave_runner.supervisor.enclave import Enclave
from enclave_runner.supervisor.extracts import extract, partitions_for
from enclave_runner.supervisor.holdings import HeldVersion

DEALT_AT_ONCE = 64  # descriptors of one dealing worker
BLOCK_NAME = "block"
_one_job = threading.Lock()


@dataclass(frozen=True)
class PreparedScript:
    """A script that has run over made-up rows, with its columns bound. It is never answered from memory."""

    held: tuple[HeldVersion, ...]
    job: ScriptJob
    plan: BoundFeatures
    losses: tuple[PrivacyLoss, ...]
    script: str
    answer_key: str | None = None


def script_seconds(enclave: Enclave, job: ScriptJob) -> int:
    """How long the blocks of a job take, whatever the data are; in seconds, rounded up."""
    slot = enclave.limits.script_profile.wall_seconds * 1000 + enclave.limits.script_slack_ms
    return -(-job.blocks * slot // 1000)


def try_script(enclave: Enclave, job: ScriptJob, plan: BoundFeatures, held: HeldVersion, attached: bytes | None) -> str:
    """The script's text, once it has run over rows that are made up from the catalogue.

    Raises:
        Refused: `script.digest`, `script.too-large`, `script.text`, `script.trial`, `job.too-large`.
    """
    if partitions_for(enclave, _extraction(plan, held)) > 1:
        raise Refused("job.too-large", max=1)
    if attached is None or digest(attached) != job.script_sha256:
        raise Refused("script.digest")
    if not 0 < len(attached) <= MAX_SCRIPT_BYTES:
        raise Refused("script.too-large", max=MAX_SCRIPT_BYTES)
    try:
        text = attached.decode()
    except UnicodeDecodeError:
        raise Refused("script.text") from None
    columns = tuple(column for name, _, _ in plan.features if (column := held.spec.column(name)) is not None)
    trial = ScriptTrial(script=text, columns=columns, ranges=_ranges(job))
    try:
        answer = enclave.work(trial, [], enclave.limits.script_profile)
    except Failed as failed:
        if not failed.code.startswith("job."):
            raise
        raise Refused("script.trial", what="it ended without an answer, or took too long or too much memory") from None
    if isinstance(answer, Declined) and answer.rule == "script.trial" and set(answer.facts) == {"what"}:
        raise Refused("script.trial", what=answer.facts["what"])
    if not isinstance(answer, Done):  # the script has written it
        raise Refused("script.trial", what="it answered in the place of its worker")
    return text


def run_script(enclave: Enclave, prepared: PreparedScript) -> DPTable:
    """The noisy means.

    Raises:
        Failed: with a code of the stage; never for what the script did.
    """
    job, plan, held = prepared.job, prepared.plan, prepared.held[0]
    task = encode(ScriptBlock(script=prepared.script, columns=plan.features, ranges=_ranges(job)))
    with _one_job, _dealt(enclave, prepared) as blocks:
        began = time.monotonic()
        slot = enclave.limits.script_profile.wall_seconds + enclave.limits.script_slack_ms / 1000
        cells = []
        for index, block in enumerate(blocks):
            cells.append(block_cells(_answer(enclave, task, block), len(job.outputs)))
            time.sleep(max(0.0, began + (index + 1) * slot - time.monotonic()))
    return release_means(job, held.spec.entity_set, cells)


def _answer(enclave: Enclave, task: bytes, block: int) -> bytes | None:
    """What the worker of a block has written; None where it has not: killed, late, or out of memory."""
    try:
        # The script comes in memory of its own for every block: a file that two of them hold could carry a lock.
        return enclave.zygote.run(task, [block], enclave.limits.script_profile)
    except Failed as failed:
        if not failed.code.startswith("job."):
            raise
        return None


@contextmanager
def _dealt(enclave: Enclave, prepared: PreparedScript) -> Iterator[list[int]]:
    """The blocks in sealed memory; closed at the end."""
    plan, held, job = prepared.plan, prepared.held[0], prepared.job
    secret = secrets.token_hex(32)
    opened: list[int] = []
    try:
        with extract(enclave, _extraction(plan, held), prepared.held) as sealed:
            for first in range(0, job.blocks, DEALT_AT_ONCE):
                count = min(DEALT_AT_ONCE, job.blocks - first)
                targets = [os.memfd_create(BLOCK_NAME, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING) for _ in range(count)]
                opened += targets
                answer = enclave.work(
                    Dealing(
                        sql=_sql(plan, not held.spec.public),
                        names=tuple(name for name, _, _ in plan.features),
                        unit=not held.spec.public,
                        secret=secret,
                        blocks=job.blocks,
                        first=first,
                    ),
                    [sealed, *targets],
                    enclave.limits.extract_profile,
                )
                if not isinstance(answer, Done):
                    raise Failed("job.answer")
                for target in targets:
                    seal_memory(target)
        yield opened
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _extraction(plan: BoundFeatures, held: HeldVersion) -> Extraction:
    part = Part(spec=held.spec, rows=held.rows, columns=plan.source.columns, unit=not held.spec.public)
    return Extraction(parts=(part,))


def _sql(plan: BoundFeatures, unit: bool) -> str:
    columns = [f"t0.{quote(name)}" for name, _, _ in plan.features] + ([f"t0.{UNIT}"] if unit else [])
    text = f"SELECT {', '.join(columns)} FROM t0"
    return f"{text} WHERE {plan.condition}" if plan.condition else text


def _ranges(job: ScriptJob) -> tuple[tuple[float, float], ...]:
    return tuple((float(number(output.low)), float(number(output.high))) for output in job.outputs)
