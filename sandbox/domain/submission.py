"""Submissions: what an operator asks to run, and the states it passes through."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum

from enclave_runner.contract.codec import digest, encode
from enclave_runner.contract.grant import Purpose
from enclave_runner.contract.job import Job
from sandbox.domain.lifecycle import Lifecycle


class SubmissionStatus(Enum):
    """Who must act next: the reviewers (in-review, egress-review), the platform (admitted, dispatched), nobody (the
    rest).

    In egress-review the job has run, and what it gave is seen by reviewers only; withheld, it stays so for good.
    """

    IN_REVIEW = "in-review"
    ADMITTED = "admitted"
    DISPATCHED = "dispatched"
    EGRESS_REVIEW = "egress-review"
    RELEASED = "released"
    WITHHELD = "withheld"
    REFUSED = "refused"
    FAILED = "failed"


SUBMISSION_LIFECYCLE = Lifecycle(
    "submission",
    SubmissionStatus.IN_REVIEW,
    {
        SubmissionStatus.IN_REVIEW: frozenset({SubmissionStatus.ADMITTED, SubmissionStatus.REFUSED}),
        SubmissionStatus.ADMITTED: frozenset({SubmissionStatus.DISPATCHED, SubmissionStatus.REFUSED}),
        SubmissionStatus.DISPATCHED: frozenset(
            {
                SubmissionStatus.RELEASED,
                SubmissionStatus.EGRESS_REVIEW,
                SubmissionStatus.REFUSED,
                SubmissionStatus.FAILED,
            }
        ),
        SubmissionStatus.EGRESS_REVIEW: frozenset({SubmissionStatus.RELEASED, SubmissionStatus.WITHHELD}),
        SubmissionStatus.RELEASED: frozenset(),
        SubmissionStatus.WITHHELD: frozenset(),
        SubmissionStatus.REFUSED: frozenset(),
        SubmissionStatus.FAILED: frozenset(),
    },
)


@dataclass(frozen=True)
class Submission:
    """A job that a party submitted under a grant.

    `requester_id` is who asked and receives the release: the operator itself, or a business through a product.
    `input_sha256` names the model, the script or the salted question beside it. `purpose` is the one that the grant
    authorizes, and `columns` are what the job reads, as the enclave said at admission: what reviewers judge.
    """

    submission_id: str
    grant_id: str
    operator_id: str
    requester_id: str
    product_id: str | None
    job: Job
    input_sha256: str | None
    status: SubmissionStatus
    submitted_at: datetime
    purpose: Purpose
    columns: tuple[str, ...]

    @property
    def fixed_sha256(self) -> str:
        """The digest of everything but the status: what was filed, and never changes."""
        return digest(encode(replace(self, status=SUBMISSION_LIFECYCLE.initial)))


class Verdict(Enum):
    """One reviewer's word."""

    APPROVE = "approve"
    REJECT = "reject"


@dataclass(frozen=True)
class Review:
    """One reviewer's verdict on one submission, or on what it gave, with its ground."""

    submission_id: str
    reviewer: str
    verdict: Verdict
    ground: str
    reviewed_at: datetime
