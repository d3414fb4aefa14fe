"""Submissions and releases as their parties see them."""

from __future__ import annotations

from enclave_runner.contract.errors import Refused
from sandbox.domain.submission import Submission, Verdict
from sandbox.rules.access import Action, Record
from sandbox.store import submissions
from sandbox.store.database import reading
from sandbox.store.submissions import SUBMISSIONS
from sandbox.workflow.office import Actor, Office, authorize, is_allowed
from sandbox.workflow.settle import Outcome, outcome_of


def get_release(office: Office, actor: Actor, submission_id: str) -> Outcome:
    """The outcome of a settled submission, for whoever asked for it and for the bureau; as often as needed.

    Raises:
        Refused: by access, `record.unknown`, `review.rejected` with the ground, `submission.unsettled`.
    """
    with reading(office.engine) as connection:
        submission = SUBMISSIONS.get(connection, submission_id)
        record = Record("release", submission_id, (submission.requester_id,))
        authorize(office, actor, Action.READ_RELEASE, record)
        for review in submissions.reviews_of(connection, submission_id):
            if review.verdict is Verdict.REJECT:
                raise Refused("review.rejected", ground=review.ground)
        return outcome_of(connection, submission_id)


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
