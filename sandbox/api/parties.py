"""Parties: departments, operators, businesses and the bureau itself."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter
from starlette.responses import Response

from enclave_runner.contract.codec import Value
from sandbox.api.call import Reading, Writing, reply
from sandbox.api.identifiers import Ground, Slug, SlugInPath, Text
from sandbox.api.openapi import operation
from sandbox.domain.party import Party, PartyStatus, Role
from sandbox.workflow.parties import get_party, list_parties, register_party, set_party_status

router = APIRouter(prefix="/v1/parties", tags=["parties"])


class NewParty(Value, frozen=True):
    """An organisation to register, active from now on."""

    party_id: Slug
    name: Text
    role: Role
    credit_code: Annotated[str, msgspec.Meta(pattern="^[0-9A-Z]{18}$")]


class StatusChange(Value, frozen=True):
    """Article 49: suspend, restore or terminate."""

    status: PartyStatus
    ground: Ground


@router.get("", summary="列出主体 / List parties", **operation(tuple[Party, ...]))
def list_all(call: Reading) -> Response:
    """All parties that the caller may see."""
    return reply(list_parties(call.office, call.actor))


@router.post("", summary="登记主体 / Register a party", **operation(Party, takes=NewParty, status=201))
def register(write: Writing) -> Response:
    """Register one organisation; its credit code must be valid."""
    body = write.read(NewParty)
    party = Party(body.party_id, body.name, body.role, body.credit_code)

    def run() -> Party:
        register_party(write.office, write.actor, party)
        return party

    return write.answer(run, 201)


@router.get("/{party_id}", summary="查看主体 / One party", **operation(Party))
def get(call: Reading, party_id: SlugInPath) -> Response:
    """One party."""
    return reply(get_party(call.office, call.actor, party_id))


@router.put(
    "/{party_id}/status",
    summary="暂停、恢复、终止 / Suspend, restore, terminate",
    **operation(Party, takes=StatusChange),
)
def change_status(write: Writing, party_id: SlugInPath) -> Response:
    """A suspended party can do nothing but read its own."""
    body = write.read(StatusChange)
    return write.answer(lambda: set_party_status(write.office, write.actor, party_id, body.status, body.ground))
