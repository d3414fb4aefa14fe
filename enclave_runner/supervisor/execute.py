"""Running what was prepared: extract, exact answer in the jail, noise at the gate. Privacy loss is reserved by now."""

from __future__ import annotations

from dataclasses import dataclass

from enclave_runner.contract.errors import Failed
from enclave_runner.contract.privacy import PrivacyLoss
from enclave_runner.contract.receipt import Release, VerificationAnswer
from enclave_runner.egress.histogram import release_histogram
from enclave_runner.jail.launcher import MemoryFile
from enclave_runner.kinds.tasks import Extraction, Lookup, LookupAnswer, Part, Scoring, Vectors
from enclave_runner.plan.render import render_features
from enclave_runner.supervisor.enclave import Enclave
from enclave_runner.supervisor.extracts import extract, part_of
from enclave_runner.supervisor.prepare import Prepared, PreparedLookup, PreparedModel, PreparedQuery, PreparedWorkload
from enclave_runner.supervisor.run_query import answer_query
from enclave_runner.supervisor.run_script import PreparedScript, run_script
from enclave_runner.supervisor.workload import answer_workload


@dataclass(frozen=True)
class Executed:
    """What leaves, and what it has cost in the end where that is less than was reserved; None for all of it.

    A job may say less only of parts that never ran, and only by what noisy answers told it.
    """

    release: Release
    spent: tuple[PrivacyLoss, ...] | None = None


def execute(enclave: Enclave, prepared: Prepared, input_sha256: str | None) -> Executed:
    """The released value and its cost.

    Raises:
        Failed: with a code of the stage; the text never holds data.
    """
    match prepared:
        case PreparedQuery():
            answered = answer_query(enclave, prepared.query)
            return Executed(answered.table, answered.spent)
        case PreparedWorkload():
            return Executed(answer_workload(enclave, prepared.workload))
        case PreparedModel():
            return Executed(_model(enclave, prepared))
        case PreparedScript():
            return Executed(run_script(enclave, prepared))
        case PreparedLookup():
            return Executed(_lookup(enclave, prepared, input_sha256))


def _model(enclave: Enclave, prepared: PreparedModel) -> Release:
    plan, job = prepared.plan, prepared.job
    order = Extraction(parts=(part_of(plan.source, prepared.held[0], plan.clipping.limit),))
    with extract(enclave, order, prepared.held) as sealed, MemoryFile(prepared.model) as model:
        task = Scoring(
            sql=render_features(plan),
            features=plan.features,
            output=job.output,
            low=job.low,
            high=job.high,
            bins=job.bins,
        )
        answer = enclave.work(task, [sealed, model.descriptor])
    if not isinstance(answer, Vectors):
        raise Failed("job.answer")
    return release_histogram(plan, job.budget, answer.vectors, job.low, job.high, job.bins)


def _lookup(enclave: Enclave, prepared: PreparedLookup, input_sha256: str | None) -> Release:
    job, held = prepared.job, prepared.held[0]
    part = Part(spec=held.spec, rows=held.rows, columns=(job.attribute,))
    order = Extraction(parts=(part,), subject=prepared.subject)
    with extract(enclave, order, prepared.held) as sealed:
        task = Lookup(attribute=job.attribute, predicate=job.predicate, claim=prepared.claim)
        answer = enclave.work(task, [sealed])
    if not isinstance(answer, LookupAnswer) or input_sha256 is None:
        raise Failed("job.answer")
    return VerificationAnswer(answer=answer.answer, question_sha256=input_sha256, data_version=held.version)
