"""The audit log: an RFC 6962 Merkle tree over the entries, one signed checkpoint after each.

Appending is part of the caller's transaction: an act and its entry are recorded together or not at all. Verifying
recomputes everything and needs only the rows and the public key; anchors (sizes and roots that were written elsewhere,
such as in the enclave's receipts) show a tail that was cut or a log that was written anew.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import DatabaseError

from enclave_runner.contract.codec import decode, encode
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.merkle import Checkpoint, Frontier, leaf_hash, open_checkpoint, sign_checkpoint
from enclave_runner.contract.signing import PublicKey, Signer
from sandbox.domain.audit import AuditEntry
from sandbox.store import schema

ORIGIN = "yunei.bureau/audit"
ENTRIES, CHECKPOINTS = schema.audit_entries, schema.audit_checkpoints


@dataclass(frozen=True)
class AuditVerdict:
    """Whether a log verifies; if not, the first entry that does not fit and what is wrong with it."""

    ok: bool
    entries: int
    first_bad_index: int | None = None
    problem: str | None = None


class _Bad(Exception):
    def __init__(self, index: int, problem: str) -> None:
        super().__init__(problem)
        self.index, self.problem = index, problem


def frontier(connection: Connection) -> Frontier:
    """The right edge of the tree as it stands."""
    query = select(CHECKPOINTS.c.frontier).order_by(CHECKPOINTS.c.size.desc()).limit(1)
    stored = connection.execute(query).scalar_one_or_none()
    return Frontier() if stored is None else decode(stored, Frontier)


def append(connection: Connection, entry: AuditEntry, signer: Signer) -> Checkpoint:
    """Add one entry with its signed checkpoint, inside the caller's transaction."""
    before = frontier(connection)
    after = before.append(entry.leaf)
    checkpoint = Checkpoint(origin=ORIGIN, size=after.size, root=after.root)
    connection.execute(insert(ENTRIES).values(number=before.size, doc=entry.leaf, leaf_hash=leaf_hash(entry.leaf)))
    note = sign_checkpoint(checkpoint, signer).encode()
    connection.execute(insert(CHECKPOINTS).values(size=after.size, note=note, frontier=encode(after)))
    return checkpoint


def entries(connection: Connection, since: int = 0, limit: int = 1000) -> tuple[AuditEntry, ...]:
    """Entries from that index on."""
    query = select(ENTRIES.c.doc).where(ENTRIES.c.number >= since).order_by(ENTRIES.c.number).limit(limit)
    return tuple(decode(doc, AuditEntry) for doc in connection.execute(query).scalars())


def verify(connection: Connection, key: PublicKey, anchors: Mapping[int, str] | None = None) -> AuditVerdict:
    """Recompute the whole log. `anchors` maps sizes to the roots (hex) that the log had at that size."""
    pending = dict(anchors or {})
    tree = Frontier()
    try:
        _check_anchor(tree, pending)
        for row in _rows(connection):
            tree = _check_row(tree, row, key)
            _check_anchor(tree, pending)
        _check_end(connection, tree.size)
        if pending:
            raise _Bad(tree.size, f"the tail is cut: another log has seen {max(pending)} entries")
    except _Bad as bad:
        return AuditVerdict(False, tree.size, bad.index, bad.problem)
    except (DatabaseError, TypeError, ValueError):
        return AuditVerdict(False, tree.size, tree.size, "the database cannot be read here")
    return AuditVerdict(True, tree.size)


@dataclass(frozen=True)
class _Row:
    number: object
    doc: object
    leaf_hash: object
    note: object
    frontier: object


def _rows(connection: Connection) -> Iterator[_Row]:
    """Entries with their checkpoints, in order; a missing checkpoint shows as None."""
    joined = ENTRIES.outerjoin(CHECKPOINTS, CHECKPOINTS.c.size == ENTRIES.c.number + 1)
    query = (
        select(ENTRIES.c.number, ENTRIES.c.doc, ENTRIES.c.leaf_hash, CHECKPOINTS.c.note, CHECKPOINTS.c.frontier)
        .select_from(joined)
        .order_by(ENTRIES.c.number)
    )
    for row in connection.execute(query):
        yield _Row(*row)


def _check_row(tree: Frontier, row: _Row, key: PublicKey) -> Frontier:
    index = tree.size
    if row.number != index:
        raise _Bad(index, "an entry is missing or out of order")
    if not isinstance(row.doc, bytes) or leaf_hash(row.doc) != row.leaf_hash:
        raise _Bad(index, "the entry and its leaf hash differ")
    after = tree.append(row.doc)
    if not isinstance(row.note, bytes) or row.frontier != encode(after):
        raise _Bad(index, "the checkpoint after this entry is missing or changed")
    _check_note(index, row.note, Checkpoint(origin=ORIGIN, size=after.size, root=after.root), key)
    return after


def _check_note(index: int, note: bytes, expected: Checkpoint, key: PublicKey) -> None:
    """The note must say what the entries give, under a valid signature, in the one canonical spelling."""
    try:
        text = note.decode()
        if open_checkpoint(text, ORIGIN, key) != expected:
            raise _Bad(index, "the signed root is another one: an entry was rewritten")
        mark = text.rstrip("\n").rpartition(" ")[2]
        canonical = base64.b64encode(base64.b64decode(mark)).decode()
    except (ValueError, Refused):
        raise _Bad(index, "the checkpoint after this entry does not verify") from None
    if text != f"{expected.text}\n— {ORIGIN} {canonical}\n":
        raise _Bad(index, "the checkpoint after this entry is changed")


def _check_anchor(tree: Frontier, pending: dict[int, str]) -> None:
    root = pending.pop(tree.size, None)
    if root is not None and root != tree.root.hex():
        raise _Bad(max(tree.size - 1, 0), "another log has seen another root here: the log was written anew")


def _check_end(connection: Connection, size: int) -> None:
    newest = select(CHECKPOINTS.c.size).order_by(CHECKPOINTS.c.size.desc()).limit(1)
    last = connection.execute(newest).scalar_one_or_none()
    if (last or 0) != size:
        raise _Bad(size, "entries at the end are missing: a checkpoint has seen more")
