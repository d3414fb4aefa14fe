"""Meter events as recorded: one per receipt."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Connection, or_, select

from sandbox.domain.metering import MeterEvent
from sandbox.store import schema
from sandbox.store.documents import Documents

TABLE = schema.meter_events
EVENTS = Documents(
    TABLE,
    MeterEvent,
    lambda event: {
        "receipt_id": event.receipt_id,
        "payer_id": event.payer_id,
        "operator_id": event.operator_id,
        "occurred_at": stamp(event.occurred_at),
        "units": event.units,
    },
)


def stamp(moment: datetime) -> str:
    """A moment as text whose order is the order of time."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def between(
    connection: Connection, since: datetime | None, until: datetime | None, party_id: str | None
) -> tuple[MeterEvent, ...]:
    """Events from `since` on and before `until`, of one party as payer or operator, in order of time."""
    conditions = []
    if since is not None:
        conditions.append(TABLE.c.occurred_at >= stamp(since))
    if until is not None:
        conditions.append(TABLE.c.occurred_at < stamp(until))
    if party_id is not None:
        conditions.append(or_(TABLE.c.payer_id == party_id, TABLE.c.operator_id == party_id))
    events = EVENTS.listed(connection, *conditions)
    return tuple(sorted(events, key=lambda event: (event.occurred_at, event.receipt_id)))


def open_uses(connection: Connection, payer_id: str, until: datetime) -> tuple[MeterEvent, ...]:
    """A payer's uses before that moment that stand on no invoice."""
    invoiced = select(schema.invoice_lines.c.receipt_id)
    return EVENTS.listed(
        connection,
        TABLE.c.payer_id == payer_id,
        TABLE.c.units > 0,
        TABLE.c.occurred_at < stamp(until),
        TABLE.c.receipt_id.not_in(invoiced),
    )
