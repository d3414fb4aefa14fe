"""Meter events as their parties see them."""

from __future__ import annotations

from sandbox.domain.metering import MeterEvent
from sandbox.rules.access import Action, Record
from sandbox.rules.months import month_bounds
from sandbox.store import calls, meter_events
from sandbox.store.database import reading
from sandbox.workflow.call_sync import sync_calls
from sandbox.workflow.office import Actor, Office, authorize, is_allowed


def list_events(office: Office, actor: Actor, month: str | None = None) -> tuple[MeterEvent, ...]:
    """Events that the actor pays for or that run under its grants; all of them for the bureau. In order of time.

    The receipts of calls are fetched from the enclave first.

    Raises:
        Refused: by access, `month.malformed`, or as `sync_calls` does.
        Failed: when the enclave cannot be asked for its calls.
    """
    since, until = (None, None) if month is None else month_bounds(month)
    own = Record("meter", actor.party.party_id, (actor.party.party_id,))
    authorize(office, actor, Action.READ_METER, own)
    everything = is_allowed(office, actor, Action.READ_METER, Record("meter", "all"))
    whose = None if everything else actor.party.party_id
    sync_calls(office)
    with reading(office.engine) as connection:
        jobs = meter_events.between(connection, since, until, whose)
        called = calls.events_between(connection, since, until, whose)
    return tuple(sorted(jobs + called, key=lambda event: (event.occurred_at, event.receipt_id)))
