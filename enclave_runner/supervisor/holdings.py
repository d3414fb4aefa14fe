"""Which data versions the enclave holds, and the signed spec of each. Versions are added and dropped, never changed.

What was dropped stays on record: its name is not used again, and its dataset keeps its entity set and key."""

from __future__ import annotations

from dataclasses import dataclass

from enclave_runner.contract.codec import decode, encode
from enclave_runner.contract.dataset import DatasetSpec
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.wire import Holding
from enclave_runner.supervisor.database import Database

SCHEMA = """
CREATE TABLE IF NOT EXISTS holdings(
    number INTEGER PRIMARY KEY, dataset_id TEXT NOT NULL, version TEXT NOT NULL, file TEXT NOT NULL, rows INTEGER NOT
        NULL,
    spec BLOB NOT NULL, imported_at TEXT NOT NULL, UNIQUE (dataset_id, version));
CREATE TABLE IF NOT EXISTS drops(
    number INTEGER NOT NULL REFERENCES holdings(number), column_name TEXT NOT NULL, dropped_at TEXT NOT NULL,
    PRIMARY KEY (number, column_name));
"""
WHOLE = ""  # in place of a column's name: the version itself was dropped
SELECT = (
    "SELECT dataset_id, version, file, rows, spec, imported_at, (SELECT group_concat(column_name, ',') FROM drops "
    "WHERE drops.number = holdings.number AND column_name <> '') FROM holdings "
)
KEPT = "NOT EXISTS (SELECT 1 FROM drops WHERE drops.number = holdings.number AND column_name = '') "


@dataclass(frozen=True)
class HeldVersion:
    """A published data version and the spec under which it was imported."""

    dataset_id: str
    version: str
    file: str
    rows: int
    spec: DatasetSpec
    imported_at: str
    dropped: frozenset[str] = frozenset()

    def require(self, columns: tuple[str, ...], with_key: bool) -> None:
        """Raise Refused(`dataset.column-dropped`) when one of these, or the entity's key, is no longer held."""
        for column in (*columns, self.spec.entity_column) if with_key else columns:
            if column in self.dropped:
                raise Refused("dataset.column-dropped", dataset=self.dataset_id, column=column)


@dataclass(frozen=True)
class Drop:
    """What was dropped: one column of a version, or the version itself when `column` is None."""

    file: str
    column: str | None


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
        """One version of a dataset that was not dropped, the newest unless one is named."""
        return self._first(
            f"{SELECT} WHERE dataset_id = ? AND (? IS NULL OR version = ?) AND {KEPT} ORDER BY number DESC LIMIT 1",
            (dataset_id, version, version),
        )

    def last_imported(self, dataset_id: str) -> HeldVersion | None:
        """The newest version ever, dropped or not: what the next import is numbered and checked by."""
        return self._first(f"{SELECT} WHERE dataset_id = ? ORDER BY number DESC LIMIT 1", (dataset_id,))

    def newest(self) -> tuple[HeldVersion, ...]:
        """The newest version of every dataset that has one left."""
        return self._all(
            f"{SELECT} WHERE number IN (SELECT max(number) FROM holdings WHERE {KEPT} GROUP BY dataset_id) "
            "ORDER BY dataset_id",
            (),
        )

    def versions(self, dataset_id: str) -> tuple[HeldVersion, ...]:
        """Every version of a dataset that was not dropped, oldest first."""
        return self._all(f"{SELECT} WHERE dataset_id = ? AND {KEPT} ORDER BY number", (dataset_id,))

    def drop(self, held: HeldVersion, column: str | None, at: str) -> None:
        """Put on record that a version, or one column of it, is no longer held. Once on record it is final."""
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO drops SELECT number, ?, ? FROM holdings WHERE dataset_id = ? AND version = ?",
                (column or WHOLE, at, held.dataset_id, held.version),
            )

    def drops(self) -> tuple[Drop, ...]:
        """Everything that was ever dropped."""
        with self._database.transaction() as connection:
            rows = connection.execute(
                "SELECT file, column_name FROM drops JOIN holdings USING (number) ORDER BY number, column_name"
            ).fetchall()
        return tuple(Drop(file, column or None) for file, column in rows)

    def files(self) -> frozenset[str]:
        """The names of every version in the raw store that was not dropped."""
        with self._database.transaction() as connection:
            return frozenset(row[0] for row in connection.execute(f"SELECT file FROM holdings WHERE {KEPT}"))

    def listed(self) -> tuple[Holding, ...]:
        """The holdings as they are told outside."""
        return tuple(
            Holding(
                dataset_id=held.dataset_id,
                version=held.version,
                rows=held.rows,
                imported_at=held.imported_at,
                dropped=tuple(sorted(held.dropped)),
            )
            for held in self.newest()
        )

    def _first(self, statement: str, values: tuple[object, ...]) -> HeldVersion | None:
        found = self._all(statement, values)
        return found[0] if found else None

    def _all(self, statement: str, values: tuple[object, ...]) -> tuple[HeldVersion, ...]:
        with self._database.transaction() as connection:
            return tuple(_held(row) for row in connection.execute(statement, values).fetchall())


def _held(row: tuple[str, str, str, int, bytes, str, str | None]) -> HeldVersion:
    dataset_id, version, file, rows, spec, imported_at, dropped = row
    names = frozenset(dropped.split(",")) if dropped else frozenset[str]()
    return HeldVersion(dataset_id, version, file, rows, decode(spec, DatasetSpec), imported_at, names)
