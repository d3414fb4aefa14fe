"""Submitting a job: access, admission, the enclave's quote; then it runs at once or waits for review."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from enclave_runner.contract.codec import digest
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.job import Job, ModelJob, VerificationJob
from enclave_runner.contract.script import ScriptJob
from sandbox.domain.grant import GrantRecord
from sandbox.domain.submission import Submission, SubmissionStatus
from sandbox.rules.duties import approvals_needed
from sandbox.rules.script import decide_script
from sandbox.store import datasets, submissions
from sandbox.store.database import reading, writing
from sandbox.store.grants import GRANTS
from sandbox.store.products import PRODUCTS
from sandbox.store.submissions import Filing
from sandbox.workflow.office import Actor, Office, note_act
from sandbox.workflow.quote import ask_quote, check_scope, usable_grant

SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Reads:
    """What a job reads: some columns of each of its datasets, the protected one that it starts from first."""

    datasets: Mapping[str, tuple[str, ...]]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns; with their datasets where there are several."""
        several = len(self.datasets) > 1
        return tuple(
            f"{dataset_id}.{column}" if several else column
            for dataset_id, columns in self.datasets.items()
            for column in columns
        )


def submit(office: Office, actor: Actor, grant_id: str, job: Job, input_bytes: bytes | None = None) -> Submission:
    """Submit a query, a model or a script under a grant. The result is admitted, or in review when the policy asks.

    Raises:
        Refused: by access, admission, or as the enclave says; a refusal stands in the audit log.
    """
    try:
        return _submit(office, actor, grant_id, job, input_bytes)
    except Refused as refused:
        note_refusal(office, actor, grant_id, refused)
        raise


def _submit(office: Office, actor: Actor, grant_id: str, job: Job, content: bytes | None) -> Submission:
    if isinstance(job, VerificationJob):
        raise Refused("submission.product-only")
    with reading(office.engine) as connection:
        record = usable_grant(office, connection, actor, grant_id, job)
    input_sha256 = _check_input(job, content)
    offered = ask_quote(office, record, job)
    if input_sha256 is not None and content is not None:
        keep_artefact(office, input_sha256, content)
    with writing(office.engine) as connection:
        record = usable_grant(office, connection, actor, grant_id, job)
        check_scope(connection, record, offered)
        return file_submission(office, connection, actor, record, job, Reads(offered.datasets), input_sha256)


def file_submission(
    office: Office,
    connection: Connection,
    actor: Actor,
    record: GrantRecord,
    job: Job,
    reads: Reads,
    input_sha256: str | None,
    product_id: str | None = None,
    consent_id: str | None = None,
) -> Submission:
    """Record an admitted job with its audit entry, in the caller's transaction."""
    grade = _highest_grade(connection, reads)
    needed = approvals_needed(office.approvals, job.mode, grade)
    egress = approvals_needed(office.egress_approvals, job.mode, grade)
    submission = Submission(
        submission_id=f"sub-{secrets.token_hex(12)}",
        grant_id=record.grant.grant_id,
        operator_id=record.grant.operator_id,
        requester_id=actor.party.party_id,
        product_id=product_id,
        job=job,
        input_sha256=input_sha256,
        status=SubmissionStatus.IN_REVIEW if needed else SubmissionStatus.ADMITTED,
        submitted_at=office.clock(),
        purpose=record.grant.purpose,
        columns=reads.columns,
    )
    asks = {"egress": str(egress)} if egress else {}
    submissions.add(connection, Filing(submission, tuple(reads.datasets), actor.name, needed, consent_id, egress))
    note_act(
        office,
        connection,
        actor,
        "submission.file",
        submission.submission_id,
        grant=record.grant.grant_id,
        mode=job.mode.value,
        status=submission.status.value,
        requester=submission.requester_id,
        submission_sha256=submission.fixed_sha256,
        **asks,
    )
    return submission


def note_refusal(office: Office, actor: Actor, under: str, refused: Refused) -> None:
    """Write a refusal into the audit log: who, under which grant or product, by which rule. Not what was asked.

    An id that names no grant and no product is the caller's free text, and is left out whatever the rule is.
    """
    with writing(office.engine) as connection:
        named = GRANTS.find(connection, under) or PRODUCTS.find(connection, under)
        target = "-" if named is None else under
        note_act(office, connection, actor, "submission.refuse", target, rule=refused.rule)


def _highest_grade(connection: Connection, reads: Reads) -> int:
    grades = [
        column.grade
        for dataset_id, names in reads.datasets.items()
        for column in datasets.DATASETS.get(connection, dataset_id).spec.columns
        if column.name in names
    ]
    return max(grades, default=1)


def _check_input(job: Job, content: bytes | None) -> str | None:
    """The digest of what travels beside the job, which must be what the job names."""
    actual = None if content is None else digest(content)
    match job:
        case ScriptJob(script_sha256=expected) if actual != expected:
            raise Refused("script.digest")
        case ScriptJob() if content is not None:
            decide_script(content).enforce()
        case ModelJob(model_sha256=expected) if actual != expected:
            raise Refused("model.digest")
        case ModelJob():
            pass
        case _ if actual is not None:
            raise Refused("model.digest")
    return actual


def artefact_path(office: Office, sha256: str) -> Path:
    """Where a model or a script of that digest lies."""
    return office.home.artefacts / sha256


def find_artefact(office: Office, sha256: str) -> bytes | None:
    """The bytes that were kept under that digest; None for a text that is no digest, or one that names nothing."""
    if SHA256.fullmatch(sha256) is None:
        return None
    try:
        return artefact_path(office, sha256).read_bytes()
    except FileNotFoundError:
        return None


def keep_artefact(office: Office, sha256: str, content: bytes) -> None:
    """Store a model or a script under its digest, whole or not at all."""
    path = artefact_path(office, sha256)
    if path.exists():
        return
    draft = path.with_name(f".{sha256}.{secrets.token_hex(4)}")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
