"""The enclave's durable memory of use: nonces, odometer, receipt log. One SQLite file, one writer, full sync.

Privacy loss is reserved before data are touched. Only what is certain not to have been spent is given back, once, when
the ticket is closed; a crash gives nothing back. A ticket is used once; a receipt, its place in the Merkle log and the
end of its reservation are one transaction. What a crash leaves open is found at the next start.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime

from enclave_runner.contract.codec import decode, encode
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.grant import Grant
from enclave_runner.contract.merkle import Checkpoint, Frontier, sign_checkpoint
from enclave_runner.contract.receipt import PURPOSE, Receipt
from enclave_runner.contract.signing import Signed, Signer, seal
from enclave_runner.contract.ticket import Ticket
from enclave_runner.contract.wire import GrantReading, Reading, Settlement
from enclave_runner.supervisor import answers, call_log, guesses, odometer, standing, verification_tables
from enclave_runner.supervisor.answers import Answered
from enclave_runner.supervisor.caps import Caps, Losses
from enclave_runner.supervisor.database import Database

RECEIPT_ORIGIN = "yunei.enclave/receipts"
# Makes the receipt for its place in the log and for what was spent in the end.
Maker = Callable[[int, Losses], Receipt]

SCHEMA = """
CREATE TABLE IF NOT EXISTS tickets(
    ticket_id TEXT PRIMARY KEY, grant_id TEXT NOT NULL, signed BLOB NOT NULL, state TEXT NOT NULL, opened_at TEXT NOT
        NULL);
