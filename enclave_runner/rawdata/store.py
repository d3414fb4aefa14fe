"""Raw tables at rest: one folder per dataset version, one encrypted file per column, written once, never changed.

The store moves bytes and never reads what they mean. Nothing in plaintext has a name on any disk: what is opened goes
into sealed memory that is gone with its last descriptor. The folder is the enclave's alone (0700).

**Deletion.** Files are unlinked, not overwritten: file systems and media that copy on write would keep the old blocks
anyway. What makes the deletion final is the key: each column's data key exists only wrapped in its manifest, so it goes
with the column's entry. Blocks that forensics may find still open under a KEK that still exists; after `rotate-keys`,
which destroys the KEK that wrapped them and does not wrap the deleted keys again, they open under none.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from enclave_runner.contract.errors import Failed
from enclave_runner.rawdata.column import ColumnPlace, ColumnWriter, read_column
from enclave_runner.rawdata.durable import sync_folder
from enclave_runner.rawdata.manifest import (
    ColumnEntry,
    Manifest,
    has_manifest,
    key_context,
    read_manifest,
    remove_manifest,
    write_manifest,
)
from enclave_runner.rawdata.suite import Suite
from enclave_runner.rawdata.wrapping import KeyWrapper

DRAFT, ASIDE, AGAIN = ".draft-", ".aside-", "~"
READERS = 4  # decryption leaves the interpreter lock


class Draft:
    """A version being written, outside any version until `publish`. Its keys are in memory only. One thread uses it."""

    def __init__(self, folder: Path, dataset_id: str, columns: tuple[str, ...], suite: Suite) -> None:
        self.folder = folder
        self.places = tuple(
            ColumnPlace(suite=suite, dataset_id=dataset_id, column=column, file_id=secrets.token_hex(16))
            for column in columns
        )
        self.data_keys = tuple(secrets.token_bytes(suite.key_bytes) for _ in columns)
        self._writers: list[ColumnWriter] = []
        try:
            folder.mkdir(mode=0o700)
            for number, (place, key) in enumerate(zip(self.places, self.data_keys, strict=True)):
                self._writers.append(ColumnWriter(folder / _file_name(number), place, key))
        except OSError:
            self.abandon()
            raise Failed("rawdata.write") from None

    def write(self, column: int, data: bytes) -> None:
        """Append plaintext bytes of that column.

        Raises:
            Failed: `rawdata.column` when there is no such column, `rawdata.write` when the disk does not take them.
        """
        if not 0 <= column < len(self._writers):
            raise Failed("rawdata.column")
        self._writers[column].write(data)

    def finish(self) -> None:
        """Make every column's file whole and durable."""
        for writer in self._writers:
            writer.finish()

    def abandon(self) -> None:
        """Close and remove everything; harmless once it was published."""
        for writer in self._writers:
            writer.abandon()
        shutil.rmtree(self.folder, ignore_errors=True)


