"""Every attestation that the enclave ever gave, numbered, in its ledger's file. Append-only."""

from __future__ import annotations

from collections.abc import Callable

from enclave_runner.contract.codec import decode, encode
from enclave_runner.contract.signing import Signed
from enclave_runner.supervisor.database import Database

SCHEMA = """
CREATE TABLE IF NOT EXISTS attestations(number INTEGER PRIMARY KEY, signed BLOB NOT NULL);
CREATE TRIGGER IF NOT EXISTS attestations_keep BEFORE DELETE ON attestations
    BEGIN SELECT RAISE(ABORT, 'append only'); END;
CREATE TRIGGER IF NOT EXISTS attestations_fixed BEFORE UPDATE ON attestations
    BEGIN SELECT RAISE(ABORT, 'append only'); END;
"""


class AttestationLog:
    """Every method is one transaction; several threads may call it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.create(SCHEMA)

    def append(self, make: Callable[[int], Signed]) -> Signed:
        """Make the attestation with the next number, and hand it out only when it is durably recorded.

        Raises:
            Failed: `ledger.write`; then nothing is handed out.
        """
        with self._database.transaction() as connection:
            (last,) = connection.execute("SELECT coalesce(max(number), 0) FROM attestations").fetchone()
            signed = make(last + 1)
            connection.execute("INSERT INTO attestations VALUES (?, ?)", (last + 1, encode(signed)))
        return signed

    def all(self) -> tuple[Signed, ...]:
        """Every attestation, oldest first."""
        with self._database.transaction() as connection:
            rows = connection.execute("SELECT signed FROM attestations ORDER BY number").fetchall()
        return tuple(decode(row[0], Signed) for row in rows)
