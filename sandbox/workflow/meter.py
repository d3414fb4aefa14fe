"""Meter events as their parties see them."""

from __future__ import annotations

from sandbox.domain.metering import MeterEvent
from sandbox.rules.access import Action, Record
from sandbox.rules.months import month_bounds
from sandbox.store import meter_events
from sandbox.store.database import reading
from sandbox.workflow.office import Actor, Office, authorize, is_allowed


def list_events(office: Office, actor: Actor, month: str | None = None) -> tuple[MeterEvent, ...]:
    """Events that the actor pays for or that run under its grants; all of them for the bureau.

    Raises:
        Refused: by access, or `month.malformed`.
    """
    since, until = (None, None) if month is None else month_bounds(month)
    own = Record("meter", actor.party.party_id, (actor.party.party_id,))
    authorize(office, actor, Action.READ_METER, own)
    everything = is_allowed(office, actor, Action.READ_METER, Record("meter", "all"))
    with reading(office.engine) as connection:
        return meter_events.between(connection, since, until, None if everything else actor.party.party_id)
