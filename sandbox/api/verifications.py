"""Verifications: one yes/no question about one attribute of one subject. Who and what travel in the body only."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter
from starlette.responses import Response

from enclave_runner.contract.codec import Value
from sandbox.api.call import Writing, reply
from sandbox.api.identifiers import Slug
from sandbox.api.openapi import operation
from sandbox.api.outcomes import OutcomeDocument, settled
from sandbox.domain.submission import SubmissionStatus
from sandbox.workflow.dispatch import collect, dispatch
from sandbox.workflow.releases import get_submission
from sandbox.workflow.verify import file_question

router = APIRouter(prefix="/v1/verifications", tags=["verifications"])


class NewVerification(Value, frozen=True):
    """The private half of a question: neither `subject` nor `claim` is stored or logged."""

    product_id: Slug
    subject: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    claim: Annotated[str, msgspec.Meta(max_length=200)] = ""


@router.post("", summary="核验 / Verify", **operation(OutcomeDocument, takes=NewVerification, status=201))
def create(write: Writing) -> Response:
    """One word leaves: yes, no or no-record, with its receipt.

    Only the submission is kept under the idempotency key. A retry after a lost answer collects that outcome:
    it never asks, and so never pays, twice.
    """
    body = write.read(NewVerification)
    asked: list[bytes] = []

    def run() -> str:
        filed = file_question(write.office, write.actor, body.product_id, body.subject, body.claim)
        asked.append(filed.question)
        return filed.submission_id

    kept = write.once(run)
    submission_id = msgspec.json.decode(kept.response, type=str)
    status = get_submission(write.office, write.actor, submission_id).status
    if status is SubmissionStatus.ADMITTED:
        # Without the question, which died with the first attempt, the enclave refuses the ticket and uses it up.
        outcome = dispatch(write.office, submission_id, asked[0] if asked else None)
    else:
        outcome = collect(write.office, submission_id)
    return reply(settled(write.office.pack, outcome), 201, kept.replayed)
