"""Raw tables: one Parquet file per dataset version, written once, renamed into place, never changed.

Files are readable inside a folder that only the enclave may enter (0700): a jailed worker has another uid and no
path, and
reaches a file only through the descriptor that it was handed. Encryption at rest comes with the jail issue.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path

from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.jail.profile import JOB_UID

CHUNK = 1 << 20
ASIDE = ".aside-"


@dataclass(frozen=True)
class Draft:
    """A version being written: `descriptor` is for the importing worker; nothing refers to it until it is published."""

    path: Path
    descriptor: int


class RawStore:
    """The folder of raw tables."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, exist_ok=True)

    def take_source(self, descriptor: int, max_bytes: int) -> tuple[int, str]:
        """Copy the handed file, once, into an unnamed one; return its descriptor and the SHA-256 of its bytes.

        The copy cannot change under the import, and the reader may seek in it whatever the source was (file, pipe).

        Raises:
            Refused: `import.too-large`, or `import.format` when the descriptor cannot be read at all.
        """
        copy = self._unnamed()
        total, hashed = 0, hashlib.sha256()
        try:
            while chunk := _read_source(descriptor):
                total += len(chunk)
                if total > max_bytes:
                    raise Refused("import.too-large", max=max_bytes)
                hashed.update(chunk)
                _write_all(copy, chunk)
        except BaseException:
            os.close(copy)
            raise
        return copy, hashed.hexdigest()

    def stage(self) -> int:
        """An unnamed file that a worker may write."""
        return _give(self._unnamed())

    def draft(self, dataset_id: str) -> Draft:
        """A new file that a worker may write, outside any version until `publish`."""
        path = self._folder / f".draft-{dataset_id}-{secrets.token_hex(8)}"
        return Draft(path, _give(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)))

    def publish(self, draft: Draft, dataset_id: str, version: str) -> str:
        """Make the draft durable under its version; return its file name."""
        name = f"{dataset_id}@{version}.parquet"
        os.fchown(draft.descriptor, os.geteuid(), os.getegid())
        os.fchmod(draft.descriptor, 0o444)
        os.fsync(draft.descriptor)
        draft.path.rename(self._folder / name)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return name

    def discard(self, draft: Draft) -> None:
        """Remove an unpublished draft."""
        draft.path.unlink(missing_ok=True)

    def sweep(self, published: frozenset[str]) -> None:
        """Remove drafts that a crash left, and put aside files that no version refers to.

        Aside, not away: under an old ledger that was restored they may be the newer data.
        """
        for path in self._folder.iterdir():
            if path.name.startswith((".draft-", ".unnamed-")):
                path.unlink()
            elif path.name not in published and not path.name.startswith(ASIDE):
                path.rename(path.with_name(ASIDE + path.name))

    def open(self, name: str) -> int:
        """A read-only descriptor of a published version."""
        try:
            return os.open(self._folder / name, os.O_RDONLY)
        except OSError:
            raise Failed("rawdata.missing") from None

    def _unnamed(self) -> int:
        try:
            descriptor = os.open(self._folder, os.O_TMPFILE | os.O_RDWR, 0o600)
        except OSError:  # a file system without unnamed files (overlayfs before Linux 6.1)
            descriptor, name = tempfile.mkstemp(prefix=".unnamed-", dir=self._folder)
            Path(name).unlink()
        os.fchmod(descriptor, 0o644)  # a jailed reader has another uid; there is no name to find it by
        return descriptor


def _give(descriptor: int) -> int:
    """Let the jailed worker reopen the file for writing."""
    if os.geteuid() == 0:
        os.fchown(descriptor, JOB_UID, JOB_UID)
    return descriptor


def _read_source(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, CHUNK)
    except OSError:
        raise Refused("import.format") from None


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
