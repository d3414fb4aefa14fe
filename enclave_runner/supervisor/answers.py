"""Answers that were given: the same question of the same grant gets the same bytes again, at no new loss.

Post-processing: what has left once tells nothing new when it leaves again. A row names the receipt whose release it is,
so the table holds one row of about 150 bytes for each different question that a grant has asked; a grant asks at most
`max_uses`. Rows are kept as long as the log. What was refused or failed has no release and is never kept.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from enclave_runner.contract.codec import decode
from enclave_runner.contract.receipt import Receipt
from enclave_runner.contract.signing import Signed

SCHEMA = """
CREATE TABLE IF NOT EXISTS answers(
    grant_id TEXT NOT NULL, key TEXT NOT NULL, sequence INTEGER NOT NULL REFERENCES receipts,
    PRIMARY KEY (grant_id, key)) WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS answers_keep BEFORE DELETE ON answers BEGIN SELECT RAISE(ABORT, 'append only'); END;
CREATE TRIGGER IF NOT EXISTS answers_fixed BEFORE UPDATE ON answers BEGIN SELECT RAISE(ABORT, 'append only'); END;
"""


@dataclass(frozen=True)
class Answered:
    """The ticket and receipt of the first answer, and the bytes that it released."""

    ticket_id: str
    receipt_id: str
    release: bytes


def find(connection: sqlite3.Connection, grant_id: str, key: str) -> Answered | None:
    """The first answer to that question of that grant. `key` is the digest of all that the answer depends on."""
    row = connection.execute(
        "SELECT signed, release FROM answers JOIN receipts USING (sequence) WHERE grant_id = ? AND key = ?",
        (grant_id, key),
    ).fetchone()
    if row is None:
        return None
    receipt = decode(decode(row[0], Signed).payload, Receipt)
    return Answered(receipt.ticket_id, receipt.receipt_id, row[1])


def keep(connection: sqlite3.Connection, ticket_id: str, key: str) -> None:
    """Remember what the ticket released under its grant. Of two answers that were under way at once the first stays."""
    connection.execute(
        "INSERT OR IGNORE INTO answers(grant_id, key, sequence) SELECT grant_id, ?, sequence "
        "FROM receipts JOIN tickets USING (ticket_id) WHERE ticket_id = ? AND release IS NOT NULL",
        (key, ticket_id),
    )
