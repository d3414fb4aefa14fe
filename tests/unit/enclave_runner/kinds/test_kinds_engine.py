"""DuckDB in the jail: after the extract is loaded, no file, no setting and no extension is left to reach."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from enclave_runner.contract.dataset import ColumnType
from enclave_runner.kinds.engine import OPEN_SETTINGS, STORED, engine, load_extract, lock_builder, path_of
from tests.support.enclave_home import column
from tests.support.worker_files import stored

CELLS = [(1,), (2,), (None,)]


@pytest.mark.parametrize(
    "statement",
    [
        "FROM read_csv('/etc/passwd')",
        "FROM read_text('/etc/passwd')",
        "FROM read_blob('/proc/self/environ')",
        "FROM '/etc/passwd'",
        "FROM glob('/*')",
        "COPY t0 TO '/tmp/planted.csv'",
        "ATTACH '/tmp/planted.db'",
        "EXPORT DATABASE '/tmp/planted'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "SET lock_configuration = false",
        "RESET disabled_filesystems",
        "SET memory_limit = '100GB'",
        "CREATE SECRET s (TYPE s3)",
        "FROM CELLS",
        "FROM read_csv('http://192.0.2.1/x.csv')",
    ],
)
def test_every_door_is_closed_once_the_extract_is_loaded(statement: str) -> None:
    with stored([column("x", ColumnType.INTEGER)], CELLS) as file, engine() as connection:
        load_extract(connection, file)
        with pytest.raises(duckdb.Error):
            connection.execute(statement)
        assert connection.execute("SELECT sum(x) FROM t0").fetchall() == [(3,)]
    assert not Path("/tmp/planted.csv").exists()


def test_a_handed_descriptor_can_be_read_before_the_lock_and_not_after() -> None:
    with stored([column("x", ColumnType.INTEGER)], CELLS) as file, engine() as connection:
        again = f"FROM read_blob('{path_of(file)}')"
        assert len(connection.execute(again).fetchall()) == 1
        load_extract(connection, file)
        with pytest.raises(duckdb.Error):
            connection.execute(again)


def test_running_out_of_memory_is_the_limit_and_not_an_answer() -> None:
    with pytest.raises(MemoryError), engine() as connection:
        connection.execute("SET memory_limit = '20MB'; SET max_temp_directory_size = '1MB'")
        connection.execute("SELECT list(range) FROM range(100_000_000)")


def test_the_engine_stays_below_what_the_kernel_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda which: (300 << 20, 300 << 20))
    with engine() as connection:
        row = connection.execute("SELECT current_setting('memory_limit')").fetchone()
    assert row == ("200.0 MiB",)


@pytest.mark.parametrize("setting", OPEN_SETTINGS)
def test_every_setting_exists_and_cannot_be_taken_back_after_the_lock(setting: str) -> None:
    name = setting.removeprefix("SET ").split(" = ")[0]
    with stored([column("x", ColumnType.INTEGER)], CELLS) as file, engine() as connection:
        load_extract(connection, file)
        with pytest.raises(duckdb.Error, match="locked"):
            connection.execute(f"RESET {name}")


def test_the_extract_takes_no_writes() -> None:
    with stored([column("x", ColumnType.INTEGER)], CELLS) as file, engine() as connection:
        load_extract(connection, file)
        for statement in (
            f"INSERT INTO {STORED}0 VALUES (7)",
            f"DROP TABLE {STORED}0",
            "CREATE TABLE granted.t (x INT)",
        ):
            with pytest.raises(duckdb.Error, match="read-only"):
                connection.execute(statement)


def test_a_builder_keeps_only_the_named_paths(tmp_path: Path) -> None:
    named, other = tmp_path / "named.csv", tmp_path / "other.csv"
    for path in (named, other):
        path.write_text("x\n1\n")
    with engine() as connection:
        lock_builder(connection, str(named))
        assert connection.execute(f"FROM read_csv('{named}')").fetchall() == [(1,)]
        with pytest.raises(duckdb.Error, match="disabled"):
            connection.execute(f"FROM read_csv('{other}')")
        with pytest.raises(duckdb.Error, match="locked"):
            connection.execute("SET enable_external_access = true")
