"""Which data versions the enclave holds, and the signed spec of each. Versions are added, never changed."""

from __future__ import annotations

from dataclasses import dataclass

from enclave_runner.contract.codec import decode, encode
from enclave_runner.contract.dataset import DatasetSpec
from enclave_runner.contract.wire import Holding
from enclave_runner.supervisor.database import Database

SCHEMA = """
CREATE TABLE IF NOT EXISTS holdings(
    number INTEGER PRIMARY KEY, dataset_id TEXT NOT NULL, version TEXT NOT NULL, file TEXT NOT NULL, rows INTEGER NOT
        NULL,
    spec BLOB NOT NULL, imported_at TEXT NOT NULL, UNIQUE (dataset_id, version));
"""


@dataclass(frozen=True)
class HeldVersion:
    """A published data version and the spec under which it was imported."""

    dataset_id: str
    version: str
    file: str
    rows: int
    spec: DatasetSpec
    imported_at: str


class Holdings:
    """Every method is one transaction; several threads may call it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.create(SCHEMA)

    def add(self, held: HeldVersion) -> None:
        """Record a published version; it becomes the current one of its dataset."""
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO holdings(dataset_id, version, file, rows, spec, imported_at) VALUES (?, ?, ?, ?, ?, ?)",
                (held.dataset_id, held.version, held.file, held.rows, encode(held.spec), held.imported_at),
            )

    def find(self, dataset_id: str, version: str | None = None) -> HeldVersion | None:
        """One version of a dataset, the newest unless one is named."""
        with self._database.transaction() as connection:
            row = connection.execute(
                "SELECT dataset_id, version, file, rows, spec, imported_at FROM holdings "
                "WHERE dataset_id = ? AND (? IS NULL OR version = ?) ORDER BY number DESC LIMIT 1",
                (dataset_id, version, version),
            ).fetchone()
        return _held(row) if row else None

    def newest(self) -> tuple[HeldVersion, ...]:
        """The newest version of every dataset."""
        with self._database.transaction() as connection:
            rows = connection.execute(
                "SELECT dataset_id, version, file, rows, spec, imported_at FROM holdings "
                "WHERE number IN (SELECT max(number) FROM holdings GROUP BY dataset_id) ORDER BY dataset_id"
            ).fetchall()
        return tuple(_held(row) for row in rows)

    def files(self) -> frozenset[str]:
        """The file names of every version ever published here."""
        with self._database.transaction() as connection:
            return frozenset(row[0] for row in connection.execute("SELECT file FROM holdings"))

    def listed(self) -> tuple[Holding, ...]:
        """The holdings as they are told outside."""
        return tuple(
            Holding(dataset_id=held.dataset_id, version=held.version, rows=held.rows, imported_at=held.imported_at)
            for held in self.newest()
        )


def _held(row: tuple[str, str, str, int, bytes, str]) -> HeldVersion:
    dataset_id, version, file, rows, spec, imported_at = row
    return HeldVersion(dataset_id, version, file, rows, decode(spec, DatasetSpec), imported_at)
