"""Submissions: a DP query, a model or a script under a grant, reviewed where the policy asks, run once."""

from __future__ import annotations

import msgspec
from fastapi import APIRouter
from starlette.responses import Response

from enclave_runner.contract.codec import Value
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.job import Job, ModelJob, QueryJob
from enclave_runner.contract.script import ScriptJob
from sandbox.api.call import Reading, Writing, reply
from sandbox.api.identifiers import Ground, Token, TokenInPath
from sandbox.api.models import read_model
from sandbox.api.openapi import operation
from sandbox.api.outcomes import OutcomeDocument, pending, settled
from sandbox.domain.submission import Review, Submission, SubmissionStatus, Verdict
from sandbox.workflow.dispatch import dispatch
from sandbox.workflow.egress import list_egress_reviews, review_egress
from sandbox.workflow.office import Actor, Office
from sandbox.workflow.releases import get_release, get_submission, list_submissions
from sandbox.workflow.review import list_reviews, review
from sandbox.workflow.scripts import read_script
from sandbox.workflow.submit import submit

# A rejection before the run, and one of what it gave.
REJECTIONS = ("review.rejected", "egress.withheld")

router = APIRouter(prefix="/v1/submissions", tags=["submissions"])


class NewSubmission(Value, frozen=True):
    """A job to run under a grant. A model or a script has been uploaded before, and is named by its digest."""

    grant_id: Token
    job: QueryJob | ModelJob | ScriptJob


class NewReview(Value, frozen=True):
    """One reviewer's word."""

    verdict: Verdict
    ground: Ground


@router.get("", summary="列出提交 / List submissions", **operation(tuple[Submission, ...]))
def list_all(call: Reading) -> Response:
    """All submissions that the caller may see."""
    return reply(list_submissions(call.office, call.actor))


@router.post("", summary="提交任务 / Submit a job", **operation(OutcomeDocument, takes=NewSubmission, status=201))
def create(write: Writing) -> Response:
    """Runs at once unless a review is asked for; then `receipt` is null and the status says in-review.

    Only the submission is kept under the idempotency key, as soon as it is filed. A retry after that carries the same
    submission on from where it stands. A crash between filing and keeping leaves the key in progress (409): the list of
    submissions shows whether it was filed. A second one is never made.
    """
    body = write.read(NewSubmission)
    content = _input_of(write.office, body.job)

    def run() -> Submission:
        return submit(write.office, write.actor, body.grant_id, body.job, content)

    kept = write.once(run)
    submission = msgspec.json.decode(kept.response, type=Submission)
    _start_if_admitted(write.office, write.actor, submission.submission_id)
    return reply(_outcome(write.office, write.actor, submission.submission_id), 201, kept.replayed)


@router.get("/{submission_id}", summary="查看提交 / One submission", **operation(Submission))
def get(call: Reading, submission_id: TokenInPath) -> Response:
    """One submission and its state: the job as it would run, its purpose, and the columns that it reads."""
    return reply(get_submission(call.office, call.actor, submission_id))


@router.get(
    "/{submission_id}/reviews",
    summary="查看审查结论 / The reviews of a submission",
    **operation(tuple[Review, ...]),
)
def reviews(call: Reading, submission_id: TokenInPath) -> Response:
    """Every verdict with its ground, for whoever may see the submission."""
    return reply(list_reviews(call.office, call.actor, submission_id))


@router.post(
    "/{submission_id}/reviews",
    summary="审查提交 / Review a submission",
    **operation(Submission, takes=NewReview, status=201),
)
def add_review(write: Writing, submission_id: TokenInPath) -> Response:
    """Nobody reviews their own work; the last approval that the policy asks for starts the job."""
    body = write.read(NewReview)

    def run() -> Submission:
        return review(write.office, write.actor, submission_id, body.verdict, body.ground)

    kept = write.once(run)
    _start_if_admitted(write.office, write.actor, submission_id)
    return reply(get_submission(write.office, write.actor, submission_id), 201, kept.replayed)


@router.get(
    "/{submission_id}/egress-reviews",
    summary="查看出域审查结论 / The egress reviews of a submission",
    **operation(tuple[Review, ...]),
)
def egress_reviews(call: Reading, submission_id: TokenInPath) -> Response:
    """Every verdict on what a job gave, with its ground, for reviewers: a ground may speak of values."""
    return reply(list_egress_reviews(call.office, call.actor, submission_id))


@router.post(
    "/{submission_id}/egress-reviews",
    summary="出域审查 / Review what a submission gave",
    **operation(Submission, takes=NewReview, status=201),
)
def add_egress_review(write: Writing, submission_id: TokenInPath) -> Response:
    """The last approval that the policy asks for releases it; a rejection withholds it for good, unpaid, and its ground
    is told to the requester: it must not speak of values. The loss stays spent either way.
    """
    body = write.read(NewReview)
    return write.answer(lambda: review_egress(write.office, write.actor, submission_id, body.verdict, body.ground), 201)


def _input_of(office: Office, job: Job) -> bytes | None:
    match job:
        case ModelJob():
            return read_model(office, job.model_sha256)
        case ScriptJob():
            return read_script(office, job.script_sha256)
    return None


def _start_if_admitted(office: Office, actor: Actor, submission_id: str) -> None:
    if get_submission(office, actor, submission_id).status is SubmissionStatus.ADMITTED:
        dispatch(office, submission_id)


def _outcome(office: Office, actor: Actor, submission_id: str) -> OutcomeDocument:
    try:
        return settled(office.pack, get_release(office, actor, submission_id))
    except Refused as refused:
        if refused.rule not in ("submission.unsettled", *REJECTIONS):
            raise
        rejection = office.pack.explain(refused) if refused.rule in REJECTIONS else None
        return pending(get_submission(office, actor, submission_id), rejection)
