"""Dropping data: on record, out of the store byte by byte, final, and completed after a kill."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from enclave_runner.supervisor.database import Database
from enclave_runner.supervisor.holdings import HeldVersion, Holdings
from enclave_runner.supervisor.home import EnclaveHome, lock_home
from enclave_runner.supervisor.removal import Dropped, drop_data
from tests.support.crashes import killed_at_every_step
from tests.support.enclave_home import PEOPLE, make_bureau
from tests.support.raw_stores import contents, files_with, publish
from tests.support.refusals import failed_at, refused_by


@pytest.fixture
def home(tmp_path: Path) -> EnclaveHome:
    """A home that holds two versions of `people`."""
    home = make_bureau(tmp_path).home
    store = home.open_store()
    with holdings_of(home) as holdings:
        for version in ("v1-a", "v2-b"):
            name = publish(store, version, **{column.name: column.name.encode() for column in PEOPLE.columns})
            holdings.add(HeldVersion("people", version, name, 1, PEOPLE, "2026-01-01T00:00:00+00:00"))
    return home


@contextmanager
def holdings_of(home: EnclaveHome) -> Iterator[Holdings]:
    database = Database(home.ledger)
    try:
        yield Holdings(database)
    finally:
        database.close()


def raw_names(home: EnclaveHome) -> set[str]:
    return {path.name for path in home.rawdata.iterdir()}


def test_a_dropped_version_is_gone_and_the_older_is_current(home: EnclaveHome) -> None:
    traces = [path.read_bytes()[-40:] for path in (home.rawdata / "people@v2-b").iterdir()]
    assert drop_data(home, "people", "v2-b", None) == Dropped(dataset_id="people", versions=("v2-b",), column=None)
    assert raw_names(home) == {"people@v1-a"}
    assert files_with(home.folder, traces) == []
    with holdings_of(home) as holdings:
        assert [held.version for held in holdings.newest()] == ["v1-a"]
        assert holdings.find("people", "v2-b") is None
        assert holdings.files() == {"people@v1-a"}
    assert contents(home.open_store(), "people@v1-a", "age") == [b"age"]


def test_a_dropped_dataset_keeps_its_numbering_and_its_people(home: EnclaveHome) -> None:
    assert drop_data(home, "people", None, None).versions == ("v1-a", "v2-b")
    with holdings_of(home) as holdings:
        assert (holdings.find("people"), holdings.newest(), holdings.listed()) == (None, (), ())
        last = holdings.last_imported("people")
        assert last is not None
        assert (last.version, last.spec) == ("v2-b", PEOPLE)
    with refused_by("dataset.unknown", dataset="people"):
        drop_data(home, "people", None, None)


def test_a_dropped_column_is_told_and_refused(home: EnclaveHome) -> None:
    done = drop_data(home, "people", None, "income")
    assert (done.versions, done.column) == (("v1-a", "v2-b"), "income")
    drop_data(home, "people", "v2-b", "id")
    with holdings_of(home) as holdings:
        (listed,) = holdings.listed()
        assert (listed.version, listed.dropped) == ("v2-b", ("id", "income"))
        older, newer = holdings.find("people", "v1-a"), holdings.find("people")
    assert older is not None
    assert newer is not None
    older.require(("age", "city"), with_key=True)
    newer.require(("age",), with_key=False)
    with refused_by("dataset.column-dropped", dataset="people", column="income"):
        older.require(("age", "income"), with_key=False)
    with refused_by("dataset.column-dropped", dataset="people", column="id"):
        newer.require(("age",), with_key=True)
    with failed_at("rawdata.missing"):
        home.open_store().open_columns("people@v1-a", ("income",))


def orphan(home: EnclaveHome, version: str, dataset: str = "people") -> str:
    """A version that was published and, after a kill, never put on record; a trace of its key."""
    name = publish(home.open_store(), version, dataset, age=b"age")
    return (home.rawdata / name / "manifest.json").read_text(encoding="utf-8")[-60:]


def test_with_a_dataset_goes_what_a_crash_left_of_it(home: EnclaveHome) -> None:
    traces = [orphan(home, "v3-c"), orphan(home, "v3-c2")]
    kept = orphan(home, "v1-x", "peoples")
    with holdings_of(home) as holdings:
        home.open_store().sweep(holdings.files())
    traces.append(orphan(home, "v4-d"))  # not put aside yet: no start in between
    assert {".aside-people@v3-c", ".aside-people@v3-c2", "people@v4-d"} < raw_names(home)
    drop_data(home, "people", "v1-a", None)
    assert {".aside-people@v3-c", "people@v4-d", "people@v2-b"} < raw_names(home)  # one version is not the dataset
    assert drop_data(home, "people", None, None).versions == ("v2-b",)
    assert raw_names(home) == {".aside-peoples@v1-x"}
    assert files_with(home.rawdata, [kept.encode()]) == [".aside-peoples@v1-x/manifest.json"]
    assert files_with(home.folder, [trace.encode() for trace in traces]) == []


def test_of_a_dataset_without_versions_what_a_crash_left_can_be_dropped(home: EnclaveHome) -> None:
    drop_data(home, "people", None, None)
    orphan(home, "v3-c")
    assert drop_data(home, "people", None, None) == Dropped(dataset_id="people", versions=(), column=None)
    assert raw_names(home) == set()
    with refused_by("dataset.unknown"):
        drop_data(home, "people", None, None)


@pytest.mark.parametrize(
    ("rule", "dataset", "version", "column"),
    [
        ("dataset.unknown", "nobody", None, None),
        ("dataset.version", "people", "v9-x", None),
        ("dataset.version", "people", "", None),
        ("dataset.column", "people", None, "wage"),
        ("dataset.column", "people", "v1-a", ""),
        ("dataset.unknown", "../kek", None, None),
    ],
)
def test_what_is_not_held_is_refused(
    home: EnclaveHome, rule: str, dataset: str, version: str | None, column: str | None
) -> None:
    before = sorted(home.rawdata.rglob("*"))
    with refused_by(rule):
        drop_data(home, dataset, version, column)
    assert sorted(home.rawdata.rglob("*")) == before


def test_dropping_twice_is_refused_and_says_so(home: EnclaveHome) -> None:
    drop_data(home, "people", "v1-a", "age")
    with refused_by("dataset.column", column="age"):
        drop_data(home, "people", "v1-a", "age")
    drop_data(home, "people", "v1-a", None)
    with refused_by("dataset.version", version="v1-a"):
        drop_data(home, "people", "v1-a", "age")


def test_not_beside_a_running_enclave(home: EnclaveHome) -> None:
    lock = lock_home(home)
    with failed_at("home.busy"):
        drop_data(home, "people", None, None)
    os.close(lock)
    assert raw_names(home) == {"people@v1-a", "people@v2-b"}


@pytest.mark.parametrize("column", [None, "income"])
def test_a_kill_at_any_step_leaves_all_or_a_drop_that_completes(home: EnclaveHome, column: str | None) -> None:
    saved = shutil.copytree(home.folder, home.folder.with_name("saved"))
    untouched, dropped = 0, 0
    for _ in killed_at_every_step(lambda: drop_data(home, "people", "v2-b", column)):
        with holdings_of(home) as holdings:
            on_record = bool(holdings.drops())
        if on_record:
            with refused_by("dataset.unknown"):
                drop_data(home, "nobody", None, None)  # any call completes what was begun
            left = {path.name for path in home.rawdata.rglob("people@v2-b/*")}
            assert len(left) == (len(PEOPLE.columns) if column else 0)
        else:
            assert contents(home.open_store(), "people@v2-b", "income") == [b"income"]
        untouched, dropped = untouched + (not on_record), dropped + on_record
        shutil.rmtree(home.folder)
        shutil.copytree(saved, home.folder)
    assert untouched > 0
    assert dropped > 0
