"""Running what was prepared: extract, exact answer in the jail, noise at the gate. Privacy loss is reserved by now."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from enclave_runner.contract.errors import Failed
from enclave_runner.contract.receipt import Release, VerificationAnswer
from enclave_runner.egress.table import release_histogram, release_table
from enclave_runner.jail.confine import EXTRACT_NAME
from enclave_runner.jail.launcher import MemoryFile, seal_memory
from enclave_runner.kinds.tasks import Aggregation, Done, Extraction, Lookup, LookupAnswer, Scoring, Vectors
from enclave_runner.plan.bind import BoundFeatures, BoundTable
from enclave_runner.plan.render import render_features, render_table
from enclave_runner.supervisor.enclave import Enclave
from enclave_runner.supervisor.holdings import HeldVersion
from enclave_runner.supervisor.prepare import Prepared, PreparedLookup, PreparedModel, PreparedQuery


def execute(enclave: Enclave, prepared: Prepared, input_sha256: str | None) -> Release:
    """The released value.

    Raises:
        Failed: with a code of the stage; the text never holds data.
    """
    match prepared:
        case PreparedQuery():
            return _query(enclave, prepared)
        case PreparedModel():
            return _model(enclave, prepared)
        case PreparedLookup():
            return _lookup(enclave, prepared, input_sha256)


def _query(enclave: Enclave, prepared: PreparedQuery) -> Release:
    plan = prepared.plan
    with weighted_extract(enclave, prepared.held, plan) as extract:
        answer = enclave.work(aggregation_of(plan), [extract])
    if not isinstance(answer, Vectors):
        raise Failed("job.answer")
    return release_table(plan, prepared.job.budget, answer.vectors)


def _model(enclave: Enclave, prepared: PreparedModel) -> Release:
    plan, job = prepared.plan, prepared.job
    with weighted_extract(enclave, prepared.held, plan) as extract, MemoryFile(prepared.model) as model:
        task = Scoring(
            sql=render_features(plan),
            features=plan.features,
            output=job.output,
            low=job.low,
            high=job.high,
            bins=job.bins,
        )
        answer = enclave.work(task, [extract, model.descriptor])
    if not isinstance(answer, Vectors):
        raise Failed("job.answer")
    return release_histogram(plan, job.budget, answer.vectors, job.low, job.high, job.bins)


def _lookup(enclave: Enclave, prepared: PreparedLookup, input_sha256: str | None) -> Release:
    job = prepared.job
    held = prepared.held
    order = Extraction(
        spec=held.spec,
        rows=held.rows,
        columns=(job.attribute,),
        weight_scale=1,
        weighted=False,
        subject=prepared.subject,
    )
    with _extract(enclave, order, prepared.held) as extract:
        task = Lookup(attribute=job.attribute, predicate=job.predicate, claim=prepared.claim)
        answer = enclave.work(task, [extract])
    if not isinstance(answer, LookupAnswer) or input_sha256 is None:
        raise Failed("job.answer")
    return VerificationAnswer(answer=answer.answer, question_sha256=input_sha256, data_version=prepared.held.version)


def aggregation_of(plan: BoundTable) -> Aggregation:
    """The exact part of a DP table."""
    return Aggregation(
        sql=render_table(plan),
        domains=tuple(key.domain for key in plan.keys),
        coarsenings=tuple(item.coarsening for item in plan.aggregates),
    )


@contextmanager
def weighted_extract(enclave: Enclave, held: HeldVersion, plan: BoundTable | BoundFeatures) -> Iterator[int]:
    """The extract of a plan, with the weight of each row in place of its entity."""
    order = Extraction(
        spec=held.spec, rows=held.rows, columns=plan.columns, weight_scale=plan.weight_scale, weighted=True
    )
    with _extract(enclave, order, held) as extract:
        yield extract


@contextmanager
def _extract(enclave: Enclave, order: Extraction, held: HeldVersion) -> Iterator[int]:
    """A fresh extract in memory, sealed before anything reads it, gone with the job."""
    target = os.memfd_create(EXTRACT_NAME, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        _build(enclave, order, held, target)
        seal_memory(target)
        yield target
    finally:
        os.close(target)


def _build(enclave: Enclave, order: Extraction, held: HeldVersion, target: int) -> None:
    """Only the needed columns are decrypted; their plaintext is in memory for as long as the builder reads it."""
    columns = enclave.store.open_columns(held.file, order.needed)
    try:
        answer = enclave.work(order, [*columns, target], enclave.limits.extract_profile)
    finally:
        for descriptor in columns:
            os.close(descriptor)
    if not isinstance(answer, Done):
        raise Failed("job.answer")
