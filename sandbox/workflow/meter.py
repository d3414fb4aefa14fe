"""Meter events, and the months by which they are billed: months end at midnight in Shanghai."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from enclave_runner.contract.errors import Refused
from sandbox.domain.metering import MeterEvent
from sandbox.rules.access import Action, Record
from sandbox.store import meter_events
from sandbox.store.database import reading
from sandbox.workflow.office import Actor, Office, authorize, is_allowed

SHANGHAI = ZoneInfo("Asia/Shanghai")
MONTH = re.compile(r"(20\d\d)-(0[1-9]|1[0-2])")


def month_bounds(month: str) -> tuple[datetime, datetime]:
    """The first instant of a month ("2026-11") in Shanghai and the first one after it, both in UTC.

    Raises:
        Refused: `month.malformed`.
    """
    parts = MONTH.fullmatch(month)
    if parts is None:
        raise Refused("month.malformed")
    year, number = int(parts[1]), int(parts[2])
    begin = datetime(year, number, 1, tzinfo=SHANGHAI)
    end = datetime(year + number // 12, number % 12 + 1, 1, tzinfo=SHANGHAI)
    return begin.astimezone(UTC), end.astimezone(UTC)


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
