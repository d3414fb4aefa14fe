"""Verifications: one yes/no question about one attribute of one subject. Who and what travel in the body only."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter
from starlette.responses import Response

from enclave_runner.contract.codec import Value
from sandbox.api.call import Writing
from sandbox.api.identifiers import Slug
from sandbox.api.openapi import operation
from sandbox.api.outcomes import OutcomeDocument, settled
from sandbox.workflow.verify import verify

router = APIRouter(prefix="/v1/verifications", tags=["verifications"])


class NewVerification(Value, frozen=True):
    """The private half of a question: neither `subject` nor `claim` is stored or logged."""

    product_id: Slug
    subject: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    claim: Annotated[str, msgspec.Meta(max_length=200)] = ""


@router.post("", summary="核验 / Verify", **operation(OutcomeDocument, takes=NewVerification, status=201))
def create(write: Writing) -> Response:
    """One word leaves: yes, no or no-record, with its receipt."""
    body = write.read(NewVerification)

    def run() -> OutcomeDocument:
        outcome = verify(write.office, write.actor, body.product_id, body.subject, body.claim)
        return settled(write.office.pack, outcome)

    return write.answer(run, 201)
