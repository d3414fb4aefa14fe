"""Whoever holds the database may drop the triggers: the log must then show every edit, and where."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from enclave_runner.contract.codec import encode
from enclave_runner.contract.merkle import (
    Checkpoint,
    Frontier,
    frontier_of,
    leaf_hash,
    open_checkpoint,
    sign_checkpoint,
)
from enclave_runner.contract.signing import KeyFile
from sandbox.domain.audit import AuditEntry
from sandbox.store import audit_log
from sandbox.store.audit_log import ORIGIN, AuditVerdict
from sandbox.store.database import open_engine, reading, sqlite_url, upgrade, writing
from tests.support.bureau import START

SIZE = 9


def entry(number: int) -> AuditEntry:
    return AuditEntry("bureau/clerk", "grant.sign", f"grant-{number}", {"n": str(number)}, START)


class Log:
    """A written log, and a way to change it behind its back."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "control.db"
        self.key = KeyFile.create(folder / "control.key")
        self.engine: Engine = open_engine(sqlite_url(self.path))
        upgrade(self.engine)
        for number in range(SIZE):
            with writing(self.engine) as connection:
                audit_log.append(connection, entry(number), self.key)

    def edit(self, *statements: tuple[str, tuple[object, ...]] | str) -> None:
        """Run SQL with the triggers dropped, as an administrator could."""
        with closing(sqlite3.connect(self.path)) as connection, connection:
            for table in ("audit_entries", "audit_checkpoints"):
                for verb in ("update", "delete"):
                    connection.execute(f"DROP TRIGGER IF EXISTS {table}_no_{verb}")
            for statement in statements:
                connection.execute(*((statement,) if isinstance(statement, str) else statement))

    def verify(self, anchors: dict[int, str] | None = None) -> AuditVerdict:
        """Verify what stands there now."""
        with reading(self.engine) as connection:
            return audit_log.verify(connection, self.key.public_key, anchors)

    def value(self, query: str) -> bytes:
        """One stored value."""
        with closing(sqlite3.connect(self.path)) as connection:
            return bytes(connection.execute(query).fetchone()[0])


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


def root(size: int) -> str:
    return frontier_of(entry(number).leaf for number in range(size)).root.hex()


def test_an_untouched_log_verifies_and_reads_back(log: Log) -> None:
    assert log.verify() == AuditVerdict(True, SIZE)
    with reading(log.engine) as connection:
        assert audit_log.entries(connection) == tuple(entry(number) for number in range(SIZE))
        assert audit_log.entries(connection, since=3, limit=2) == (entry(3), entry(4))
        assert audit_log.frontier(connection) == frontier_of(entry(number).leaf for number in range(SIZE))


def test_an_empty_log_verifies(tmp_path: Path) -> None:
    engine = open_engine(sqlite_url(tmp_path / "empty.db"))
    upgrade(engine)
    with reading(engine) as connection:
        assert audit_log.frontier(connection) == Frontier()
        verdict = audit_log.verify(connection, KeyFile.create(tmp_path / "key").public_key, {0: Frontier().root.hex()})
    assert verdict == AuditVerdict(True, 0)


def test_each_append_gives_a_checkpoint_that_verifies_alone(log: Log) -> None:
    with writing(log.engine) as connection:
        checkpoint = audit_log.append(connection, entry(SIZE), log.key)
    assert (checkpoint.size, checkpoint.root.hex()) == (SIZE + 1, root(SIZE + 1))
    note = log.value(f"SELECT note FROM audit_checkpoints WHERE size = {SIZE + 1}").decode()
    assert open_checkpoint(note, ORIGIN, log.key.public_key) == checkpoint


def test_an_entry_is_written_with_its_act_or_not_at_all(log: Log) -> None:
    with pytest.raises(RuntimeError), writing(log.engine) as connection:
        audit_log.append(connection, entry(SIZE), log.key)
        raise RuntimeError
    assert log.verify() == AuditVerdict(True, SIZE)


@pytest.mark.parametrize("index", [0, 4, SIZE - 1])
@pytest.mark.parametrize(
    ("table", "column", "key"),
    [
        ("audit_entries", "doc", "number = {index}"),
        ("audit_entries", "leaf_hash", "number = {index}"),
        ("audit_checkpoints", "note", "size = {index} + 1"),
        ("audit_checkpoints", "frontier", "size = {index} + 1"),
    ],
)
def test_every_one_byte_edit_is_found_at_its_entry(log: Log, index: int, table: str, column: str, key: str) -> None:
    where = key.format(index=index)
    original = log.value(f"SELECT {column} FROM {table} WHERE {where}")
    for position in range(len(original)):
        edited = bytearray(original)
        edited[position] ^= 0x01
        log.edit((f"UPDATE {table} SET {column} = ? WHERE {where}", (bytes(edited),)))
        verdict = log.verify()
        assert (verdict.ok, verdict.first_bad_index) == (False, index), position
    log.edit((f"UPDATE {table} SET {column} = ? WHERE {where}", (original,)))
    assert log.verify().ok