CREATE TABLE IF NOT EXISTS receipts(
    sequence INTEGER PRIMARY KEY, ticket_id TEXT UNIQUE NOT NULL REFERENCES tickets, signed BLOB NOT NULL, release BLOB,
    checkpoint TEXT NOT NULL, frontier BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS restorations(
    number INTEGER PRIMARY KEY, signed BLOB NOT NULL, not_before TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS tickets_of_grant ON tickets(grant_id, state);
CREATE INDEX IF NOT EXISTS tickets_by_state ON tickets(state, opened_at);
CREATE TABLE IF NOT EXISTS clock(one INTEGER PRIMARY KEY CHECK (one = 1), latest TEXT NOT NULL);
CREATE TRIGGER IF NOT EXISTS receipts_keep BEFORE DELETE ON receipts BEGIN SELECT RAISE(ABORT, 'append only'); END;
CREATE TRIGGER IF NOT EXISTS receipts_fixed BEFORE UPDATE ON receipts BEGIN SELECT RAISE(ABORT, 'append only'); END;
CREATE TRIGGER IF NOT EXISTS restorations_keep BEFORE DELETE ON restorations BEGIN SELECT RAISE(ABORT, 'append only');
    END;
CREATE TRIGGER IF NOT EXISTS restorations_fixed BEFORE UPDATE ON restorations BEGIN SELECT RAISE(ABORT, 'append only');
    END;
CREATE TRIGGER IF NOT EXISTS tickets_keep BEFORE DELETE ON tickets BEGIN SELECT RAISE(ABORT, 'nonces are kept'); END;
"""


class Ledger:
    """Every method is one transaction; several threads may call it."""

    def __init__(self, database: Database, signer: Signer, caps: Caps) -> None:
        self._database = database
        self._signer = signer
        self._caps = caps
        with database.transaction() as connection:
            odometer.migrate(connection)
        database.create(SCHEMA + odometer.SCHEMA + answers.SCHEMA)
        database.create(standing.SCHEMA + verification_tables.SCHEMA + call_log.SCHEMA + guesses.SCHEMA)

    def now(self, clock: datetime) -> datetime:
        """The given time, or the issue of the newest accepted ticket: a clock that is put back revives no ticket.

        Only signed times are remembered. A clock that once ran ahead refuses tickets then, and not for ever.
        """
        with self._database.transaction() as connection:
            row = connection.execute("SELECT latest FROM clock").fetchone()
        return max(clock, datetime.fromisoformat(row[0])) if row else clock

    def open_ticket(self, ticket: Ticket, signed: Signed, grant: Grant, losses: Losses, now: datetime) -> None:
        """Use up the ticket and reserve its losses, or refuse and change nothing. Nested entity sets lose as well.

        Raises:
            Refused: `ticket.replayed`, `grant.uses`, `grant.budget`, `odometer.spent`.
        """
        with self._database.transaction() as connection:
            self._use_nonce(connection, ticket, signed, grant.grant_id, "open", now)
            self._remember_time(connection, ticket.issued_at)
            (uses,) = connection.execute(
                "SELECT count(*) FROM tickets WHERE grant_id = ? AND state <> 'refused'", (grant.grant_id,)
            ).fetchone()
            if uses + call_log.grant_units(connection, grant.grant_id) > grant.max_uses:
                raise Refused("grant.uses", max=grant.max_uses)
            odometer.reserve(connection, ticket.ticket_id, grant, self._caps.with_nested(losses), self._caps)
            self._check_forgotten_uses(connection, grant)

    def accept_standing(self, grant: Grant, issued_at: datetime) -> None:
        """Remember the time of a standing ticket that is about to be opened under that grant.

        Raises:
            Refused: `grant.uses` after a restore, for a grant of before: no proof of a restore covers its calls.
        """
        with self._database.transaction() as connection:
            self._check_forgotten_uses(connection, grant)
            (since,) = connection.execute("SELECT max(not_before) FROM restorations").fetchone()
            if since is not None and grant.not_before < datetime.fromisoformat(since):
                raise Refused("grant.uses", max=grant.max_uses)
            self._remember_time(connection, issued_at)

    def _check_forgotten_uses(self, connection: sqlite3.Connection, grant: Grant) -> None:
        """After a lossy restore nobody knows how often earlier grants were used: an officer has to sign new ones."""
        (since,) = connection.execute("SELECT max(opened_at) FROM tickets WHERE state = 'restored'").fetchone()
        if since is not None and grant.not_before < datetime.fromisoformat(since):
            raise Refused("grant.uses", max=grant.max_uses)

    def _remember_time(self, connection: sqlite3.Connection, issued_at: datetime) -> None:
        row = connection.execute("SELECT latest FROM clock").fetchone()
        latest = max(issued_at, datetime.fromisoformat(row[0])) if row else issued_at
        connection.execute("INSERT OR REPLACE INTO clock VALUES (1, ?)", (latest.isoformat(),))

    def _use_nonce(
        self, connection: sqlite3.Connection, ticket: Ticket, signed: Signed, grant_id: str, state: str, now: datetime
    ) -> None:
        try:
            connection.execute(
                "INSERT INTO tickets VALUES (?, ?, ?, ?, ?)",
                (ticket.ticket_id, grant_id, encode(signed), state, now.isoformat()),
            )
        except sqlite3.IntegrityError:
            raise Refused("ticket.replayed") from None

    def refuse_ticket(self, ticket: Ticket, signed: Signed, grant_id: str, make: Maker, now: datetime) -> Settlement:
        """Use up a ticket that a rule refused, with its receipt and no loss.

        Raises:
            Refused: `ticket.replayed`.
        """
        with self._database.transaction() as connection:
            self._use_nonce(connection, ticket, signed, grant_id, "refused", now)
            return self._append(connection, ticket.ticket_id, make, None)

    def close_ticket(
        self,
        ticket_id: str,
        make: Maker,
        release: bytes | None,
        spent: Losses | None = None,
        answer_key: str | None = None,
    ) -> Settlement:
        """End an open ticket with its receipt, the next entry of the log.

        `spent` is what the job has lost in the end, as it was given to `open_ticket`; the rest of what was reserved is
        given back. None keeps all of it: so it must be unless the job itself says that a part of it never ran.
        A release is remembered under `answer_key` for the grant of the ticket.

        Raises:
            Failed: `ledger.not-open`; `ledger.loss` for more than was reserved: nothing is changed.
        """
        with self._database.transaction() as connection:
            row = connection.execute("SELECT state FROM tickets WHERE ticket_id = ?", (ticket_id,)).fetchone()
            if row is None or row[0] != "open":
                raise Failed("ledger.not-open")
            if spent is not None:
                odometer.give_back(connection, ticket_id, self._caps.with_nested(spent))
            connection.execute("UPDATE tickets SET state = 'closed' WHERE ticket_id = ?", (ticket_id,))
            settled = self._append(connection, ticket_id, make, release)
            if answer_key is not None:
                answers.keep(connection, ticket_id, answer_key)
            return settled

    def answered(self, grant_id: str, key: str) -> Answered | None:
        """What was released to that grant before, under that key."""
        with self._database.transaction() as connection:
            return answers.find(connection, grant_id, key)

    def _append(self, connection: sqlite3.Connection, ticket_id: str, make: Maker, release: bytes | None) -> Settlement:
        before = newest_frontier(connection)
        receipt = make(before.size, odometer.losses_of(connection, ticket_id))
        return self._enter(connection, before, ticket_id, seal(receipt, PURPOSE, self._signer), release)

    def _enter(
        self, connection: sqlite3.Connection, before: Frontier, ticket_id: str, signed: Signed, release: bytes | None
    ) -> Settlement:
        sequence, frontier = before.size, before.append(encode(signed))
        note = self._note(frontier)
        connection.execute(
            "INSERT INTO receipts VALUES (?, ?, ?, ?, ?, ?)",
            (sequence, ticket_id, encode(signed), release, note, encode(frontier)),
        )
        return Settlement(receipt=signed, release=release, checkpoint=note)

    def _note(self, frontier: Frontier) -> str:
        checkpoint = Checkpoint(origin=RECEIPT_ORIGIN, size=frontier.size, root=frontier.root)
        return sign_checkpoint(checkpoint, self._signer)

    def settlement(self, ticket_id: str) -> Settlement:
        """How a ticket ended; no receipt when it was never seen or is still open."""
        with self._database.transaction() as connection:
            row = connection.execute(
                "SELECT signed, release, checkpoint FROM receipts WHERE ticket_id = ?", (ticket_id,)
            ).fetchone()
        if row is None:
            return Settlement(receipt=None, release=None, checkpoint=self.checkpoint())
        return Settlement(receipt=decode(row[0], Signed), release=row[1], checkpoint=row[2])

    def checkpoint(self) -> str:
        """The newest signed checkpoint."""
        with self._database.transaction() as connection:
            row = connection.execute("SELECT checkpoint FROM receipts ORDER BY sequence DESC LIMIT 1").fetchone()
        return row[0] if row else self._note(Frontier())

    def contains(self, checkpoint: Checkpoint) -> bool:
        """Whether the log is at least as long as that checkpoint and had its root at its size."""
        with self._database.transaction() as connection:
            return _root_at(connection, checkpoint.size) == checkpoint.root

    def head(self) -> Checkpoint:
        """How many receipts the log has, and its root."""
        with self._database.transaction() as connection:
            frontier = newest_frontier(connection)
        return Checkpoint(origin=RECEIPT_ORIGIN, size=frontier.size, root=frontier.root)

    def not_before(self) -> datetime | None:
        """Tickets issued earlier are void; None when nothing was ever restored here."""
        with self._database.transaction() as connection:
            row = connection.execute("SELECT not_before FROM restorations ORDER BY number DESC LIMIT 1").fetchone()
        return datetime.fromisoformat(row[0]) if row else None

    def restorations(self) -> tuple[Signed, ...]:
        """The signed statement of every restore, oldest first."""
        with self._database.transaction() as connection:
            rows = connection.execute("SELECT signed FROM restorations ORDER BY number").fetchall()
        return tuple(decode(row[0], Signed) for row in rows)

    def receipts(self, since: int, limit: int) -> tuple[Signed, ...]:
        """Signed receipts from that index on."""
        with self._database.transaction() as connection:
            rows = connection.execute(
                "SELECT signed FROM receipts WHERE sequence >= ? ORDER BY sequence LIMIT ?", (since, limit)
            ).fetchall()
        return tuple(decode(row[0], Signed) for row in rows)

    def latest_issue(self) -> datetime | None:
        """The issue of the newest accepted ticket."""
        with self._database.transaction() as connection:
            row = connection.execute("SELECT latest FROM clock").fetchone()
        return datetime.fromisoformat(row[0]) if row else None

    def open_tickets(self) -> tuple[tuple[Signed, Losses], ...]:
        """Tickets that a crash left open, with what they reserved."""
        with self._database.transaction() as connection:
            rows = connection.execute(
                "SELECT ticket_id, signed FROM tickets WHERE state = 'open' ORDER BY opened_at, ticket_id"
            ).fetchall()
            return tuple(
                (decode(signed, Signed), odometer.losses_of(connection, ticket_id)) for ticket_id, signed in rows
            )

    def readings(self, held: frozenset[str] = frozenset()) -> tuple[Reading, ...]:
        """The odometer of every entity set that was ever charged. Tickets that are held count as running."""
        with self._database.transaction() as connection:
            return odometer.readings(connection, held, self._caps)

    def grant_readings(self, held: frozenset[str] = frozenset()) -> tuple[GrantReading, ...]:
        """Uses and losses of every grant that was ever used; an answered question of a call is a use."""
        with self._database.transaction() as connection:
            readings = {item.grant_id: item for item in odometer.grant_readings(connection, held)}
            units = call_log.units_by_grant(connection)
        for grant_id, count in units.items():
            known = readings.get(grant_id, GrantReading(grant_id=grant_id, uses=0, losses=()))
            readings[grant_id] = GrantReading(grant_id=grant_id, uses=known.uses + count, losses=known.losses)
        return tuple(readings[grant_id] for grant_id in sorted(readings))


def newest_frontier(connection: sqlite3.Connection) -> Frontier:
    """The right edge of the receipt log as it stands."""
    row = connection.execute("SELECT frontier FROM receipts ORDER BY sequence DESC LIMIT 1").fetchone()
    return decode(row[0], Frontier) if row else Frontier()


def _root_at(connection: sqlite3.Connection, size: int) -> bytes | None:
    """The log's root when it had that many receipts; None when it never had as many."""
    if size == 0:
        return Frontier().root
    row = connection.execute("SELECT frontier FROM receipts WHERE sequence = ?", (size - 1,)).fetchone()
    return decode(row[0], Frontier).root if row else None


def utc_now() -> datetime:
    """The host's clock."""
    return datetime.now(UTC)
