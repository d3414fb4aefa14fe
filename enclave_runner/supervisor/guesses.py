"""How much each business was told, which only grows: milli-bits about a subject, evaluations of an attribute.

A question with n possible answers tells at most log2(n) bits. What a call may come to tell is reserved in memory
before the cryptography runs, so that calls at once never pass a limit together, and is durable (in the transaction of
the call's receipt) before the answer leaves. Sums over all businesses never refuse: one business could lock out
another. They are shown as alarms.
"""

from __future__ import annotations

import math
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from enclave_runner.contract.errors import Failed
from enclave_runner.contract.wire import Alarm

SCHEMA = """
CREATE TABLE IF NOT EXISTS tally_scopes(
    number INTEGER PRIMARY KEY, kind TEXT NOT NULL, dataset_id TEXT NOT NULL, attribute TEXT NOT NULL,
    version TEXT NOT NULL, UNIQUE (kind, dataset_id, attribute, version));
CREATE TABLE IF NOT EXISTS tallies(
    scope INTEGER NOT NULL REFERENCES tally_scopes, subject BLOB NOT NULL, caller_id TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (amount >= 0), newest INTEGER NOT NULL, PRIMARY KEY (scope, subject, caller_id)
    ) WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS tallies_keep BEFORE DELETE ON tallies BEGIN SELECT RAISE(ABORT, 'guesses only grow'); END;
CREATE TRIGGER IF NOT EXISTS tallies_grow BEFORE UPDATE ON tallies
    WHEN NEW.amount < OLD.amount OR (NEW.scope, NEW.subject, NEW.caller_id) <> (OLD.scope, OLD.subject, OLD.caller_id)
    BEGIN SELECT RAISE(ABORT, 'guesses only grow'); END;
"""
GUESSES, EVALUATIONS, MOVES = "guesses", "evaluations", "moves"
MAX_ALARMS = 1000


class Scope(NamedTuple):
    """What is counted, of what: `version` is a data version, or a table version."""

    kind: str
    dataset_id: str
    attribute: str
    version: str


class Tally(NamedTuple):
    """One counter. `subject` is a pseudonym, empty where the subject is hidden."""

    scope: Scope
    subject: bytes
    caller_id: str


Amounts = Mapping[Tally, int]


class OverLimitError(Exception):
    """The first counter that would pass the limit, and how much of it is left."""

    def __init__(self, tally: Tally, left: int) -> None:
        super().__init__("over the limit")
        self.tally, self.left = tally, left


@dataclass
class _Live:
    total: int
    users: int


class Tallies:
    """Every counter that a call under way has touched is held in memory with its whole total; others are on disk.

    Several threads may use it.
    """

    def __init__(self, path: Path) -> None:
        # A connection of its own: reading does not wait for commits, and sees only what is durable.
        self._reader = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
        self._reader.execute("PRAGMA query_only = ON")
        self._lock, self._reading = threading.Lock(), threading.Lock()
        self._live: dict[Tally, _Live] = {}
        self._scopes: dict[Scope, int] = {}

    def close(self) -> None:
        """Release the file."""
        self._reader.close()

    def total(self, tally: Tally) -> int:
        """What the counter shows, with what is reserved."""
        with self._lock:
            live = self._live.get(tally)
            return live.total if live else self._durable(tally)

    def reserve(self, amounts: Amounts, limit: int) -> None:
        """Count these in memory from now on: all of them, or none. Each reservation is ended by `release`.

        Raises:
            OverLimitError: the first that would pass the limit.
        """
        with self._lock:
            totals = {}
            for tally, amount in amounts.items():
                live = self._live.get(tally)
                totals[tally] = live.total if live else self._durable(tally)
                if totals[tally] + amount > limit:
                    raise OverLimitError(tally, max(0, limit - totals[tally]))
            for tally, amount in amounts.items():
                live = self._live.setdefault(tally, _Live(totals[tally], 0))
                live.total += amount
                live.users += 1

    def reserve_up_to(self, tallies: frozenset[Tally], amount: int) -> dict[Tally, int]:
        """Count each up to `amount`, once and for all: what a second asking tells again is nothing new."""
        with self._lock:
            added = {}
            for tally in tallies:
                live = self._live.setdefault(tally, _Live(self._durable(tally), 0))
                added[tally] = max(0, amount - live.total)
                live.total += added[tally]
                live.users += 1
            return added

    def release(self, amounts: Amounts, is_durable: bool) -> None:
        """End a reservation: its amounts are durable by now, or never will be."""
        with self._lock:
            for tally, amount in amounts.items():
                live = self._live[tally]
                live.users -= 1
                if not is_durable:
                    live.total -= amount
                if live.users == 0:
                    del self._live[tally]

    def alarms(self, milli_bits: int) -> tuple[Alarm, ...]:
        """The subjects about whose attribute all businesses together have asked more than that, newest first."""
        rows = self._read(
            "SELECT subject, dataset_id, attribute, version, sum(amount) AS asked, count(*), max(newest) AS last "
            "FROM tallies JOIN tally_scopes ON number = scope WHERE kind = ? GROUP BY scope, subject "
            "HAVING asked > ? ORDER BY last DESC LIMIT ?",
            (GUESSES, milli_bits, MAX_ALARMS),
        )
        return tuple(
            Alarm(
                pseudonym=subject.hex(),
                dataset_id=dataset_id,
                attribute=attribute,
                data_version=version,
                milli_bits=asked,
                callers=callers,
            )
            for subject, dataset_id, attribute, version, asked, callers, _ in rows
        )

    def _durable(self, tally: Tally) -> int:
        number = self._scopes.get(tally.scope)
        if number is None:
            found = self._read(
                "SELECT number FROM tally_scopes WHERE kind = ? AND dataset_id = ? AND attribute = ? AND version = ?",
                tally.scope,
            )
            if not found:
                return 0
            number = self._scopes[tally.scope] = found[0][0]
        rows = self._read(
            "SELECT amount FROM tallies WHERE scope = ? AND subject = ? AND caller_id = ?",
            (number, tally.subject, tally.caller_id),
        )
        return int(rows[0][0]) if rows else 0

    def _read(self, statement: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
        with self._reading:
            try:
                return self._reader.execute(statement, values).fetchall()
            except sqlite3.Error:
                raise Failed("ledger.read") from None


def write(connection: sqlite3.Connection, told: Sequence[tuple[Amounts, int]]) -> None:
    """Add amounts, in the transaction of the receipts whose sequences stand beside them."""
    connection.executemany(
        "INSERT OR IGNORE INTO tally_scopes(kind, dataset_id, attribute, version) VALUES (?, ?, ?, ?)",
        {tally.scope for amounts, _ in told for tally in amounts},
    )
    connection.executemany(
        "INSERT INTO tallies(scope, subject, caller_id, amount, newest) VALUES ((SELECT number FROM tally_scopes "
        "WHERE kind = ? AND dataset_id = ? AND attribute = ? AND version = ?), ?, ?, ?, ?) "
        "ON CONFLICT DO UPDATE SET amount = amount + excluded.amount, newest = excluded.newest",
        [
            (*tally.scope, tally.subject, tally.caller_id, amount, sequence)
            for amounts, sequence in told
            for tally, amount in amounts.items()
        ],
    )


def milli_bits(outcomes: int) -> int:
    """What an answer out of that many tells at most: 1000 · log2(outcomes), rounded up."""
    if outcomes < 1 << 20:
        return math.ceil(1000 * math.log2(outcomes))
    return 1000 * (outcomes - 1).bit_length()  # far beyond what a float tells apart
