"""Submissions and releases as their parties see them."""

from __future__ import annotations

from sqlalchemy import Connection

from enclave_runner.contract.errors import Refused
from sandbox.domain.submission import Submission, SubmissionStatus, Verdict
from sandbox.rules.access import Action, Record
from sandbox.store import submissions
from sandbox.store.database import reading
from sandbox.store.submissions import SUBMISSIONS
from sandbox.workflow.office import Actor, Office, authorize, is_allowed
from sandbox.workflow.settle import Outcome, outcome_of


def get_release(office: Office, actor: Actor, submission_id: str) -> Outcome:
    """The outcome of a settled submission, for whoever asked for it and for the bureau; as often as needed.

    What waits for review before it leaves, or was withheld, is shown to reviewers only, its receipt included: the
    digest in it would let anybody try out what was released.

    Raises:
        Refused: by access, `record.unknown`, `review.rejected` with the ground, `submission.unsettled`, also while
            what it gave is in review; `egress.withheld` with the ground.
    """
    with reading(office.engine) as connection:
        submission = SUBMISSIONS.get(connection, submission_id)
        record = Record("release", submission_id, (submission.requester_id,))
        authorize(office, actor, Action.READ_RELEASE, record)
        for review in submissions.reviews_of(connection, submission_id):
            if review.verdict is Verdict.REJECT:
                raise Refused("review.rejected", ground=review.ground)
        if not is_allowed(office, actor, Action.REVIEW_SUBMISSION, record):
            _check_left(connection, submission)
        return outcome_of(connection, submission_id)


def _check_left(connection: Connection, submission: Submission) -> None:
    if submission.status is SubmissionStatus.EGRESS_REVIEW:
        raise Refused("submission.unsettled", status=submission.status.value)
    if submission.status is SubmissionStatus.WITHHELD:
        given = submissions.egress_reviews_of(connection, submission.submission_id)
        ground = next((review.ground for review in given if review.verdict is Verdict.REJECT), "-")
        raise Refused("egress.withheld", ground=ground)


def get_submission(office: Office, actor: Actor, submission_id: str) -> Submission:
    """One submission, for its requester, its operator and the bureau.

    Raises:
        Refused: by access, or `record.unknown`.
    """
    with reading(office.engine) as connection:
        submission = SUBMISSIONS.get(connection, submission_id)
    authorize(office, actor, Action.READ_SUBMISSION, _record(submission))
    return submission


def list_submissions(office: Office, actor: Actor) -> tuple[Submission, ...]:
    """The submissions that the actor may see, oldest first."""
    everything = is_allowed(office, actor, Action.READ_SUBMISSION, Record("submission", "all"))
    with reading(office.engine) as connection:
        found = SUBMISSIONS.listed(connection) if everything else submissions.seen_by(connection, actor.party.party_id)
    visible = (item for item in found if is_allowed(office, actor, Action.READ_SUBMISSION, _record(item)))
    return tuple(sorted(visible, key=lambda item: (item.submitted_at, item.submission_id)))


def _record(submission: Submission) -> Record:
    return Record("submission", submission.submission_id, (submission.requester_id, submission.operator_id))