def test_an_entry_rewritten_with_its_hash_differs_from_the_signed_root(log: Log) -> None:
    forged = AuditEntry("bureau/clerk", "grant.revoke", "grant-4", {"n": "4"}, START)
    frontier = frontier_of([*(entry(number).leaf for number in range(4)), forged.leaf])
    log.edit(
        ("UPDATE audit_entries SET doc = ?, leaf_hash = ? WHERE number = 4", (forged.leaf, leaf_hash(forged.leaf))),
        ("UPDATE audit_checkpoints SET frontier = ? WHERE size = 5", (encode(frontier),)),
    )
    verdict = log.verify()
    assert (verdict.ok, verdict.first_bad_index) == (False, 4)
    assert verdict.problem is not None
    assert "rewritten" in verdict.problem


def test_a_checkpoint_of_another_key_does_not_count(log: Log, tmp_path: Path) -> None:
    other = KeyFile.create(tmp_path / "other.key")
    frontier = frontier_of(entry(number).leaf for number in range(3))
    note = sign_checkpoint(Checkpoint(origin=ORIGIN, size=3, root=frontier.root), other).encode()
    log.edit(("UPDATE audit_checkpoints SET note = ? WHERE size = 3", (note,)))
    assert log.verify().first_bad_index == 2


CUT = ("DELETE FROM audit_entries WHERE number >= 6", "DELETE FROM audit_checkpoints WHERE size > 6")


@pytest.mark.parametrize(
    ("statements", "index"),
    [
        (("DELETE FROM audit_entries WHERE number = 4",), 4),
        (("DELETE FROM audit_entries WHERE number = 0",), 0),
        (("DELETE FROM audit_entries WHERE number = 8",), 8),
        (("DELETE FROM audit_checkpoints WHERE size = 5",), 4),
        (("UPDATE audit_checkpoints SET size = 100 WHERE size = 9",), 8),
        (
            (
                "UPDATE audit_entries SET number = 100 WHERE number = 3",
                "UPDATE audit_entries SET number = 3 WHERE number = 4",
                "UPDATE audit_entries SET number = 4 WHERE number = 100",
            ),
            3,
        ),
        (("UPDATE audit_entries SET doc = 'text' WHERE number = 2",), 2),
        (("UPDATE audit_checkpoints SET note = 'text' WHERE size = 3",), 2),
        (("DROP TABLE audit_checkpoints",), 0),
        (("DELETE FROM audit_entries", "DELETE FROM audit_checkpoints WHERE size < 9"), 0),
    ],
)
def test_deleted_and_reordered_rows_are_found(log: Log, statements: tuple[str, ...], index: int) -> None:
    log.edit(*statements)
    verdict = log.verify()
    assert (verdict.ok, verdict.first_bad_index) == (False, index)


def test_a_cut_tail_verifies_alone_and_not_against_what_another_log_has_seen(log: Log) -> None:
    log.edit(*CUT)
    assert log.verify().ok  # the reason for anchors: nothing in what is left says that there was more
    verdict = log.verify({8: root(8)})
    assert (verdict.ok, verdict.first_bad_index) == (False, 6)
    assert log.verify({5: root(5)}).ok


def test_a_log_written_anew_by_the_key_holder_differs_from_the_anchors(log: Log) -> None:
    log.edit("DELETE FROM audit_entries", "DELETE FROM audit_checkpoints")
    for number in range(SIZE):
        with writing(log.engine) as connection:
            changed = AuditEntry("bureau/clerk", "grant.sign", f"grant-{number}", {}, START + timedelta(days=1))
            audit_log.append(connection, changed, log.key)
    assert log.verify().ok
    verdict = log.verify({7: root(7)})
    assert (verdict.ok, verdict.first_bad_index) == (False, 6)


@pytest.mark.parametrize("spell", [lambda note: note + b"\n", lambda note: note.replace(b"\n\n", b"\n\n\n")])
def test_a_checkpoint_has_one_spelling(log: Log, spell: Callable[[bytes], bytes]) -> None:
    note = log.value("SELECT note FROM audit_checkpoints WHERE size = 2")
    log.edit(("UPDATE audit_checkpoints SET note = ? WHERE size = 2", (spell(note),)))
    assert log.verify().first_bad_index == 1
