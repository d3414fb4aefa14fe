"""The raw store: whole versions or none, opened by the column, no plaintext, and nothing left of what was dropped."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from enclave_runner.rawdata.column import CHUNK
from enclave_runner.rawdata.store import RawStore
from enclave_runner.rawdata.suite import Suite
from tests.support.crashes import killed_at_every_step
from tests.support.raw_stores import contents, files_with, kms_in, make_store, open_files, open_store, publish
from tests.support.refusals import failed_at

AGE, CITY = b"canary-age-" * 10, os.urandom(CHUNK) + b"canary-city"


@pytest.fixture
def store(tmp_path: Path) -> RawStore:
    return make_store(tmp_path)


def names(folder: Path) -> set[str]:
    return {path.name for path in (folder / "raw").iterdir()}


def test_the_folder_is_the_enclaves_alone(store: RawStore, tmp_path: Path) -> None:
    name = publish(store, age=AGE)
    for folder in (tmp_path / "raw", tmp_path / "raw" / name):
        assert folder.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in (tmp_path / "raw" / name).iterdir())


@pytest.mark.parametrize("suite", Suite)
def test_a_version_comes_back_also_after_a_restart(tmp_path: Path, suite: Suite) -> None:
    before = open_files()
    name = publish(make_store(tmp_path, suite), age=AGE, city=CITY, empty=b"")
    again = open_store(tmp_path)
    assert contents(again, name, "city", "empty", "age") == [CITY, b"", AGE]
    assert contents(again, name) == []
    assert open_files() == before
    assert files_with(tmp_path, [b"canary", AGE]) == []


def test_only_what_is_asked_for_is_decrypted(store: RawStore, tmp_path: Path) -> None:
    name = publish(store, age=AGE, city=CITY)
    for path in (tmp_path / "raw" / name).glob("00001.column"):
        path.write_bytes(b"destroyed")
    assert contents(store, name, "age") == [AGE]
    before = open_files()
    with failed_at("rawdata.damaged"):
        store.open_columns(name, ("age", "city"))
    assert open_files() == before


def test_what_is_not_there_is_a_fault(store: RawStore) -> None:
    name = publish(store, age=AGE)
    for version, column in ((name, "wage"), ("people@v9", "age"), ("../kek", "age")):
        with failed_at("rawdata.missing"):
            store.open_columns(version, (column,))


def test_files_of_two_columns_cannot_be_swapped(store: RawStore, tmp_path: Path) -> None:
    name = publish(store, age=AGE, wage=AGE)
    one, two = (tmp_path / "raw" / name / f"0000{number}.column" for number in (0, 1))
    one.rename(tmp_path / "x")
    two.rename(one)
    (tmp_path / "x").rename(two)
    for column in ("age", "wage"):
        with failed_at("rawdata.damaged"):
            store.open_columns(name, (column,))


@pytest.mark.parametrize("moved", ["00000.column", "manifest.json"])
def test_files_of_two_versions_cannot_be_exchanged(store: RawStore, tmp_path: Path, moved: str) -> None:
    old, new = publish(store, "v1-a", age=AGE), publish(store, "v2-b", age=AGE)
    shutil.copy(tmp_path / "raw" / old / moved, tmp_path / "raw" / new / moved)
    with failed_at("rawdata.damaged"):
        store.open_columns(new, ("age",))
    assert contents(store, old, "age") == [AGE]


def test_an_older_version_under_the_newer_name_is_noticed(store: RawStore, tmp_path: Path) -> None:
    old, new = publish(store, "v1-a", age=AGE), publish(store, "v2-b", age=CITY)
    shutil.rmtree(tmp_path / "raw" / new)
    shutil.copytree(tmp_path / "raw" / old, tmp_path / "raw" / new)
    manifest = tmp_path / "raw" / new / "manifest.json"
    with failed_at("rawdata.damaged"):
        store.open_columns(new, ("age",))
    manifest.write_bytes(manifest.read_bytes().replace(b"v1-a", b"v2-b"))  # whoever can write it can rename it
    with failed_at("rawdata.damaged"):
        store.open_columns(new, ("age",))


def test_two_versions_of_the_same_data_share_nothing(store: RawStore, tmp_path: Path) -> None:
    publish(store, "v1-a", age=AGE, wage=AGE)
    publish(store, "v2-b", age=AGE, wage=AGE)
    files = [path.read_bytes() for path in (tmp_path / "raw").rglob("*.column")]
    assert len(files) == len({content[:32] for content in files}) == 4


def test_a_draft_is_nothing_until_it_is_published(store: RawStore, tmp_path: Path) -> None:
    before = open_files()
    draft = store.draft("people", ("age",))
    for wrong in (-1, 1, 65535):
        with failed_at("rawdata.column"):
            draft.write(wrong, b"x")
    draft.write(0, AGE)
    store.discard(draft)
    store.discard(draft)
    assert (names(tmp_path), open_files()) == (set(), before)


def test_discarding_what_was_published_changes_nothing(store: RawStore) -> None:
    draft = store.draft("people", ("age",))
    draft.write(0, AGE)
    name = store.publish(draft, "people", "v1-a")
    store.discard(draft)
    assert contents(store, name, "age") == [AGE]


def test_a_version_is_never_replaced(store: RawStore) -> None:
    name = publish(store, age=AGE)
    draft = store.draft("people", ("age",))
    with failed_at("rawdata.write"):
        store.publish(draft, "people", "v1-a")
    store.discard(draft)
    assert contents(store, name, "age") == [AGE]


def test_what_was_not_published_is_swept_and_unreadable_before(store: RawStore, tmp_path: Path) -> None:
    draft = store.draft("people", ("age",))
    draft.write(0, AGE + CITY)
    assert names(tmp_path) == {draft.folder.name}
    assert files_with(tmp_path, [b"canary"]) == []
    assert not (draft.folder / "manifest.json").exists()  # its key is nowhere but in memory
    open_store(tmp_path).sweep(frozenset())
    assert names(tmp_path) == set()
    store.discard(draft)


def test_a_version_that_nothing_refers_to_is_put_aside_and_not_lost(store: RawStore, tmp_path: Path) -> None:
    """Under an old ledger that was restored, the unknown version may hold the newer data."""
    kept, aside = publish(store, "v1-a", age=AGE), publish(store, "v2-b", age=CITY)
    for _ in range(2):  # the second start finds it aside already
        store.sweep(frozenset({kept}))
        assert names(tmp_path) == {kept, f".aside-{aside}"}
    publish(store, "v2-b", age=CITY)
    store.sweep(frozenset({kept}))
    assert len(names(tmp_path)) == 3
    with failed_at("rawdata.missing"):
        store.open_columns(aside, ("age",))
    store.drop_version(aside)
    assert names(tmp_path) == {kept}


@pytest.mark.parametrize("entry", [b'"../../x"', b'".hidden"', b'"a/b"'])
def test_a_manifest_names_no_path(store: RawStore, tmp_path: Path, entry: bytes) -> None:
    manifest = tmp_path / "raw" / publish(store, age=AGE) / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"00000.column"', entry))
    with failed_at("rawdata.damaged"):
        store.open_columns("people@v1-a", ("age",))


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b"x" * (17 << 20)])
def test_a_broken_manifest_is_damage(store: RawStore, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "raw" / publish(store, age=AGE) / "manifest.json").write_bytes(content)
    with failed_at("rawdata.damaged"):
        store.open_columns("people@v1-a", ("age",))


def test_a_dropped_version_is_gone_byte_by_byte(store: RawStore, tmp_path: Path) -> None:
    kept, gone = publish(store, "v1-a", age=AGE), publish(store, "v2-b", age=AGE, city=CITY)
    traces = [path.read_bytes()[-40:] for path in (tmp_path / "raw" / gone).iterdir()]
    assert len(files_with(tmp_path, traces)) == 3
    for _ in range(2):
        store.drop_version(gone)
        assert names(tmp_path) == {kept}
    assert files_with(tmp_path, traces) == []
    assert contents(store, kept, "age") == [AGE]


def test_a_dropped_column_is_gone_with_its_key(store: RawStore, tmp_path: Path) -> None:
    name = publish(store, age=AGE, city=CITY)
    folder = tmp_path / "raw" / name
    ciphertext = (folder / "00001.column").read_bytes()
    manifest = (folder / "manifest.json").read_bytes()
    key = manifest.split(b'"wrapped":"')[2].split(b'"')[0]
    assert len(files_with(tmp_path, [ciphertext[:40], key])) == 2
    for _ in range(2):
        store.drop_column(name, "city")
        assert {path.name for path in folder.iterdir()} == {"00000.column", "manifest.json"}
    assert files_with(tmp_path, [ciphertext[:40], key]) == []
    with failed_at("rawdata.missing"):
        store.open_columns(name, ("city",))
    assert contents(store, name, "age") == [AGE]


def test_a_column_that_comes_back_does_not_open_once_the_key_was_rotated(store: RawStore, tmp_path: Path) -> None:
    """Deleted blocks that forensics find: the ciphertext and the old manifest, but not the KEK."""
    name = publish(store, age=AGE, city=CITY)
    found = shutil.copytree(tmp_path / "raw" / name, tmp_path / "found")
    store.drop_column(name, "city")
    kms_in(tmp_path).rotate(store)
    shutil.copytree(found, tmp_path / "raw" / name, dirs_exist_ok=True)
    with failed_at("kms.key-missing"):
        open_store(tmp_path).open_columns(name, ("city",))


@pytest.mark.parametrize("column", [None, "city"])
def test_dropping_completes_after_a_kill_at_any_step(tmp_path: Path, column: str | None) -> None:
    store = make_store(tmp_path)
    name = publish(store, age=AGE, city=CITY)
    shutil.copytree(tmp_path / "raw", tmp_path / "saved")

    def drop() -> None:
        if column is None:
            open_store(tmp_path).drop_version(name)
        else:
            open_store(tmp_path).drop_column(name, column)

    steps = []
    for step in killed_at_every_step(drop):
        steps.append(step)
        drop()
        left = {path.name for path in (tmp_path / "raw").rglob("*")}
        assert left == ({name, "00000.column", "manifest.json"} if column else set())
        shutil.rmtree(tmp_path / "raw")
        shutil.copytree(tmp_path / "saved", tmp_path / "raw")
    assert len(steps) > 5


def test_publishing_is_whole_or_nothing_under_kill(tmp_path: Path) -> None:
    make_store(tmp_path)
    steps = []
    for step in killed_at_every_step(lambda: publish(open_store(tmp_path), age=AGE, city=CITY)):
        steps.append(step)
        store = open_store(tmp_path)
        if "people@v1-a" in names(tmp_path):
            assert contents(store, "people@v1-a", "age", "city") == [AGE, CITY]
            store.drop_version("people@v1-a")
        store.sweep(frozenset())
        assert names(tmp_path) == set()
    assert len(steps) > 8
    assert contents(open_store(tmp_path), "people@v1-a", "age") == [AGE]
