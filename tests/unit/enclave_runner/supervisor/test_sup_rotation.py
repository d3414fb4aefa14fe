"""Rotation of a home's key-encryption key: alone in the home, and never before what was dropped is gone."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest

from enclave_runner.supervisor.database import Database
from enclave_runner.supervisor.holdings import HeldVersion, Holdings
from enclave_runner.supervisor.home import EnclaveHome, lock_home
from enclave_runner.supervisor.rotation import rotate_keys
from tests.support.enclave_home import PEOPLE, make_bureau
from tests.support.raw_stores import contents, publish
from tests.support.refusals import failed_at


@pytest.fixture
def home(tmp_path: Path) -> EnclaveHome:
    home = make_bureau(tmp_path).home
    name = publish(home.open_store(), age=b"1", income=b"2")
    with closing(Database(home.ledger)) as database:
        Holdings(database).add(HeldVersion("people", "v1-a", name, 1, PEOPLE, "2026-01-01T00:00:00+00:00"))
    return home


def key_ids(home: EnclaveHome) -> set[str]:
    return {path.stem for path in (home.folder / "kek").iterdir()}


def test_only_the_new_key_is_left(home: EnclaveHome) -> None:
    old = key_ids(home)
    done = rotate_keys(home)
    assert (done.versions, done.destroyed) == (1, 1)
    assert key_ids(home) == {done.key_id}
    assert old.isdisjoint(key_ids(home))
    assert contents(home.open_store(), "people@v1-a", "age", "income") == [b"1", b"2"]
    os.close(lock_home(home))


def test_not_beside_a_running_enclave(home: EnclaveHome) -> None:
    before, lock = key_ids(home), lock_home(home)
    with failed_at("home.busy"):
        rotate_keys(home)
    os.close(lock)
    assert key_ids(home) == before


def test_a_drop_that_was_cut_off_is_completed_first(home: EnclaveHome) -> None:
    with closing(Database(home.ledger)) as database:
        holdings = Holdings(database)
        (held,) = holdings.newest()
        holdings.drop(held, "income", "2026-01-02T00:00:00+00:00")
    rotate_keys(home)
    manifest = (home.rawdata / "people@v1-a" / "manifest.json").read_text()
    assert ("age" in manifest, "income" in manifest) == (True, False)


def test_without_its_keys_nothing_is_made_up(home: EnclaveHome) -> None:
    for path in (home.folder / "kek").iterdir():
        path.unlink()
    with failed_at("kms.key-missing"):
        rotate_keys(home)
    assert key_ids(home) == set()
    os.close(lock_home(home))
