"""Pieces of verification tables at rest: whole or not there, encrypted, dropped with their keys, and swept."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from enclave_runner.contract.errors import Failed
from enclave_runner.jail.launcher import MemoryFile
from enclave_runner.rawdata.store import RawStore
from enclave_runner.rawdata.suite import Suite
from enclave_runner.rawdata.wrapping import FileWrapper
from enclave_runner.supervisor.database import Database
from enclave_runner.supervisor.verification_tables import SECRETS, Secrets, VerificationTables

CONTENT = b"the table of a product " * 100_000
VERSION, OTHER = "0" * 32, "f" * 32


@dataclass(frozen=True)
class Shelf:
    """Tables over a real store, and where both lie."""

    tables: VerificationTables
    store: RawStore
    folder: Path
    path: Path

    def keep(self, version: str = VERSION, piece: str = "plain", content: bytes = CONTENT) -> None:
        with MemoryFile(content) as file:
            self.tables.keep(version, piece, file.descriptor)

    def read(self, version: str = VERSION, piece: str = "plain") -> bytes:
        descriptor = self.tables.open(version, piece)
        try:
            return os.pread(descriptor, os.fstat(descriptor).st_size, 0)
        finally:
            os.close(descriptor)

    def folders(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}


@pytest.fixture(params=list(Suite))
def shelf(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Shelf]:
    keys = FileWrapper.create(tmp_path / "kek", request.param)
    store = RawStore(tmp_path / "raw", keys, request.param)
    with closing(Database(tmp_path / "ledger.db")) as database:
        yield Shelf(VerificationTables(store, database), store, tmp_path / "raw", tmp_path / "ledger.db")


@pytest.mark.parametrize("content", [b"", b"x", CONTENT])
def test_a_piece_comes_back_as_it_was_in_sealed_memory(shelf: Shelf, content: bytes) -> None:
    shelf.keep(content=content)
    assert shelf.read() == content
    descriptor = shelf.tables.open(VERSION, "plain")
    with pytest.raises(PermissionError):
        os.pwrite(descriptor, b"x", 0)
    os.close(descriptor)


def test_nothing_of_it_lies_in_clear(shelf: Shelf) -> None:
    shelf.keep()
    shelf.tables.keep_value(
        VERSION, SECRETS, Secrets(subjects=b"s" * 32, openings=b"o" * 32, oprf_key=b"k" * 32, seed=b"e" * 16)
    )
    for file in (path for path in shelf.folder.rglob("*") if path.is_file()):
        content = file.read_bytes()
        assert not [part for part in (b"table of a product", b"k" * 8, b"c2NzY3Nz") if part in content]
        assert file.stat().st_mode & 0o077 == 0


def test_a_value_comes_back(shelf: Shelf) -> None:
    secrets = Secrets(subjects=b"s" * 32, openings=b"o" * 32, oprf_key=b"k" * 32, seed=b"e" * 16)
    shelf.tables.keep_value(VERSION, SECRETS, secrets)
    assert shelf.tables.value(VERSION, SECRETS, Secrets) == secrets
    shelf.keep(piece="other", content=b"{}")
    with pytest.raises(Failed, match=r"rawdata\.damaged"):
        shelf.tables.value(VERSION, "other", Secrets)


def test_a_piece_is_there_once_it_is_whole(shelf: Shelf) -> None:
    assert not shelf.tables.has(VERSION, "plain")
    shelf.keep()
    assert shelf.tables.has(VERSION, "plain")
    assert not shelf.tables.has(OTHER, "plain")
    assert not shelf.tables.has(VERSION, "matrix")


def test_a_piece_that_a_crash_left_is_written_anew(shelf: Shelf) -> None:
    """The folder may be there before its record says so."""
    shelf.keep()
    with closing(sqlite3.connect(shelf.path)) as raw, raw:
        raw.execute("UPDATE table_pieces SET is_whole = 0")
    assert not shelf.tables.has(VERSION, "plain")
    shelf.keep(content=b"anew")
    assert shelf.read() == b"anew"


def test_one_piece_does_not_pass_for_another(shelf: Shelf) -> None:
    shelf.keep()
    shelf.keep(OTHER)
    first, second = (shelf.folder / f".table@{version}-plain" for version in (VERSION, OTHER))
    aside = shelf.folder / "aside"
    first.rename(aside)
    second.rename(first)
    aside.rename(second)
    for version in (VERSION, OTHER):
        with pytest.raises(Failed, match=r"rawdata\.damaged"):
            shelf.read(version)


def test_dropping_takes_keys_and_bytes_and_only_those(shelf: Shelf) -> None:
    for piece in ("plain", "matrix", "cells-0000000000"):
        shelf.keep(piece=piece)
    shelf.keep(OTHER)
    shelf.tables.drop(VERSION, keeping=("plain",))
    assert shelf.folders() == {f".table@{VERSION}-plain", f".table@{OTHER}-plain"}
    shelf.tables.drop(VERSION)
    shelf.tables.drop(VERSION)
    assert shelf.tables.versions() == {OTHER}
    with pytest.raises(Failed, match=r"rawdata\.missing"):
        shelf.read()
    assert shelf.read(OTHER) == CONTENT


def test_the_store_sweeps_everything_but_what_is_named(shelf: Shelf) -> None:
    shelf.keep()
    (shelf.folder / ".table@stray-plain").mkdir()
    shelf.store.sweep(shelf.tables.names())
    assert shelf.folders() == {f".table@{VERSION}-plain", ".aside-.table@stray-plain"}


def test_a_piece_whose_version_is_dropped_meanwhile_leaves_nothing(shelf: Shelf) -> None:
    """A product is closed while its table is built."""
    stop, seen = threading.Event(), []

    def drop() -> None:
        while not stop.is_set():
            shelf.tables.drop(VERSION)

    dropper = threading.Thread(target=drop)
    dropper.start()
    for number in range(20):
        try:
            shelf.keep(piece=f"cells-{number}")
        except Failed as failed:
            seen.append(failed.code)
    stop.set()
    dropper.join()
    shelf.tables.drop(VERSION)
    assert set(seen) <= {"table.dropped", "rawdata.write"}
    assert not {name for name in shelf.folders() if not name.startswith(".draft-")}


def test_pieces_are_wrapped_again_with_the_raw_tables(shelf: Shelf, tmp_path: Path) -> None:
    shelf.keep()
    (before,) = (tmp_path / "kek").iterdir()
    renewed = shelf.store._keys.renewed()
    assert shelf.store.rewrap(renewed) == 1
    renewed.destroy_others()
    assert not before.exists()
    assert shelf.read() == CONTENT
