"""Idempotency keys as stored: reserved before the work, answered after it."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, delete, insert, select, update

from sandbox.store import schema

TABLE = schema.idempotency


@dataclass(frozen=True)
class Slot:
    """Whose key it is."""

    party_id: str
    person: str
    key: str


@dataclass(frozen=True)
class StoredAnswer:
    """What was asked under a key, and the answer once there is one."""

    fingerprint: str
    response: bytes | None


def find(connection: Connection, slot: Slot) -> StoredAnswer | None:
    """What stands under a key, or None."""
    row = connection.execute(select(TABLE.c.fingerprint, TABLE.c.response).where(_at(slot))).one_or_none()
    return None if row is None else StoredAnswer(row.fingerprint, row.response)


def reserve(connection: Connection, slot: Slot, fingerprint: str) -> None:
    """Take a key."""
    connection.execute(
        insert(TABLE).values(
            party_id=slot.party_id, person=slot.person, key=slot.key, fingerprint=fingerprint, response=None
        )
    )


def answer(connection: Connection, slot: Slot, response: bytes) -> None:
    """Keep the answer."""
    connection.execute(update(TABLE).where(_at(slot)).values(response=response))


def free(connection: Connection, slot: Slot) -> None:
    """Give a key back whose work did not happen."""
    connection.execute(delete(TABLE).where(_at(slot), TABLE.c.response.is_(None)))


def _at(slot: Slot) -> ColumnElement[bool]:
    return and_(TABLE.c.party_id == slot.party_id, TABLE.c.person == slot.person, TABLE.c.key == slot.key)
