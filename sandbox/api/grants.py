"""Grants (article 28): drafted here, signed elsewhere with the officer's key, filed, revoked."""

from __future__ import annotations

import re

from fastapi import APIRouter
from starlette.responses import Response

from enclave_runner.contract.grant import Grant
from enclave_runner.contract.signing import Signed
from sandbox.api.call import Reading, Writing, reply
from sandbox.api.identifiers import TOKEN, TokenInPath, require_plausible
from sandbox.api.keys import Nothing
from sandbox.api.openapi import operation
from sandbox.api.problem import Misfit
from sandbox.domain.grant import GrantRecord
from sandbox.workflow.grants import draft_grant, get_grant, list_grants, revoke_grant, sign_grant

router = APIRouter(prefix="/v1/grants", tags=["grants"])


@router.get("", summary="列出授权 / List grants", **operation(tuple[GrantRecord, ...]))
def list_all(call: Reading) -> Response:
    """All grants that the caller may see."""
    return reply(list_grants(call.office, call.actor))


@router.post("", summary="起草授权 / Draft a grant", **operation(GrantRecord, takes=Grant, status=201))
def draft(write: Writing) -> Response:
    """A draft allows nothing before an officer has signed it."""
    grant = write.read(Grant)
    require_plausible(grant.not_before, grant.deadline)
    if re.fullmatch(TOKEN, grant.grant_id) is None:
        raise Misfit("$.grant_id", "letters, digits, hyphens and underscores, at most 80")
    return write.answer(lambda: draft_grant(write.office, write.actor, grant), 201)


@router.get("/{grant_id}", summary="查看授权 / One grant", **operation(GrantRecord))
def get(call: Reading, grant_id: TokenInPath) -> Response:
    """One grant with its status and, once signed, the officer's signature."""
    return reply(get_grant(call.office, call.actor, grant_id))


@router.put(
    "/{grant_id}/signature",
    summary="提交授权官签名 / File the officer's signature",
    **operation(GrantRecord, takes=Signed),
)
def sign(write: Writing, grant_id: TokenInPath) -> Response:
    """The signature must be a trusted officer's, over exactly this grant. The key itself never comes here."""
    signed = write.read(Signed)
    return write.answer(lambda: sign_grant(write.office, write.actor, grant_id, signed))


@router.post("/{grant_id}/revocation", summary="撤销授权 / Revoke a grant", **operation(GrantRecord, takes=Nothing))
def revoke(write: Writing, grant_id: TokenInPath) -> Response:
    """For good."""
    write.read(Nothing)
    return write.answer(lambda: revoke_grant(write.office, write.actor, grant_id))
