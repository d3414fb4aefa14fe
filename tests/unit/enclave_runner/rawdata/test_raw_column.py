"""A column file: what comes out is what went in, and whatever was done to the file in between is noticed."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from enclave_runner.rawdata.column import CHUNK, SEALED_CHUNK, ColumnPlace, ColumnWriter, read_column
from enclave_runner.rawdata.suite import Suite
from tests.support.raw_stores import open_files
from tests.support.refusals import failed_at

PLACE = ColumnPlace(suite=Suite.AES_256_GCM, dataset_id="people", column="age", file_id="00" * 16)
KEY = b"k" * 32
DATA = os.urandom(2 * CHUNK + 5)


def write(path: Path, data: bytes, place: ColumnPlace = PLACE, key: bytes = KEY) -> Path:
    writer = ColumnWriter(path, place, key)
    writer.write(data)
    writer.finish()
    return path


def read(path: Path, place: ColumnPlace = PLACE, key: bytes = KEY) -> bytes:
    with os.fdopen(read_column(path, place, key), "rb") as file:
        file.seek(0)
        return file.read()


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
@pytest.mark.parametrize("suite", Suite)
def test_it_comes_back_whole_and_no_longer_than_it_must_be(tmp_path: Path, suite: Suite, size: int) -> None:
    place = ColumnPlace(suite=suite, dataset_id="people", column="age", file_id="11" * 16)
    key, data = b"k" * suite.key_bytes, os.urandom(size)
    path = write(tmp_path / "c", data, place, key)
    assert read(path, place, key) == data
    assert path.stat().st_size == size + 16 * max(1, -(-size // CHUNK))
    assert path.stat().st_mode & 0o777 == 0o600


def test_how_it_is_cut_into_writes_does_not_show(tmp_path: Path) -> None:
    writer = ColumnWriter(tmp_path / "many", PLACE, KEY)
    for start in range(0, len(DATA), 99_991):
        writer.write(DATA[start : start + 99_991])
    writer.finish()
    assert (tmp_path / "many").read_bytes() == write(tmp_path / "one", DATA).read_bytes()


def test_the_plaintext_is_in_sealed_memory(tmp_path: Path) -> None:
    descriptor = read_column(write(tmp_path / "c", DATA), PLACE, KEY)
    assert str(Path(f"/proc/self/fd/{descriptor}").readlink()) == "/memfd:column (deleted)"
    with pytest.raises(PermissionError):
        os.pwrite(descriptor, b"x", 0)
    with pytest.raises(PermissionError):
        os.ftruncate(descriptor, 0)
    os.close(descriptor)


def chunks(data: bytes) -> list[bytes]:
    return [data[start : start + SEALED_CHUNK] for start in range(0, len(data), SEALED_CHUNK)]


@pytest.mark.parametrize(
    "harm",
    [
        lambda data: bytes([data[0] ^ 1]) + data[1:],
        lambda data: data[:-1] + bytes([data[-1] ^ 128]),
        lambda data: data[: SEALED_CHUNK + 7] + bytes([data[SEALED_CHUNK + 7] ^ 4]) + data[SEALED_CHUNK + 8 :],
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: data[:SEALED_CHUNK],
        lambda data: data[: 2 * SEALED_CHUNK],
        lambda data: data[SEALED_CHUNK:],
        lambda data: data[: 2 * SEALED_CHUNK + 3],
        lambda data: b"",
        lambda data: chunks(data)[1] + chunks(data)[0] + chunks(data)[2],
        lambda data: chunks(data)[0] * 2 + chunks(data)[2],
        lambda data: data + chunks(data)[2],
    ],
    ids=[
        *("first-bit", "last-bit", "middle-bit", "cut-1", "longer", "one-of-three", "two-of-three", "no-first"),
        *("cut-in-tag", "empty", "swapped", "doubled", "last-twice"),
    ],
)
def test_harm_is_noticed_and_nothing_stays_open(tmp_path: Path, harm: Callable[[bytes], bytes]) -> None:
    path = write(tmp_path / "c", DATA)
    path.write_bytes(harm(path.read_bytes()))
    before = open_files()
    with failed_at("rawdata.damaged"):
        read_column(path, PLACE, KEY)
    assert open_files() == before


@pytest.mark.parametrize(
    ("place", "key"),
    [
        (ColumnPlace(suite=Suite.AES_256_GCM, dataset_id="peoplf", column="age", file_id="00" * 16), KEY),
        (ColumnPlace(suite=Suite.AES_256_GCM, dataset_id="people", column="agf", file_id="00" * 16), KEY),
        (ColumnPlace(suite=Suite.AES_256_GCM, dataset_id="people", column="age", file_id="01" * 16), KEY),
        (ColumnPlace(suite=Suite.AES_256_GCM, dataset_id="people", column="age", file_id="00" * 16, format=2), KEY),
        (PLACE, b"K" * 32),
    ],
    ids=["dataset", "column", "file", "format", "key"],
)
def test_it_opens_only_in_its_place(tmp_path: Path, place: ColumnPlace, key: bytes) -> None:
    path = write(tmp_path / "c", DATA)
    with failed_at("rawdata.damaged"):
        read_column(path, place, key)


def test_equal_chunks_look_different(tmp_path: Path) -> None:
    """The nonce counts: with a repeated one, equal plaintext would give equal ciphertext."""
    sealed = chunks(write(tmp_path / "c", bytes(4 * CHUNK)).read_bytes())
    assert len({chunk[:64] for chunk in sealed}) == 4


def test_a_file_is_written_once(tmp_path: Path) -> None:
    path = write(tmp_path / "c", b"first")
    with pytest.raises(FileExistsError):
        ColumnWriter(path, PLACE, KEY)
    with failed_at("rawdata.missing"):
        read_column(tmp_path / "other", PLACE, KEY)
    assert read(path) == b"first"


def test_what_the_disk_or_the_memory_refuses_is_not_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, before = write(tmp_path / "c", DATA), open_files()

    def full(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, "no memory")

    with monkeypatch.context() as patched, failed_at("rawdata.unreadable"):
        patched.setattr(os, "write", full)
        read_column(path, PLACE, KEY)
    (tmp_path / "folder").mkdir()
    with failed_at("rawdata.unreadable"):
        read_column(tmp_path / "folder", PLACE, KEY)
    assert open_files() == before
    assert read(path) == DATA


def test_a_full_disk_is_a_fault(tmp_path: Path) -> None:
    writer = ColumnWriter(tmp_path / "c", PLACE, KEY)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (CHUNK // 2, hard))  # Python ignores SIGXFSZ: the write says EFBIG
    try:
        with failed_at("rawdata.write"):
            writer.write(DATA)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        writer.abandon()
