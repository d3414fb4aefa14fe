"""Verification tables at rest: piece by piece in the raw store, under its suite and its key wrapping.

A table version is made of pieces (its secrets, the plain table, the records, cells chunk by chunk, matrix, hint), each
with a data key of its own and whole or not there at all: a build that was killed goes on with what it has. They can be
built again from the raw tables and are in no backup (their names begin with a dot). What is opened is sealed memory.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from typing import TypeVar

from enclave_runner.contract.codec import Value, decode, encode
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.jail.launcher import MemoryFile
from enclave_runner.rawdata.store import RawStore
from enclave_runner.supervisor.database import Database

SCHEMA = """
CREATE TABLE IF NOT EXISTS table_pieces(
    version TEXT NOT NULL, piece TEXT NOT NULL, is_whole INTEGER NOT NULL, PRIMARY KEY (version, piece));
"""
OWNER = ".table"  # no dataset has a dot in its name
SECRETS, PLAIN, RECORDS, SHAPE, MATRIX, HINT = "secrets", "plain", "records", "shape", "matrix", "hint"
SERVED = (SECRETS, PLAIN, MATRIX, HINT)  # what a product is served from; the rest is done with when it is built
SECRET_BYTES = 32
PART = 1 << 20
T = TypeVar("T", bound=Value)


class Secrets(Value, frozen=True):
    """What one table version drew: the secrets of its subjects' digests and of P2's openings, the OPRF key of P3 and
    P4, and the seed of P4's public matrix."""

    subjects: bytes
    openings: bytes
    oprf_key: bytes
    seed: bytes


class VerificationTables:
    """The pieces of all versions. Several threads may use it; a piece is written by one."""

    def __init__(self, store: RawStore, database: Database) -> None:
        self._store, self._database = store, database
        self._dropping = threading.Lock()
        database.create(SCHEMA)

    def keep(self, version: str, piece: str, descriptor: int) -> None:
        """Encrypt the content of sealed or finished memory; durable when this returns.

        Raises:
            Failed: `rawdata.write`, `ledger.write`, `kms.…`; `table.dropped` when its version was dropped meanwhile.
        """
        name = _name(version, piece)
        with self._database.transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO table_pieces VALUES (?, ?, 0)", (version, piece))
        self._remove(name)  # what a crash left between the folder and its record
        draft = self._store.draft(OWNER, (piece,))
        try:
            for part in _parts(descriptor):
                draft.write(0, part)
            self._store.publish(draft, OWNER, name.removeprefix(f"{OWNER}@"))
        finally:
            self._store.discard(draft)
        with self._database.transaction() as connection:
            changed = connection.execute(
                "UPDATE table_pieces SET is_whole = 1 WHERE version = ? AND piece = ?", (version, piece)
            )
        if changed.rowcount != 1:
            self._remove(name)
            raise Failed("table.dropped")

    def has(self, version: str, piece: str) -> bool:
        """Whether that piece is whole."""
        with self._database.transaction() as connection:
            row = connection.execute(
                "SELECT is_whole FROM table_pieces WHERE version = ? AND piece = ?", (version, piece)
            ).fetchone()
        return row is not None and bool(row[0])

    def open(self, version: str, piece: str) -> int:
        """The piece in sealed memory; the caller closes it.

        Raises:
            Failed: `rawdata.missing`, `rawdata.damaged`, `kms.…`.
        """
        (descriptor,) = self._store.open_columns(_name(version, piece), (piece,))
        return descriptor

    def value(self, version: str, piece: str, kind: type[T]) -> T:
        """A small piece that is one value.

        Raises:
            Failed: as `open`.
        """
        descriptor = self.open(version, piece)
        try:
            return decode(os.pread(descriptor, os.fstat(descriptor).st_size, 0), kind)
        except Refused:
            raise Failed("rawdata.damaged") from None
        finally:
            os.close(descriptor)

    def keep_value(self, version: str, piece: str, value: Value) -> None:
        """Keep a value like any piece."""
        with MemoryFile(encode(value)) as file:
            self.keep(version, piece, file.descriptor)

    def versions(self) -> frozenset[str]:
        """Every version of which there is a piece, whole or not."""
        with self._database.transaction() as connection:
            return frozenset(row[0] for row in connection.execute("SELECT DISTINCT version FROM table_pieces"))

    def names(self) -> frozenset[str]:
        """The names of all pieces in the raw store."""
        with self._database.transaction() as connection:
            rows = connection.execute("SELECT version, piece FROM table_pieces").fetchall()
        return frozenset(_name(version, piece) for version, piece in rows)

    def drop(self, version: str, keeping: Iterable[str] = ()) -> None:
        """Remove a version's pieces with their keys, but for those that are kept; harmless when they are gone.

        Raises:
            Failed: `rawdata.…`.
        """
        with self._database.transaction() as connection:
            rows = connection.execute("SELECT piece FROM table_pieces WHERE version = ?", (version,)).fetchall()
        dropped = [piece for (piece,) in rows if piece not in frozenset(keeping)]
        for piece in dropped:
            self._remove(_name(version, piece))
        with self._database.transaction() as connection:
            connection.executemany(
                "DELETE FROM table_pieces WHERE version = ? AND piece = ?", [(version, piece) for piece in dropped]
            )

    def _remove(self, name: str) -> None:
        with self._dropping:  # or two that remove the same would meet
            self._store.drop_version(name)


def _name(version: str, piece: str) -> str:
    return f"{OWNER}@{version}-{piece}"


def _parts(descriptor: int) -> Iterable[bytes]:
    offset = 0
    while part := os.pread(descriptor, PART, offset):
        yield part
        offset += len(part)
