"""Bringing what lies at rest in line with what may still be served: at the start, and when data are dropped."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from enclave_runner.supervisor.holdings import Holdings
from enclave_runner.supervisor.standing import Standing, StandingTickets, State
from enclave_runner.supervisor.verification_tables import SERVED, VerificationTables


def sweep_tables(
    tables: VerificationTables,
    standing: StandingTickets,
    holdings: Holdings,
    now: datetime,
    not_before: datetime | None = None,
    is_trusted: Callable[[Standing], bool] = lambda item: True,
) -> None:
    """Close every ticket that has run out, that a restore voided, that is not trusted any more or whose data were
    dropped; remove the tables of all that are closed, and of those that are open what only their building needed.

    Raises:
        Failed: `rawdata.…`, `ledger.write`.
    """
    kept = {}
    for item in standing.unclosed():
        if _is_over(item, now, not_before) or not is_trusted(item) or not _is_held(item, holdings):
            standing.close(item.ticket_id, now)
        else:
            kept[item.version] = item.state
    for version in tables.versions():
        if version not in kept:
            tables.drop(version)
        elif kept[version] is State.OPEN:
            tables.drop(version, keeping=SERVED)


def _is_over(item: Standing, now: datetime, not_before: datetime | None) -> bool:
    ticket = item.ticket
    is_void = not_before is not None and ticket.issued_at < not_before
    return is_void or now >= min(ticket.expires_at, item.grant.deadline)


def _is_held(item: Standing, holdings: Holdings) -> bool:
    """Whether the data that its tables were made from are held: what was dropped is dropped in every form."""
    check = item.ticket.check
    for dataset_id, version in item.ticket.data_versions.items():
        held = holdings.find(dataset_id, version)
        if held is None or held.dropped & {*check.attributes, held.spec.entity_column}:
            return False
    return True
