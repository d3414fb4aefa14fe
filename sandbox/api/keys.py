"""API keys: made by the bureau for a person of a party, shown once, kept as a digest only."""

from __future__ import annotations

import msgspec
from fastapi import APIRouter
from starlette.responses import Response

from enclave_runner.contract.codec import Value
from sandbox.api.call import Reading, Writing, reply
from sandbox.api.identifiers import Slug, SlugInQuery, Text, TokenInPath
from sandbox.api.openapi import operation
from sandbox.workflow.keys import create_api_key, list_api_keys, revoke_api_key
from sandbox.workflow.office import plain_name

router = APIRouter(prefix="/v1/keys", tags=["keys"])


class NewKey(Value, frozen=True):
    """Who shall hold the key: a member of staff, by the name that the audit log shows."""

    party_id: Slug
    person: Text


class IssuedKey(Value, frozen=True):
    """`token` is there in the first answer only: a replay cannot show what is stored nowhere."""

    key_id: str
    party_id: str
    person: str
    token: str | None


class KeyEntry(Value, frozen=True):
    """An API key without the key."""

    key_id: str
    party_id: str
    person: str
    created_at: str
    revoked_at: str | None


class RevokedKey(Value, frozen=True):
    """The key that no longer opens anything."""

    key_id: str


class Nothing(Value, frozen=True):
    """An empty object: the path says it all."""


@router.get("", summary="列出接口密钥 / List API keys", **operation(tuple[KeyEntry, ...]))
def list_all(call: Reading, party: SlugInQuery) -> Response:
    """A party's keys, without the keys."""
    entries = list_api_keys(call.office, call.actor, party)
    return reply([msgspec.convert(key, KeyEntry, from_attributes=True) for key in entries])


@router.post("", summary="发放接口密钥 / Make an API key", **operation(IssuedKey, takes=NewKey, status=201))
def create(write: Writing) -> Response:
    """The token is shown once."""
    body = write.read(NewKey)
    tokens: list[str] = []

    def run() -> IssuedKey:
        tokens.append(create_api_key(write.office, write.actor, body.party_id, body.person))
        key_id = tokens[0].split("_")[1]
        return IssuedKey(key_id=key_id, party_id=body.party_id, person=plain_name(body.person), token=None)

    kept = write.once(run)
    issued = msgspec.json.decode(kept.response, type=IssuedKey)
    shown = issued if kept.replayed else msgspec.structs.replace(issued, token=tokens[0])
    return reply(shown, 201, kept.replayed)


@router.post("/{key_id}/revocation", summary="停用接口密钥 / Revoke an API key", **operation(RevokedKey, takes=Nothing))
def revoke(write: Writing, key_id: TokenInPath) -> Response:
    """It opens nothing from now on."""
    write.read(Nothing)

    def run() -> RevokedKey:
        revoke_api_key(write.office, write.actor, key_id)
        return RevokedKey(key_id=key_id)

    return write.answer(run)
