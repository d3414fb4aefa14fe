"""Invariant 12: edit either log in every way that an administrator could; each edit is found and located."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from enclave_runner.contract.job import QueryJob
from enclave_runner.contract.privacy import Budget
from sandbox.cli.tampering import tampered_copy
from sandbox.settings import Home
from sandbox.workflow.audit import verify_audit, verify_copy
from sandbox.workflow.dispatch import dispatch
from sandbox.workflow.submit import submit
from tests.support.command_line import call_main
from tests.support.deployment import FREE, OPERATOR, furnish, make_deployment, open_world

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    made = make_deployment(tmp_path_factory.mktemp("tamper") / "home")
    with open_world(made) as world:
        furnish(world)
        for _ in range(3):
            job = QueryJob(
                sql="SELECT district, COUNT(*) AS n FROM people GROUP BY district", budget=Budget(epsilon="0.1")
            )
            dispatch(world.office, submit(world.office, world.actor(OPERATOR), FREE, job).submission_id)
        assert verify_audit(world.office).ok
    yield made


def _copy(home: Home, folder: Path) -> Path:
    copy = folder / "control.db"
    with closing(sqlite3.connect(home.control_db)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return copy


def test_an_untouched_copy_verifies(home: Home, tmp_path: Path) -> None:
    assert verify_copy(_copy(home, tmp_path), home.trust).ok


def test_one_byte_is_found(home: Home) -> None:
    with tampered_copy(home.control_db) as copy:
        verdict = verify_copy(copy, home.trust)
    assert not verdict.ok
    assert verdict.first_bad_index is not None


@pytest.mark.parametrize("seed", range(12))
def test_a_changed_byte_of_any_entry_is_located(home: Home, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    copy = _copy(home, tmp_path)
    with closing(sqlite3.connect(copy)) as database:
        _drop_triggers(database)
        count = database.execute("SELECT count(*) FROM audit_entries").fetchone()[0]
        number = chance.randrange(count)
        (doc,) = database.execute("SELECT doc FROM audit_entries WHERE number = ?", (number,)).fetchone()
        content = bytearray(doc)
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        database.execute("UPDATE audit_entries SET doc = ? WHERE number = ?", (bytes(content), number))
        database.commit()
    verdict = verify_copy(copy, home.trust)
    assert (verdict.ok, verdict.first_bad_index) == (False, number)


def _drop_triggers(database: sqlite3.Connection) -> None:
    for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        database.execute(f"DROP TRIGGER {name}")


EDITS: dict[str, Callable[[sqlite3.Connection], object]] = {
    "delete-first": lambda db: db.execute("DELETE FROM audit_entries WHERE number = 0"),
    "delete-middle": lambda db: db.execute("DELETE FROM audit_entries WHERE number = 5"),
    "cut-tail": lambda db: [
        db.execute("DELETE FROM audit_entries WHERE number >= (SELECT max(number) - 3 FROM audit_entries)"),
        db.execute("DELETE FROM audit_checkpoints WHERE size > (SELECT max(number) + 1 FROM audit_entries)"),
    ],
    "empty": lambda db: [db.execute("DELETE FROM audit_entries"), db.execute("DELETE FROM audit_checkpoints")],
    "swap": lambda db: [
        db.execute("UPDATE audit_entries SET number = -1 WHERE number = 3"),
        db.execute("UPDATE audit_entries SET number = 3 WHERE number = 4"),
        db.execute("UPDATE audit_entries SET number = 4 WHERE number = -1"),
    ],
    "checkpoint": lambda db: db.execute("UPDATE audit_checkpoints SET note = replace(note, '2', '3') WHERE size = 6"),
}


@pytest.mark.parametrize("name", EDITS)
def test_every_edit_is_found(home: Home, tmp_path: Path, name: str) -> None:
    copy = _copy(home, tmp_path)
    with closing(sqlite3.connect(copy)) as database:
        _drop_triggers(database)
        EDITS[name](database)
        database.commit()
    assert not verify_copy(copy, home.trust).ok


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_entries SET doc = x'00'",
        "DELETE FROM receipts",
        "UPDATE meter_events SET units = 0",
        "DELETE FROM releases",
    ],
)
def test_ledgers_refuse_changes(home: Home, tmp_path: Path, statement: str) -> None:
    with closing(sqlite3.connect(_copy(home, tmp_path))) as database, pytest.raises(sqlite3.DatabaseError):
        database.execute(statement)


@pytest.fixture
def spoilt(home: Home, tmp_path: Path) -> Home:
    """A whole deployment to spoil."""
    shutil.copytree(home.folder, tmp_path / "home", ignore=shutil.ignore_patterns("*.sock"))
    return Home(tmp_path / "home")


def _verify(home: Home) -> tuple[int, list[str]]:
    """What `yunei audit verify` says: its exit code, and which checks found something."""
    answer = call_main("audit", "verify", "--json", "--home", str(home.folder))
    assert answer.document["ok"] is (answer.code == 0)
    return answer.code, [check["name"] for check in answer.document["checks"] if check["problem"] is not None]


@pytest.mark.parametrize("place", [0, -2, 25])
@pytest.mark.parametrize("party", ["bureau", OPERATOR])
def test_a_changed_byte_of_a_party_is_found_whoever_it_is(spoilt: Home, party: str, place: int) -> None:
    """The bureau itself acts at the command line: verifying does not need to know it."""
    assert _verify(spoilt) == (0, [])
    with closing(sqlite3.connect(spoilt.control_db)) as database:
        (doc,) = database.execute("SELECT doc FROM parties WHERE party_id = ?", (party,)).fetchone()
        content = bytearray(doc)
        content[place] ^= 0x80
        database.execute("UPDATE parties SET doc = ? WHERE party_id = ?", (bytes(content), party))
        database.commit()
    assert _verify(spoilt) == (5, ["parties"])


def test_verifying_leaves_the_schema_as_it_is(spoilt: Home) -> None:
    with closing(sqlite3.connect(spoilt.control_db)) as database:
        database.execute("UPDATE alembic_version SET version_num = '0000'")
        database.commit()
    assert _verify(spoilt) == (0, [])
    with closing(sqlite3.connect(spoilt.control_db)) as database:
        database.execute("DROP TABLE parties")
        database.commit()
        before = database.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()
        assert _verify(spoilt) == (5, ["parties"])
        assert database.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall() == before
        assert database.execute("SELECT version_num FROM alembic_version").fetchall() == [("0000",)]


def test_a_database_that_is_none_does_not_verify(spoilt: Home) -> None:
    for part in spoilt.bureau.glob("control.db*"):
        part.unlink()
    spoilt.control_db.write_bytes(b"no database at all " * 1000)
    assert _verify(spoilt) == (5, ["ledgers"])


def test_an_edited_receipt_log_is_found(home: Home, tmp_path: Path) -> None:
    """The control plane's copy of the enclave's receipts is held to the enclave's signed checkpoint."""
    folder = tmp_path / "home"
    shutil.copytree(home.folder, folder, ignore=shutil.ignore_patterns("*.sock"))
    edited = Home(folder)
    with closing(sqlite3.connect(edited.control_db)) as database:
        _drop_triggers(database)
        (doc,) = database.execute("SELECT doc FROM receipts WHERE sequence = 1").fetchone()
        content = bytearray(doc)
        content[len(content) // 2] ^= 1
        database.execute("UPDATE receipts SET doc = ? WHERE sequence = 1", (bytes(content),))
        database.commit()
    with open_world(edited) as world:
        assert not verify_audit(world.office).ok
