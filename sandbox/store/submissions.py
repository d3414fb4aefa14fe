"""Submissions as stored, with what was settled at admission: datasets, submitter, approvals needed, and the consent."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, func, or_, select

from enclave_runner.contract.codec import decode
from enclave_runner.contract.errors import Refused
from sandbox.domain.submission import Review, Submission, SubmissionStatus
from sandbox.store import schema
from sandbox.store.documents import Documents

TABLE = schema.submissions
SUBMISSIONS = Documents(
    TABLE,
    Submission,
    lambda submission: {
        "submission_id": submission.submission_id,
        "grant_id": submission.grant_id,
        "operator_id": submission.operator_id,
        "requester_id": submission.requester_id,
        "status": submission.status.value,
    },
)
REVIEWS = Documents(
    schema.reviews,
    Review,
    lambda review: {"submission_id": review.submission_id, "reviewer": review.reviewer},
)
EGRESS_REVIEWS = Documents(schema.egress_reviews, Review, REVIEWS.columns)


@dataclass(frozen=True)
class Filing:
    """A submission with what admission settled. `consent_id` is the consent that covered a question about a person.

    `approvals` are needed before it runs, `egress_approvals` before what it gave is released.
    """

    submission: Submission
    dataset_ids: tuple[str, ...]
    submitted_by: str
    approvals: int
    consent_id: str | None = None
    egress_approvals: int = 0


def add(connection: Connection, filing: Filing) -> None:
    """Store an admitted or waiting submission."""
    SUBMISSIONS.add(
        connection,
        filing.submission,
        dataset_id=",".join(filing.dataset_ids),
        submitted_by=filing.submitted_by,
        approvals=filing.approvals,
        consent_id=filing.consent_id,
        egress_approvals=filing.egress_approvals,
        input_sha256=filing.submission.input_sha256,
    )


def filing(connection: Connection, submission_id: str) -> Filing:
    """One submission with what admission settled.

    Raises:
        Refused: `record.unknown`.
    """
    row = connection.execute(select(TABLE).where(TABLE.c.submission_id == submission_id)).one_or_none()
    if row is None:
        raise Refused("record.unknown", what="submission")
    read = tuple(row.dataset_id.split(","))
    submission = decode(row.doc, Submission)
    return Filing(submission, read, row.submitted_by, row.approvals, row.consent_id, row.egress_approvals)


def seen_by(connection: Connection, party_id: str) -> tuple[Submission, ...]:
    """What a party asked for, and what runs under its grants."""
    return SUBMISSIONS.listed(connection, or_(TABLE.c.requester_id == party_id, TABLE.c.operator_id == party_id))


def admitted(connection: Connection) -> tuple[Submission, ...]:
    """Submissions that may run and have no ticket yet."""
    return SUBMISSIONS.listed(connection, TABLE.c.status == SubmissionStatus.ADMITTED.value)


def dispatched(connection: Connection) -> tuple[Submission, ...]:
    """Submissions whose ticket went out and whose receipt is not here."""
    return SUBMISSIONS.listed(connection, TABLE.c.status == SubmissionStatus.DISPATCHED.value)


def with_input(connection: Connection, sha256: str) -> tuple[Submission, ...]:
    """Every submission whose input has that digest."""
    found = SUBMISSIONS.listed(connection, TABLE.c.input_sha256 == sha256)
    return tuple(item for item in found if item.input_sha256 == sha256)


def reviews_of(connection: Connection, submission_id: str) -> tuple[Review, ...]:
    """Every verdict on a submission before it ran."""
    return REVIEWS.listed(connection, schema.reviews.c.submission_id == submission_id)


def egress_reviews_of(connection: Connection, submission_id: str) -> tuple[Review, ...]:
    """Every verdict on what a submission gave."""
    return EGRESS_REVIEWS.listed(connection, schema.egress_reviews.c.submission_id == submission_id)


def count(connection: Connection, status: SubmissionStatus) -> int:
    """How many submissions are in that state."""
    query = select(func.count()).select_from(TABLE).where(TABLE.c.status == status.value)
    return int(connection.execute(query).scalar_one())
