"""What a version's folder holds, and each column's wrapped data key.

A data key is wrapped for exactly one dataset, version, column and file: a manifest of another version, or an entry
moved to another column, does not open. Every column has a data key of its own, so that taking its entry away takes its
key away.
"""

from __future__ import annotations

from pathlib import Path

from enclave_runner.contract.codec import Value, decode, encode
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.rawdata.column import FORMAT, ColumnPlace
from enclave_runner.rawdata.durable import DRAFT_SUFFIX, replace_private, sync_folder
from enclave_runner.rawdata.suite import Suite
from enclave_runner.rawdata.wrapping import KeyWrapper, WrappedKey

NAME = "manifest.json"


class ColumnEntry(Value, frozen=True):
    """One column: `file` is the name of its file in the folder."""

    column: str
    file: str
    file_id: str
    key: WrappedKey


class Manifest(Value, frozen=True):
    """The content of one version's folder."""

    dataset_id: str
    version: str
    suite: Suite
    columns: tuple[ColumnEntry, ...]
    format: int = FORMAT

    def place(self, entry: ColumnEntry) -> ColumnPlace:
        """What the entry's file is bound to."""
        return ColumnPlace(suite=self.suite, dataset_id=self.dataset_id, column=entry.column, file_id=entry.file_id)

    def data_key(self, entry: ColumnEntry, keys: KeyWrapper) -> bytes:
        """The entry's data key.

        Raises:
            Failed: `rawdata.damaged`, `kms.…`.
        """
        return keys.unwrap(entry.key, key_context(self.place(entry), self.version))

    def rewrapped(self, keys: KeyWrapper) -> Manifest:
        """The same content with every data key under the wrapper's present KEK.

        Raises:
            Failed: as `data_key`.
        """
        return self._with_columns(
            tuple(
                entry
                if entry.key.key_id == keys.key_id
                else ColumnEntry(
                    column=entry.column,
                    file=entry.file,
                    file_id=entry.file_id,
                    key=keys.wrap(self.data_key(entry, keys), key_context(self.place(entry), self.version)),
                )
                for entry in self.columns
            )
        )

    def without(self, column: str) -> Manifest:
        """The content without one column and its key."""
        return self._with_columns(tuple(entry for entry in self.columns if entry.column != column))

    def entry(self, column: str) -> ColumnEntry:
        """The entry of one column.

        Raises:
            Failed: `rawdata.missing`.
        """
        found = [entry for entry in self.columns if entry.column == column]
        if not found:
            raise Failed("rawdata.missing")
        return found[0]

    def _with_columns(self, columns: tuple[ColumnEntry, ...]) -> Manifest:
        return Manifest(
            dataset_id=self.dataset_id, version=self.version, suite=self.suite, columns=columns, format=self.format
        )


def key_context(place: ColumnPlace, version: str) -> bytes:
    """What a data key is wrapped for."""
    return b"yunei/v1/data-key\n" + encode((place, version))


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a version's folder.

    Raises:
        Failed: `rawdata.missing`, `rawdata.unreadable`, `rawdata.damaged`.
    """
    try:
        manifest = decode((folder / NAME).read_bytes(), Manifest)
    except FileNotFoundError:
        raise Failed("rawdata.missing") from None
    except OSError:
        raise Failed("rawdata.unreadable") from None
    except Refused:
        raise Failed("rawdata.damaged") from None
    if manifest.format != FORMAT or any("/" in entry.file or entry.file.startswith(".") for entry in manifest.columns):
        raise Failed("rawdata.damaged")
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Put a manifest in place, atomically and durably.

    Raises:
        Failed: `rawdata.write`.
    """
    try:
        replace_private(folder / NAME, encode(manifest))
    except OSError:
        raise Failed("rawdata.write") from None


def has_manifest(folder: Path) -> bool:
    """Whether there is one, readable or not: only a folder without one is known to hold no keys.

    Raises:
        Failed: `rawdata.damaged` when that cannot be told.
    """
    try:
        (folder / NAME).lstat()
    except FileNotFoundError:
        return False
    except OSError:
        raise Failed("rawdata.damaged") from None
    return True


def remove_manifest(folder: Path) -> None:
    """Remove every key of a version, durably."""
    for name in (NAME, NAME + DRAFT_SUFFIX):
        (folder / name).unlink(missing_ok=True)
    sync_folder(folder)
