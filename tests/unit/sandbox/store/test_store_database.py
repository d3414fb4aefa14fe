from __future__ import annotations

import os
import shutil
import stat
import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, create_mock_engine, func, insert, select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from sandbox.store import database, schema
from sandbox.store.database import open_copy, open_engine, reading, sqlite_url, upgrade, writing


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    engine = open_engine(sqlite_url(tmp_path / "control.db"))
    upgrade(engine)
    return engine


def add_entry(engine: Engine, number: int) -> None:
    with writing(engine) as connection:
        connection.execute(insert(schema.audit_entries).values(number=number, doc=b"d", leaf_hash=b"h"))


def test_the_migrations_make_exactly_the_declared_schema(engine: Engine) -> None:
    with reading(engine) as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.METADATA) == []


def test_upgrading_twice_changes_nothing(engine: Engine) -> None:
    add_entry(engine, 0)
    upgrade(engine)
    with reading(engine) as connection:
        assert connection.execute(select(func.count()).select_from(schema.audit_entries)).scalar_one() == 1


@pytest.mark.parametrize(
    ("pragma", "value"), [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1), ("busy_timeout", 30000)]
)
def test_sqlite_is_opened_durable_and_strict(engine: Engine, pragma: str, value: object) -> None:
    with reading(engine) as connection:
        assert connection.execute(text(f"PRAGMA {pragma}")).scalar_one() == value


@pytest.mark.parametrize("table", schema.LEDGERS)
def test_every_ledger_has_both_triggers(engine: Engine, table: str) -> None:
    with reading(engine) as connection:
        found = connection.execute(
            text("SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = :table"), {"table": table}
        ).scalars()
        assert set(found) == {f"{table}_no_update", f"{table}_no_delete"}


@pytest.mark.parametrize("statement", ["UPDATE audit_entries SET doc = x'00'", "DELETE FROM audit_entries"])
def test_a_ledger_row_is_neither_changed_nor_removed(engine: Engine, statement: str) -> None:
    add_entry(engine, 0)
    with pytest.raises(IntegrityError, match="append-only"), writing(engine) as connection:
        connection.execute(text(statement))
    with reading(engine) as connection:
        assert connection.execute(select(schema.audit_entries.c.doc)).scalar_one() == b"d"


def test_foreign_keys_hold(engine: Engine) -> None:
    with pytest.raises(IntegrityError), writing(engine) as connection:
        connection.execute(insert(schema.scenarios).values(scenario_id="s", operator_id="nobody", doc=b"d"))


def test_a_raised_error_rolls_everything_back(engine: Engine) -> None:
    with pytest.raises(RuntimeError), writing(engine) as connection:
        connection.execute(insert(schema.audit_entries).values(number=0, doc=b"d", leaf_hash=b"h"))
        raise RuntimeError
    with reading(engine) as connection:
        assert connection.execute(select(schema.audit_entries)).all() == []


def test_what_a_writer_has_read_is_still_true_when_it_writes(engine: Engine) -> None:
    """Sixteen threads each read the largest number and add the next: with a lost update, two would take the same."""

    def append() -> None:
        with writing(engine) as connection:
            count = connection.execute(select(func.count()).select_from(schema.audit_entries)).scalar_one()
            connection.execute(insert(schema.audit_entries).values(number=count, doc=b"d", leaf_hash=b"h"))

    threads = [threading.Thread(target=append) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with reading(engine) as connection:
        numbers = connection.execute(select(schema.audit_entries.c.number)).scalars()
        assert sorted(numbers) == list(range(16))


def test_a_reader_keeps_its_snapshot_and_does_not_block_a_writer(engine: Engine) -> None:
    with reading(engine) as connection:
        before = connection.execute(select(schema.audit_entries)).all()
        add_entry(engine, 0)
        assert connection.execute(select(schema.audit_entries)).all() == before == []


def test_a_copy_is_opened_so_that_it_cannot_be_written(engine: Engine, tmp_path: Path) -> None:
    add_entry(engine, 0)
    copy = open_copy(tmp_path / "control.db")
    with copy.connect() as connection, connection.begin():
        assert connection.execute(select(schema.audit_entries.c.number)).scalar_one() == 0
        with pytest.raises(OperationalError, match="readonly"):
            connection.execute(insert(schema.audit_entries).values(number=1, doc=b"d", leaf_hash=b"h"))
    copy.dispose()


def test_a_copy_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    copy = open_copy(tmp_path / "nothing.db")
    with pytest.raises(DBAPIError):
        copy.connect()
    assert not (tmp_path / "nothing.db").exists()


def test_the_schema_compiles_for_postgresql() -> None:
    statements: list[str] = []
    mock = create_mock_engine(
        "postgresql+psycopg://", lambda ddl, *a, **k: statements.append(str(ddl.compile(dialect=postgresql.dialect())))
    )
    schema.METADATA.create_all(mock, checkfirst=False)
    made = "\n".join(statements)
    assert made.count("CREATE TABLE") == len(schema.METADATA.tables)
    assert "BYTEA" in made
    assert "number SERIAL NOT NULL" in made


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_database_wal_and_shared_memory_are_their_owners_alone(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        engine = open_engine(sqlite_url(tmp_path / "control.db"))
        upgrade(engine)
        with reading(engine):
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(("control.db", "control.db-wal", "control.db-shm"), 0o600)


@pytest.mark.parametrize("name", ["a?b", "a#b", "a%20b", "a b", "a%b&c=d", "数据"])
def test_a_home_of_any_name_works(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    engine = open_engine(sqlite_url(folder / "control.db"))
    upgrade(engine)
    add_entry(engine, 0)
    copy = open_copy(folder / "control.db")
    with copy.connect() as connection, connection.begin():
        assert connection.execute(select(schema.audit_entries.c.number)).scalar_one() == 0
    copy.dispose()
    engine.dispose()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert "control.db" in {path.name for path in folder.iterdir()}


def test_the_program_may_lie_in_a_folder_of_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    migrations = tmp_path / "100%(here)s d" / "migrations"
    shutil.copytree(database.MIGRATIONS, migrations, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(database, "MIGRATIONS", migrations)
    engine = open_engine(sqlite_url(tmp_path / "control.db"))
    upgrade(engine)
    add_entry(engine, 0)
