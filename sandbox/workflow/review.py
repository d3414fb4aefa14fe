"""Reviewing a submission: four eyes, as many approvals as the policy asks, one rejection is enough."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection

from enclave_runner.contract.errors import Refused
from sandbox.domain.submission import SUBMISSION_LIFECYCLE, Review, Submission, SubmissionStatus, Verdict
from sandbox.rules.access import Action, Record
from sandbox.rules.duties import decide_ground, decide_review, tally
from sandbox.store import api_keys, submissions
from sandbox.store.database import reading, writing
from sandbox.store.submissions import REVIEWS, SUBMISSIONS, Filing
from sandbox.workflow.office import Actor, Office, authorize, note_act


def review(office: Office, actor: Actor, submission_id: str, verdict: Verdict, ground: str) -> Submission:
    """Record one verdict. The submission is then admitted, refused, or waits for another reviewer.

    Raises:
        Refused: by access, `review.own-work`, `review.repeated`, `review.key-maker`, `ground.missing`, `review.closed`,
            `record.unknown`.
    """
    authorize(office, actor, Action.REVIEW_SUBMISSION, Record("submission", submission_id))
    decide_ground(ground).enforce()
    with writing(office.engine) as connection:
        filing = submissions.filing(connection, submission_id)
        submission = filing.submission
        if submission.status is not SubmissionStatus.IN_REVIEW:
            raise Refused("review.closed", status=submission.status.value)
        earlier = submissions.reviews_of(connection, submission_id)
        given = four_eyes(office, connection, actor, filing, earlier, verdict, ground)
        REVIEWS.add(connection, given)
        status = tally((*earlier, given), filing.approvals)
        if status is not submission.status:
            submission = replace(submission, status=SUBMISSION_LIFECYCLE.check(submission.status, status))
            SUBMISSIONS.save(connection, submission)
        note_act(
            office,
            connection,
            actor,
            "submission.review",
            submission_id,
            verdict=verdict.value,
            status=submission.status.value,
        )
    return submission


def four_eyes(
    office: Office,
    connection: Connection,
    actor: Actor,
    filing: Filing,
    earlier: tuple[Review, ...],
    verdict: Verdict,
    ground: str,
) -> Review:
    """The verdict of somebody who may give one beside the earlier ones, before the run or of what it gave.

    Raises:
        Refused: `review.own-work`, `review.repeated`, `review.key-maker`.
    """
    people = {filing.submitted_by, actor.name, *(given.reviewer for given in earlier)}
    makers = api_keys.makers_among(connection, people)
    decide_review(filing.submission, filing.submitted_by, actor.name, earlier, makers).enforce()
    return Review(filing.submission.submission_id, actor.name, verdict, ground.strip(), office.clock())


def list_reviews(office: Office, actor: Actor, submission_id: str) -> tuple[Review, ...]:
    """Every verdict with its ground, in order of time, for whoever may see the submission.

    Raises:
        Refused: by access, or `record.unknown`.
    """
    with reading(office.engine) as connection:
        submission = SUBMISSIONS.get(connection, submission_id)
        owners = (submission.requester_id, submission.operator_id)
        authorize(office, actor, Action.READ_SUBMISSION, Record("submission", submission_id, owners))
        given = submissions.reviews_of(connection, submission_id)
    return tuple(sorted(given, key=lambda review: (review.reviewed_at, review.reviewer)))
