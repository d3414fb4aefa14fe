"""Releases: the only thing that leaves the domain, with its receipt."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from sandbox.api.call import Reading, reply
from sandbox.api.identifiers import TokenInPath
from sandbox.api.openapi import operation
from sandbox.api.outcomes import OutcomeDocument, settled
from sandbox.workflow.releases import get_release

router = APIRouter(prefix="/v1/releases", tags=["releases"])


@router.get("/{submission_id}", summary="取回出域结果 / The release of a submission", **operation(OutcomeDocument))
def get(call: Reading, submission_id: TokenInPath) -> Response:
    """The same release as often as needed, at no new loss and no new price; for its requester and the bureau."""
    return reply(settled(call.office.pack, get_release(call.office, call.actor, submission_id)))
