"""The raw store: written once, readable by a descriptor, never by name from outside, nothing left of what failed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.jail.profile import JOB_UID
from enclave_runner.rawdata.store import CHUNK, RawStore
from tests.support.enclave_home import rewound


@pytest.fixture
def store(tmp_path: Path) -> RawStore:
    return RawStore(tmp_path / "raw")


def test_the_folder_is_the_enclaves_alone(store: RawStore, tmp_path: Path) -> None:
    assert (tmp_path / "raw").stat().st_mode & 0o777 == 0o700
    RawStore(tmp_path / "raw").sweep(frozenset())


def test_a_source_is_copied_once_hashed_and_has_no_name(store: RawStore, tmp_path: Path) -> None:
    content = os.urandom(CHUNK + 17)
    with rewound(content) as file:
        copy, sha256 = store.take_source(file, len(content))
    assert sha256 == hashlib.sha256(content).hexdigest()
    assert os.pread(copy, len(content) + 1, 0) == content
    assert list((tmp_path / "raw").iterdir()) == []
    assert os.fstat(copy).st_nlink == 0
    os.close(copy)


def test_a_source_over_the_cap_is_refused_and_nothing_stays_open(store: RawStore) -> None:
    before = sorted(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with rewound(bytes(1001)) as file, pytest.raises(Refused) as caught:
        store.take_source(file, 1000)
    assert (caught.value.rule, caught.value.facts) == ("import.too-large", {"max": "1000"})
    assert sorted(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_a_draft_is_published_under_its_version_and_read_only(store: RawStore, tmp_path: Path) -> None:
    draft = store.draft("people")
    os.write(draft.descriptor, b"rows")
    if os.geteuid() == 0:
        assert os.fstat(draft.descriptor).st_uid == JOB_UID
    name = store.publish(draft, "people", "v1-abc")
    os.close(draft.descriptor)
    store.discard(draft)
    store.sweep(frozenset({name}))
    path = tmp_path / "raw" / name
    assert (name, path.read_bytes()) == ("people@v1-abc.parquet", b"rows")
    assert path.stat().st_mode & 0o777 == 0o444
    assert path.stat().st_uid == os.geteuid()
    opened = store.open(name)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.write(opened, b"x")
    os.close(opened)


def test_what_was_not_published_is_swept(store: RawStore, tmp_path: Path) -> None:
    for _ in range(2):
        os.close(store.draft("people").descriptor)
    assert len(list((tmp_path / "raw").iterdir())) == 2
    os.close(store._unnamed())
    store.sweep(frozenset())
    assert list((tmp_path / "raw").iterdir()) == []


def test_a_file_that_no_version_refers_to_is_put_aside_and_not_lost(store: RawStore, tmp_path: Path) -> None:
    """Under an old ledger that was restored, the unknown file may hold the newer data."""
    folder = tmp_path / "raw"
    for name in ("people@v1-a.parquet", "people@v2-b.parquet"):
        (folder / name).write_bytes(name.encode())
    for _ in range(2):  # the second start finds it aside already
        store.sweep(frozenset({"people@v1-a.parquet"}))
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
            "people@v1-a.parquet": b"people@v1-a.parquet",
            ".aside-people@v2-b.parquet": b"people@v2-b.parquet",
        }
    with pytest.raises(Failed):
        store.open("people@v2-b.parquet")


def test_a_stage_has_no_name_and_a_missing_version_is_a_fault(store: RawStore, tmp_path: Path) -> None:
    stage = store.stage()
    assert os.fstat(stage).st_nlink == 0
    os.close(stage)
    with pytest.raises(Failed) as caught:
        store.open("people@v9.parquet")
    assert caught.value.code == "rawdata.missing"
    assert list((tmp_path / "raw").iterdir()) == []
