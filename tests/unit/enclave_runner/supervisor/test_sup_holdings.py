"""Holdings: versions are added, the newest is current, and the spec comes back as it was signed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from enclave_runner.contract.errors import Failed
from enclave_runner.supervisor.database import Database
from enclave_runner.supervisor.holdings import HeldVersion, Holdings
from tests.support.enclave_home import PEOPLE, changed


def held(dataset: str, version: str, rows: int = 1) -> HeldVersion:
    spec = changed(PEOPLE, dataset_id=dataset)
    return HeldVersion(dataset, version, f"{dataset}@{version}.parquet", rows, spec, "2026-01-01T00:00:00+00:00")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "ledger.db")
    yield opened
    opened.close()


def test_the_newest_version_is_current_and_the_older_stays(database: Database) -> None:
    holdings = Holdings(database)
    assert holdings.find("people") is None
    for version in ("v1-b", "v2-a"):
        holdings.add(held("people", version))
    holdings.add(held("adult", "v1-z", rows=9))
    assert holdings.find("people") == held("people", "v2-a")
    assert holdings.find("people", "v1-b") == held("people", "v1-b")
    assert holdings.find("people", "v3") is None
    assert [(item.dataset_id, item.version) for item in holdings.newest()] == [("adult", "v1-z"), ("people", "v2-a")]
    assert [(item.dataset_id, item.rows) for item in holdings.listed()] == [("adult", 9), ("people", 1)]


def test_a_version_is_added_once(database: Database) -> None:
    holdings = Holdings(database)
    holdings.add(held("people", "v1-b"))
    with pytest.raises(Failed) as caught:
        holdings.add(held("people", "v1-b", rows=2))
    assert caught.value.code == "ledger.write"
    assert holdings.newest() == (held("people", "v1-b"),)


def test_a_transaction_is_all_or_nothing_whatever_breaks_it(database: Database) -> None:
    holdings = Holdings(database)
    with pytest.raises(KeyboardInterrupt), database.transaction() as connection:
        connection.execute("DELETE FROM holdings")
        connection.execute("INSERT INTO holdings VALUES (1, 'a', 'v', 'f', 1, x'', 't')")
        raise KeyboardInterrupt
    assert holdings.newest() == ()
    with pytest.raises(Failed), database.transaction() as connection:
        connection.execute("INSERT INTO nowhere VALUES (1)")
    holdings.add(held("people", "v1-b"))
    assert holdings.newest() == (held("people", "v1-b"),)


def test_the_file_is_synced_in_full(database: Database) -> None:
    with database.transaction() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA foreign_keys").fetchone() == (1,)
