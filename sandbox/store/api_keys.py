"""API keys as stored: only the hash of each."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select, update

from sandbox.store import schema

KEYS = schema.api_keys


@dataclass(frozen=True)
class StoredKey:
    """An API key without the key. `created_by` is who made it for `person`, as "party/person"."""

    key_id: str
    hash: str
    party_id: str
    person: str
    created_by: str
    created_at: str
    revoked_at: str | None


def add(connection: Connection, key: StoredKey) -> None:
    """Store a new key."""
    connection.execute(
        insert(KEYS).values(
            key_id=key.key_id,
            hash=key.hash,
            party_id=key.party_id,
            person=key.person,
            created_by=key.created_by,
            created_at=key.created_at,
            revoked_at=key.revoked_at,
        )
    )


def find(connection: Connection, key_id: str) -> StoredKey | None:
    """The key of that id, or None."""
    row = connection.execute(select(KEYS).where(KEYS.c.key_id == key_id)).one_or_none()
    return None if row is None else StoredKey(*row)


def listed(connection: Connection, party_id: str) -> tuple[StoredKey, ...]:
    """Every key of a party, oldest first."""
    query = select(KEYS).where(KEYS.c.party_id == party_id).order_by(KEYS.c.created_at, KEYS.c.key_id)
    return tuple(StoredKey(*row) for row in connection.execute(query))


def makers_among(connection: Connection, people: Collection[str]) -> frozenset[tuple[str, str]]:
    """Who of these people ever made a key for whom of them, withdrawn keys included: pairs of maker and holder."""
    rows = connection.execute(
        select(KEYS.c.created_by, KEYS.c.party_id, KEYS.c.person).where(KEYS.c.created_by.in_(people))
    )
    pairs = ((row.created_by, f"{row.party_id}/{row.person}") for row in rows)
    return frozenset((maker, holder) for maker, holder in pairs if holder in people)


def revoke(connection: Connection, key_id: str, at: str) -> None:
    """Withdraw a key for good; the first withdrawal stands."""
    connection.execute(update(KEYS).where(KEYS.c.key_id == key_id, KEYS.c.revoked_at.is_(None)).values(revoked_at=at))
