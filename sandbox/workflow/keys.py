"""API keys: made for a person of a party, shown once, kept as a hash."""

from __future__ import annotations

import hmac
import re
import secrets

from sqlalchemy import Connection

from enclave_runner.contract.codec import digest
from enclave_runner.contract.errors import Refused
from sandbox.domain.party import PartyStatus
from sandbox.rules.access import Action, Record
from sandbox.store import api_keys
from sandbox.store.api_keys import StoredKey
from sandbox.store.database import reading, writing
from sandbox.store.meter_events import stamp
from sandbox.store.parties import PARTIES
from sandbox.workflow.office import Actor, Office, authorize, note_act

TOKEN = re.compile(r"yunei_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")


def create_api_key(office: Office, actor: Actor, party_id: str, person: str) -> str:
    """A new key for that person. The returned text is not stored and cannot be shown again.

    Raises:
        Refused: by access, `record.unknown`, `actor.person`.
    """
    authorize(office, actor, Action.MANAGE_KEYS, Record("key", party_id, (party_id,)))
    key_id = secrets.token_hex(6)
    token = f"yunei_{key_id}_{secrets.token_urlsafe(32)}"
    with writing(office.engine) as connection:
        holder = Actor(PARTIES.get(connection, party_id), person)
        hashed, now = digest(token.encode()), stamp(office.clock())
        api_keys.add(connection, StoredKey(key_id, hashed, party_id, holder.person, actor.name, now, None))
        note_act(office, connection, actor, "key.create", key_id, holder=holder.name)
    return token


def revoke_api_key(office: Office, actor: Actor, key_id: str) -> None:
    """Withdraw a key for good; withdrawing twice is the same as once.

    Raises:
        Refused: by access, or `record.unknown`.
    """
    authorize(office, actor, Action.MANAGE_KEYS, Record("key", key_id))
    with writing(office.engine) as connection:
        if api_keys.find(connection, key_id) is None:
            raise Refused("record.unknown", what="key")
        api_keys.revoke(connection, key_id, stamp(office.clock()))
        note_act(office, connection, actor, "key.revoke", key_id)


def list_api_keys(office: Office, actor: Actor, party_id: str) -> tuple[StoredKey, ...]:
    """A party's keys, without the keys.

    Raises:
        Refused: by access.
    """
    authorize(office, actor, Action.MANAGE_KEYS, Record("key", party_id, (party_id,)))
    with reading(office.engine) as connection:
        return api_keys.listed(connection, party_id)


def authenticate(office: Office, token: str) -> Actor:
    """Who holds this key.

    Raises:
        Refused: `key.unknown` for a wrong, malformed or withdrawn key; `party.inactive` when the party is suspended or
            terminated (article 49).
    """
    with reading(office.engine) as connection:
        return identify(connection, token)


def identify(connection: Connection, token: str) -> Actor:
    """Who holds this key, in the caller's snapshot.

    Raises:
        Refused: as `authenticate` does.
    """
    parts = TOKEN.fullmatch(token)
    if parts is None:
        raise Refused("key.unknown")
    stored = api_keys.find(connection, parts[1])
    known = hmac.compare_digest(digest(token.encode()), stored.hash if stored else "0" * 64)
    if stored is None or not known or stored.revoked_at is not None:
        raise Refused("key.unknown")
    party = PARTIES.get(connection, stored.party_id)
    if party.status is not PartyStatus.ACTIVE:
        raise Refused("party.inactive", party=party.party_id, status=party.status.value)
    return Actor(party, stored.person)
