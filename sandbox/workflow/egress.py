"""Egress review: what a job gave is judged by people before anybody else sees it. The loss is spent by then."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection

from enclave_runner.contract.errors import Failed, Refused
from sandbox.domain.submission import SUBMISSION_LIFECYCLE, Review, Submission, SubmissionStatus, Verdict
from sandbox.rules.access import Action, Record
from sandbox.rules.duties import decide_ground, tally_egress
from sandbox.rules.rating import meter
from sandbox.store import receipts, submissions
from sandbox.store.database import reading, writing
from sandbox.store.meter_events import EVENTS
from sandbox.store.submissions import EGRESS_REVIEWS, SUBMISSIONS
from sandbox.workflow.office import Actor, Office, authorize, note_act
from sandbox.workflow.review import four_eyes


def review_egress(office: Office, actor: Actor, submission_id: str, verdict: Verdict, ground: str) -> Submission:
    """Record one verdict on what a submission gave. It is then released, withheld, or waits for another reviewer.

    Released, it is paid for like any use; withheld, nobody is shown it and nobody pays. The loss stays spent. The
    requester reads the ground of a rejection, and no other.

    Raises:
        Refused: by access, `review.own-work`, `review.repeated`, `review.key-maker`, `ground.missing`, `egress.closed`,
            `record.unknown`.
    """
    authorize(office, actor, Action.REVIEW_SUBMISSION, Record("submission", submission_id))
    decide_ground(ground).enforce()
    with writing(office.engine) as connection:
        filing = submissions.filing(connection, submission_id)
        submission = filing.submission
        if submission.status is not SubmissionStatus.EGRESS_REVIEW:
            raise Refused("egress.closed", status=submission.status.value)
        earlier = submissions.egress_reviews_of(connection, submission_id)
        given = four_eyes(office, connection, actor, filing, earlier, verdict, ground)
        EGRESS_REVIEWS.add(connection, given)
        status = tally_egress((*earlier, given), filing.egress_approvals)
        if status is not submission.status:
            submission = _decide(connection, submission, status)
        note_act(
            office,
            connection,
            actor,
            "egress.review",
            submission_id,
            verdict=verdict.value,
            status=submission.status.value,
        )
    return submission


def _decide(connection: Connection, submission: Submission, status: SubmissionStatus) -> Submission:
    """The new state, and the meter event that settling left for now."""
    stored = receipts.of_submission(connection, submission.submission_id)
    if stored is None:
        raise Failed("egress.receipt")
    decided = replace(submission, status=SUBMISSION_LIFECYCLE.check(submission.status, status))
    SUBMISSIONS.save(connection, decided)
    EVENTS.add(connection, meter(stored.receipt, decided))
    return decided


def list_egress_reviews(office: Office, actor: Actor, submission_id: str) -> tuple[Review, ...]:
    """Every verdict on what a submission gave, in order of time, for reviewers: their grounds may speak of values.

    Raises:
        Refused: by access, or `record.unknown`.
    """
    authorize(office, actor, Action.REVIEW_SUBMISSION, Record("submission", submission_id))
    with reading(office.engine) as connection:
        SUBMISSIONS.get(connection, submission_id)
        given = submissions.egress_reviews_of(connection, submission_id)
    return tuple(sorted(given, key=lambda review: (review.reviewed_at, review.reviewer)))
