"""The enclave's SQLite file: one connection, explicit transactions, full sync at every commit."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from enclave_runner.contract.errors import Failed


class Database:
    """Serialises every transaction of the enclave; several threads may use it."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
        # With recursive triggers a row that REPLACE would remove is kept by the trigger that keeps it from DELETE.
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "recursive_triggers = ON"):
            self._connection.execute(f"PRAGMA {pragma}")

    def create(self, schema: str) -> None:
        """Create what is missing of a schema."""
        with self._lock:
            self._connection.executescript(schema)

    def close(self) -> None:
        """Release the file."""
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, durable when it returns.

        Raises:
            Failed: `ledger.write` when the file cannot be read or written.
        """
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                self._connection.execute("COMMIT")
            except sqlite3.Error:
                self._rollback()
                raise Failed("ledger.write") from None
            except BaseException:
                self._rollback()
                raise

    def _rollback(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
