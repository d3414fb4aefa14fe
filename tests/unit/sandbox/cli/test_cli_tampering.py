from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from sandbox.cli.tampering import tampered_copy
from sandbox.workflow.audit import verify_copy
from tests.support.bureau import Bureau, furnished_bureau
from tests.support.refusals import failed_at


def _entries(database: Path) -> dict[object, tuple[object, ...]]:
    with closing(sqlite3.connect(database)) as connection:
        return {row[0]: row for row in connection.execute("SELECT * FROM audit_entries")}


def test_one_byte_of_one_entry_differs_and_it_is_found(tmp_path: Path) -> None:
    bureau: Bureau = furnished_bureau(tmp_path)
    home = bureau.office.home
    before = _entries(home.control_db)
    with tampered_copy(home.control_db) as copy:
        after = _entries(copy)
        verdict = verify_copy(copy, home.trust)
    changed = [index for index in before if before[index] != after[index]]
    assert before.keys() == after.keys()
    assert changed == [verdict.first_bad_index]
    assert not verdict.ok
    assert _entries(home.control_db) == before
    assert verify_copy(home.control_db, home.trust).ok
    assert not copy.exists()
    bureau.office.engine.dispose()


def test_an_empty_log_has_nothing_to_tamper_with(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "empty.db")) as connection:
        connection.execute("CREATE TABLE audit_entries(leaf BLOB)")
    with failed_at("demo.no-audit-entry"), tampered_copy(tmp_path / "empty.db"):
        raise AssertionError("there is no such copy")
