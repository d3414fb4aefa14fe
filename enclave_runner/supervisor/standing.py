"""The standing tickets that this enclave has accepted: being built, open or closed, and closed for good.

The bytes of their tables lie in the raw store (`verification_tables.py`); here stands what has been begun.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from enclave_runner.contract.codec import decode, encode
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.grant import PURPOSE as GRANT_PURPOSE
from enclave_runner.contract.grant import Grant
from enclave_runner.contract.signing import Signed, check_signature, unseal
from enclave_runner.contract.standing import PURPOSE, StandingTicket
from enclave_runner.contract.trust import Trust
from enclave_runner.supervisor.database import Database

SCHEMA = """
CREATE TABLE IF NOT EXISTS standing(
    number INTEGER PRIMARY KEY, ticket_id TEXT UNIQUE NOT NULL, product_id TEXT NOT NULL, signed BLOB,
    state TEXT NOT NULL, version TEXT NOT NULL, built BLOB, calls INTEGER NOT NULL DEFAULT 0, opened_at TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS standing_by_state ON standing(state, product_id);
CREATE TRIGGER IF NOT EXISTS standing_keep BEFORE DELETE ON standing BEGIN SELECT RAISE(ABORT, 'tickets are kept'); END;
CREATE TRIGGER IF NOT EXISTS standing_final BEFORE UPDATE ON standing
    WHEN OLD.state = 'closed' AND NEW.state <> 'closed' OR NEW.calls < OLD.calls
    BEGIN SELECT RAISE(ABORT, 'closed for good, and calls only grow'); END;
"""
SELECT = "SELECT ticket_id, product_id, signed, state, version, built, calls FROM standing"


class State(StrEnum):
    """Where a standing ticket stands."""

    BUILDING = "building"
    OPEN = "open"
    CLOSED = "closed"


@dataclass(frozen=True)
class Standing:
    """One accepted standing ticket. `version` names its tables, `built` is what is known of them once they are built.

    `signed` is None for a ticket that was closed before it ever came.
    """

    ticket_id: str
    product_id: str
    signed: Signed | None
    state: State
    version: str
    built: bytes | None
    calls: int

    @property
    def ticket(self) -> StandingTicket:
        """The order, which was verified when it was accepted; its keys may have been replaced since."""
        if self.signed is None:
            raise Refused("standing.closed")
        return decode(self.signed.payload, StandingTicket)

    def is_signed_by(self, trust: Trust, policy_sha256: str) -> bool:
        """Whether order and grant are still signed by trusted keys, and were made for that policy pack."""
        if self.signed is None:
            return False
        try:
            ticket = unseal(self.signed, PURPOSE, trust.control, StandingTicket)
            check_signature(ticket.grant, GRANT_PURPOSE, trust.officers)
        except Refused:
            return False
        return ticket.policy_sha256 == policy_sha256

    @property
    def grant(self) -> Grant:
        """The grant in it, likewise."""
        return decode(self.ticket.grant.payload, Grant)


class StandingTickets:
    """Every method is one transaction; several threads may call it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.create(SCHEMA)

    def find(self, ticket_id: str) -> Standing | None:
        """The ticket, if it was ever accepted or closed."""
        with self._database.transaction() as connection:
            row = connection.execute(f"{SELECT} WHERE ticket_id = ?", (ticket_id,)).fetchone()
        return _standing(row) if row else None

    def open_for(self, product_id: str) -> Standing | None:
        """The ticket under which that product answers."""
        with self._database.transaction() as connection:
            row = connection.execute(
                f"{SELECT} WHERE state = 'open' AND product_id = ? ORDER BY number DESC LIMIT 1", (product_id,)
            ).fetchone()
        return _standing(row) if row else None

    def unclosed(self) -> tuple[Standing, ...]:
        """Every ticket that is being built or open, oldest first."""
        with self._database.transaction() as connection:
            rows = connection.execute(f"{SELECT} WHERE state <> 'closed' ORDER BY number").fetchall()
        return tuple(_standing(row) for row in rows)

    def begin(self, signed: Signed, ticket: StandingTicket, version: str, now: datetime) -> Standing:
        """Accept a ticket, or go on with it; its version is the one that it was first given.

        Raises:
            Refused: `standing.closed`; `ticket.replayed` for another order under the same id.
        """
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO standing(ticket_id, product_id, signed, state, version, opened_at) "
                "VALUES (?, ?, ?, 'building', ?, ?)",
                (ticket.ticket_id, ticket.product_id, encode(signed), version, now.isoformat()),
            )
            found = _standing(connection.execute(f"{SELECT} WHERE ticket_id = ?", (ticket.ticket_id,)).fetchone())
        if found.state is State.CLOSED:
            raise Refused("standing.closed")
        if found.signed is None or found.signed.payload != signed.payload:
            raise Refused("ticket.replayed")
        return found

    def publish(self, ticket_id: str, product_id: str, built: bytes) -> None:
        """From now on that ticket answers for its product, and no earlier one, nor one whose tables are half built.

        Raises:
            Refused: `standing.closed` when it was closed while it was being built.
        """
        with self._database.transaction() as connection:
            changed = connection.execute(
                "UPDATE standing SET state = 'open', built = ? WHERE ticket_id = ? AND state = 'building'",
                (built, ticket_id),
            )
            if changed.rowcount != 1:
                raise Refused("standing.closed")
            connection.execute(
                "UPDATE standing SET state = 'closed' WHERE state <> 'closed' AND product_id = ? "
                "AND number < (SELECT number FROM standing WHERE ticket_id = ?)",
                (product_id, ticket_id),
            )

    def close(self, ticket_id: str, now: datetime) -> None:
        """Closed for good, also a ticket that has not come yet."""
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO standing(ticket_id, product_id, state, version, opened_at) VALUES (?, '', 'closed', '', ?)"
                " ON CONFLICT (ticket_id) DO UPDATE SET state = 'closed'",
                (ticket_id, now.isoformat()),
            )


def close_all(connection: sqlite3.Connection) -> None:
    """After a restore no standing ticket of before is good."""
    connection.execute("UPDATE standing SET state = 'closed' WHERE state <> 'closed'")


def _standing(row: tuple[str, str, bytes | None, str, str, bytes | None, int]) -> Standing:
    ticket_id, product_id, signed, state, version, built, calls = row
    order = decode(signed, Signed) if signed is not None else None
    return Standing(ticket_id, product_id, order, State(state), version, built, calls)
