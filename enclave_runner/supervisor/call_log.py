"""The log of calls, committed in groups: all calls that wait share one durable transaction and one signature.

Whoever finds nobody committing commits for all that wait; the others wait for it, and for the next group gather behind
it. No answer leaves before its receipt and its guesses are durable. What only the ledger can decide for calls at once
is decided here, in the transaction: whether a call id was used, and whether the grant has a use left.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from enclave_runner.contract.call import BATCH_PURPOSE, NO_BATCH, CallBatch, CallReceipt, SettledCall, batch_digest
from enclave_runner.contract.codec import decode, encode
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.grant import Grant
from enclave_runner.contract.merkle import leaf_hash, node_hash
from enclave_runner.contract.signing import Signed, Signer, seal
from enclave_runner.contract.wire import BatchRecord, CallLog
from enclave_runner.supervisor import guesses
from enclave_runner.supervisor.database import Database
from enclave_runner.supervisor.guesses import Amounts

SCHEMA = """
CREATE TABLE IF NOT EXISTS call_batches(
    number INTEGER PRIMARY KEY, first INTEGER UNIQUE NOT NULL, count INTEGER NOT NULL, signed BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS calls(
    sequence INTEGER PRIMARY KEY, caller_id TEXT NOT NULL, call_id BLOB NOT NULL, receipt BLOB NOT NULL,
    UNIQUE (caller_id, call_id));
CREATE TABLE IF NOT EXISTS call_uses(grant_id TEXT PRIMARY KEY, units INTEGER NOT NULL);
CREATE TRIGGER IF NOT EXISTS calls_keep BEFORE DELETE ON calls BEGIN SELECT RAISE(ABORT, 'append only'); END;
CREATE TRIGGER IF NOT EXISTS calls_fixed BEFORE UPDATE ON calls BEGIN SELECT RAISE(ABORT, 'append only'); END;
CREATE TRIGGER IF NOT EXISTS batches_keep BEFORE DELETE ON call_batches BEGIN SELECT RAISE(ABORT, 'append only'); END;
CREATE TRIGGER IF NOT EXISTS batches_fixed BEFORE UPDATE ON call_batches BEGIN SELECT RAISE(ABORT, 'append only'); END;
CREATE TRIGGER IF NOT EXISTS uses_keep BEFORE DELETE ON call_uses BEGIN SELECT RAISE(ABORT, 'uses only grow'); END;
CREATE TRIGGER IF NOT EXISTS uses_grow BEFORE UPDATE ON call_uses WHEN NEW.units < OLD.units
    BEGIN SELECT RAISE(ABORT, 'uses only grow'); END;
"""
MAX_GROUP = 256
# A restored log goes on far behind anything that it can have forgotten: numbers are not used twice.
RESTORED_STEP = 1 << 40
REPLY_BYTES = 6 << 20  # receipts in one answer to AskCalls; in JSON a third more
REPLY_BATCHES = 1000
# Makes the receipt for its sequence and time; a refusal where the ledger refused.
Maker = Callable[[int, datetime, Refused | None], CallReceipt]


@dataclass
class Entry:
    """A call that has ended but for its receipt. `refused` is set when the ledger refuses it after all."""

    caller_id: str
    call_id: bytes
    ticket_id: str
    grant: Grant
    units: int
    amounts: Amounts
    make: Maker
    refused: Refused | None = None
    settled: SettledCall | None = None
    error: Exception | None = None
    is_done: bool = False


@dataclass(frozen=True)
class _Head:
    number: int
    sequence: int
    digest: str


class CallCommits:
    """Commits the receipts of calls. Several threads may use it."""

    def __init__(
        self, database: Database, signer: Signer, measurement_sha256: str, clock: Callable[[], datetime]
    ) -> None:
        self._database, self._signer, self._clock = database, signer, clock
        self._measurement_sha256 = measurement_sha256
        self._gathering, self._committing = threading.Lock(), threading.Lock()
        self._waiting: list[Entry] = []
        self._head: _Head | None = None
        self._used: dict[str, int] = {}
        database.create(SCHEMA)
        with database.transaction() as connection:
            self.latest = _latest(connection)

    def settle(self, entry: Entry) -> SettledCall:
        """The durable receipt of a call. `entry.refused` is set where the ledger refused it: its answer must not leave.

        Raises:
            Refused: `call.used` when that caller has a receipt under that call id already; nothing is written then.
            Failed: `ledger.write`; nothing is written then.
        """
        with self._gathering:
            self._waiting.append(entry)
        with self._committing:
            while not entry.is_done:
                with self._gathering:
                    group, self._waiting = self._waiting[:MAX_GROUP], self._waiting[MAX_GROUP:]
                self._commit(group)
        if entry.error is not None:
            raise entry.error
        if entry.settled is None:
            raise Failed("ledger.write")
        return entry.settled

    def uses(self, grant_id: str) -> int:
        """How often a grant was used as of its newest call: by tickets, and by answered questions."""
        return self._used.get(grant_id, 0)

    def next_number(self) -> int:
        """The number of the next batch."""
        head = self._head
        if head is None:
            with self._database.transaction() as connection:
                head = _head(connection)
        return head.number

    def batches(self, since: int) -> CallLog:
        """Batches from that number on, as many as fit into one reply."""
        with self._database.transaction() as connection:
            rows = connection.execute(
                "SELECT signed, first, count FROM call_batches WHERE number >= ? ORDER BY number LIMIT ?",
                (since, REPLY_BATCHES),
            ).fetchall()
            records: list[BatchRecord] = []
            size = 0
            for signed, first, count in rows:
                receipts = tuple(
                    row[0]
                    for row in connection.execute(
                        "SELECT receipt FROM calls WHERE sequence >= ? AND sequence < ? ORDER BY sequence",
                        (first, first + count),
                    )
                )
                size += len(signed) + sum(map(len, receipts))
                if records and size > REPLY_BYTES:
                    break
                records.append(BatchRecord(batch=decode(signed, Signed), receipts=receipts))
        return CallLog(batches=tuple(records))

    def _commit(self, group: Sequence[Entry]) -> None:
        try:
            self._write(group)
        except Exception as error:
            self._head = None  # nothing of it is in the file
            for entry in group:
                entry.settled, entry.error = None, error
        for entry in group:
            entry.is_done = True

    def _write(self, group: Sequence[Entry]) -> None:
        with self._database.transaction() as connection:
            head = self._head or _head(connection)
            now = self._clock().replace(microsecond=0)
            entries = _unused(connection, group)
            if not entries:
                return
            used = _refuse_overused(connection, entries)
            receipts = [
                encode(entry.make(head.sequence + index, now, entry.refused)) for index, entry in enumerate(entries)
            ]
            paths, root = _paths([leaf_hash(receipt) for receipt in receipts])
            batch = CallBatch(
                number=head.number,
                first=head.sequence,
                count=len(entries),
                root=root.hex(),
                previous=head.digest,
                measurement_sha256=self._measurement_sha256,
                finished_at=now,
            )
            signed = seal(batch, BATCH_PURPOSE, self._signer)
            _insert(connection, batch, signed, entries, receipts)
            latest = _latest(connection)
        self._head = _Head(head.number + 1, head.sequence + len(entries), batch_digest(signed))
        self._used |= used
        self.latest = max(self.latest, latest)
        for entry, receipt, path in zip(entries, receipts, paths, strict=True):
            entry.settled = SettledCall(receipt=receipt, path=path, batch=signed)


def grant_units(connection: sqlite3.Connection, grant_id: str) -> int:
    """How many answered questions that grant was used for."""
    row = connection.execute("SELECT units FROM call_uses WHERE grant_id = ?", (grant_id,)).fetchone()
    return int(row[0]) if row else 0


def units_by_grant(connection: sqlite3.Connection) -> dict[str, int]:
    """The answered questions of every grant that had any."""
    return dict(connection.execute("SELECT grant_id, units FROM call_uses WHERE units > 0 ORDER BY grant_id"))


def _latest(connection: sqlite3.Connection) -> datetime:
    """The issue of the newest accepted ticket: the time never goes back behind it."""
    row = connection.execute("SELECT latest FROM clock").fetchone()
    return datetime.fromisoformat(row[0]) if row else datetime.min.replace(tzinfo=UTC)


def _head(connection: sqlite3.Connection) -> _Head:
    row = connection.execute(
        "SELECT number, first, count, signed FROM call_batches ORDER BY number DESC LIMIT 1"
    ).fetchone()
    (restores,) = connection.execute("SELECT count(*) FROM restorations").fetchone()
    floor = restores * RESTORED_STEP
    if row is None:
        return _Head(floor, floor, NO_BATCH)
    number, first, count, signed = row
    return _Head(max(number + 1, floor), max(first + count, floor), batch_digest(decode(signed, Signed)))


def _unused(connection: sqlite3.Connection, group: Sequence[Entry]) -> list[Entry]:
    """The calls whose id their caller has not used yet; the others are refused without a receipt."""
    found, seen = [], set[tuple[str, bytes]]()
    for entry in group:
        name = (entry.caller_id, entry.call_id)
        known = connection.execute("SELECT 1 FROM calls WHERE caller_id = ? AND call_id = ?", name).fetchone()
        if known or name in seen:
            entry.error = Refused("call.used")
        else:
            seen.add(name)
            found.append(entry)
    return found


def _refuse_overused(connection: sqlite3.Connection, entries: Sequence[Entry]) -> dict[str, int]:
    """Refuse what no use of its grant is left for; how often each grant was used after the others."""
    used: dict[str, int] = {}
    for entry in entries:
        grant_id = entry.grant.grant_id
        if grant_id not in used:
            (tickets,) = connection.execute(
                "SELECT count(*) FROM tickets WHERE grant_id = ? AND state <> 'refused'", (grant_id,)
            ).fetchone()
            used[grant_id] = tickets + grant_units(connection, grant_id)
        if entry.units and used[grant_id] + entry.units > entry.grant.max_uses:
            entry.units, entry.amounts = 0, {}
            entry.refused = Refused("grant.uses", max=entry.grant.max_uses)
        used[grant_id] += entry.units
    return used


def _insert(
    connection: sqlite3.Connection,
    batch: CallBatch,
    signed: Signed,
    entries: Sequence[Entry],
    receipts: Sequence[bytes],
) -> None:
    connection.execute(
        "INSERT INTO call_batches VALUES (?, ?, ?, ?)", (batch.number, batch.first, batch.count, encode(signed))
    )
    connection.executemany(
        "INSERT INTO calls VALUES (?, ?, ?, ?)",
        [
            (batch.first + index, entry.caller_id, entry.call_id, receipt)
            for index, (entry, receipt) in enumerate(zip(entries, receipts, strict=True))
        ],
    )
    guesses.write(connection, [(entry.amounts, batch.first + index) for index, entry in enumerate(entries)])
    units, calls = Counter[str](), Counter[str]()
    for entry in entries:
        units[entry.grant.grant_id] += entry.units
        calls[entry.ticket_id] += 1
    connection.executemany(
        "INSERT INTO call_uses VALUES (?, ?) ON CONFLICT DO UPDATE SET units = units + excluded.units", units.items()
    )
    connection.executemany(
        "UPDATE standing SET calls = calls + ? WHERE ticket_id = ?", [(count, name) for name, count in calls.items()]
    )


def _paths(leaves: list[bytes]) -> tuple[list[tuple[bytes, ...]], bytes]:
    """Every leaf's audit path (RFC 6962, 2.1.1) and the root: level by level, an odd last node goes up as it is."""
    paths: list[list[bytes]] = [[] for _ in leaves]
    level, places = leaves, list(range(len(leaves)))
    while len(level) > 1:
        for leaf, place in enumerate(places):
            if place ^ 1 < len(level):
                paths[leaf].append(level[place ^ 1])
            places[leaf] = place >> 1
        level = [
            node_hash(*level[start : start + 2]) if start + 1 < len(level) else level[start]
            for start in range(0, len(level), 2)
        ]
    return [tuple(path) for path in paths], level[0]