class RawStore:
    """The folder of raw tables. Several threads may read; a draft belongs to one."""

    def __init__(self, folder: Path, keys: KeyWrapper, suite: Suite) -> None:
        self._folder, self._keys, self._suite = folder, keys, suite
        folder.mkdir(mode=0o700, exist_ok=True)

    def draft(self, dataset_id: str, columns: tuple[str, ...]) -> Draft:
        """A new version to write to.

        Raises:
            Failed: `rawdata.write`.
        """
        folder = self._folder / f"{DRAFT}{dataset_id}-{secrets.token_hex(8)}"
        return Draft(folder, dataset_id, columns, self._suite)

    def publish(self, draft: Draft, dataset_id: str, version: str) -> str:
        """Make the draft durable under its version, whole or not at all; return the name to open it by.

        Raises:
            Failed: `rawdata.write`, also when there is such a version already; `kms.…`.
        """
        name = f"{dataset_id}@{version}"
        draft.finish()
        entries = tuple(
            ColumnEntry(
                column=place.column,
                file=_file_name(number),
                file_id=place.file_id,
                key=self._keys.wrap(key, key_context(place, version)),
            )
            for number, (place, key) in enumerate(zip(draft.places, draft.data_keys, strict=True))
        )
        write_manifest(
            draft.folder, Manifest(dataset_id=dataset_id, version=version, suite=self._suite, columns=entries)
        )
        try:
            draft.folder.rename(self._folder / name)
            sync_folder(self._folder)
        except OSError:
            raise Failed("rawdata.write") from None
        return name

    def discard(self, draft: Draft) -> None:
        """Remove an unpublished draft; harmless after `publish`."""
        draft.abandon()

    def sweep(self, published: frozenset[str]) -> None:
        """Remove drafts that a crash left, and put aside folders that no version refers to.

        Aside, not away: under an old ledger that was restored they may be the newer data.
        """
        for path in list(self._folder.iterdir()):
            if path.name.startswith(DRAFT):
                shutil.rmtree(path)
            elif path.name not in published and not path.name.startswith(ASIDE):
                path.rename(self._free_name(ASIDE + path.name))

    def open_columns(self, name: str, columns: tuple[str, ...]) -> list[int]:
        """One sealed memfd per column with its plaintext, in the order asked for; the caller closes them.

        Only these columns are decrypted.

        Raises:
            Failed: `rawdata.missing`, `rawdata.unreadable`, `rawdata.damaged`, `kms.…`.
        """
        folder = self._folder / name
        manifest = read_manifest(folder)
        if f"{manifest.dataset_id}@{manifest.version}" != name:
            raise Failed("rawdata.damaged")
        entries = [manifest.entry(column) for column in columns]
        keys = [manifest.data_key(entry, self._keys) for entry in entries]
        with ThreadPoolExecutor(min(READERS, os.cpu_count() or 1)) as pool:
            reading = [
                pool.submit(read_column, folder / entry.file, manifest.place(entry), key)
                for entry, key in zip(entries, keys, strict=True)
            ]
        failed = [error for error in (future.exception() for future in reading) if error is not None]
        if failed:
            for future in reading:
                if future.exception() is None:
                    os.close(future.result())
            raise failed[0]
        return [future.result() for future in reading]

    def drop_version(self, name: str) -> None:
        """Remove a version: manifest first, with all its keys, then the columns. Harmless when it is gone already."""
        for folder in self._copies(name):
            remove_manifest(folder)
            shutil.rmtree(folder)
        sync_folder(self._folder)

    def drop_unnamed(self, dataset_id: str, published: frozenset[str]) -> bool:
        """Remove every folder of a dataset that no version refers to, put aside or not yet; whether there was one."""
        start = f"{dataset_id}@"
        found = [
            p for p in self._versions() if p.name.removeprefix(ASIDE).startswith(start) and p.name not in published
        ]
        for folder in found:
            remove_manifest(folder)
            shutil.rmtree(folder)
        sync_folder(self._folder)
        return bool(found)

    def drop_column(self, name: str, column: str) -> None:
        """Remove one column of a version: its key first, then its bytes. Harmless when it is gone already.

        Raises:
            Failed: `rawdata.damaged`, `rawdata.write`.
        """
        for folder in self._copies(name):
            if not has_manifest(folder):
                continue
            manifest = read_manifest(folder)
            write_manifest(folder, manifest.without(column))
            named = {entry.file for entry in manifest.without(column).columns}
            for path in folder.glob("*.column"):
                if path.name not in named:  # this column's, or one's that a crash kept from being removed
                    path.unlink()
            sync_folder(folder)

    def rewrap(self, keys: KeyWrapper) -> int:
        """Wrap every data key under the wrapper's present KEK, each manifest atomically; return how many changed.

        Versions put aside are included: they would be lost with the old KEK otherwise. Data are not touched.

        Raises:
            Failed: `rawdata.…`, `kms.…`; what was done by then stays done.
        """
        changed = 0
        for folder in sorted(self._versions()):
            if not has_manifest(folder):
                continue  # half dropped: it holds no keys any more
            manifest = read_manifest(folder)
            if any(entry.key.key_id != keys.key_id for entry in manifest.columns):
                write_manifest(folder, manifest.rewrapped(keys))
                changed += 1
        self._keys = keys
        return changed

    def _versions(self) -> Iterator[Path]:
        return (path for path in self._folder.iterdir() if path.is_dir() and not path.name.startswith(DRAFT))

    def _copies(self, name: str) -> list[Path]:
        """The folder of a version, and what was put aside under its name."""
        aside = ASIDE + name
        return [p for p in self._versions() if p.name in (name, aside) or p.name.startswith(aside + AGAIN)]

    def _free_name(self, name: str) -> Path:
        path = self._folder / name
        return self._folder / f"{name}{AGAIN}{secrets.token_hex(4)}" if path.exists() else path


def _file_name(number: int) -> str:
    return f"{number:05d}.column"
