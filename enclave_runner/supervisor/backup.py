"""The enclave's part of a backup: one consistent copy of its home, sealed, also while the enclave runs.

The ledger is copied in one snapshot, first. Files of the home are written once and never changed, and what the snapshot
refers to is there before it; what is published later does no harm. Raw columns are in the archive as they are at rest:
encrypted. What may change beside a running enclave (its small files) is read again at the end.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path, PurePosixPath

from enclave_runner.contract.archive import ArchiveWriter, Sink
from enclave_runner.contract.codec import Value, encode
from enclave_runner.contract.errors import Failed
from enclave_runner.contract.folder import FolderWriter, workspace
from enclave_runner.contract.rulebook import PolicyPack
from enclave_runner.contract.signing import KeyFile, Signed, seal
from enclave_runner.contract.wire import SOCKET_NAME, USERS_NAME, Reading
from enclave_runner.supervisor.database import Database
from enclave_runner.supervisor.home import EnclaveHome, lock_home
from enclave_runner.supervisor.ledger import Ledger, utc_now
from enclave_runner.supervisor.limits import read_limits

PART = "enclave"
PURPOSE = "backup"
FORMAT = 2
MANIFEST = "manifest.json"
HOME = "home"
WORK = ".backup"
# Small files (keys, trust, rules, what describes a version) are compared at the end; columns are never changed.
SMALL = 1 << 20


class Manifest(Value, frozen=True):
    """The first file of the archive, signed with the receipt key: what the ledger in it says."""

    format: int
    label: str
    made_at: datetime
    checkpoint: str
    readings: tuple[Reading, ...]


def back_up(home: EnclaveHome, sink: Sink, recipient: bytes, label: str, when_fixed: Callable[[], None]) -> None:
    """Write the archive. `when_fixed` is called once the state that goes into it is fixed.

    Raises:
        Failed: `home.unreadable`, `backup.changed` when keys were replaced meanwhile, `backup.unwritable`,
            `workspace.…`.
    """
    if not home.ledger.is_file():
        raise Failed("home.unreadable")
    with _held(home), workspace(home.folder / WORK) as place:
        ledger, manifest = place / home.ledger.name, place / MANIFEST
        _copy_ledger(home, ledger)
        when_fixed()
        folder = FolderWriter(ArchiveWriter(sink, recipient, label, PART))
        manifest.write_bytes(encode(_describe(home, ledger, label)))
        folder.file(MANIFEST, manifest)
        folder.folder(HOME)
        folder.file(f"{HOME}/{home.ledger.name}", ledger)
        before = _small_files(home)
        folder.tree(home.folder, lambda name: _is_kept(home, name), f"{HOME}/")
        if any(_digest_of(home.folder / name) != known for name, known in before.items()):
            raise Failed("backup.changed")
        folder.finish()


@contextmanager
def _held(home: EnclaveHome) -> Iterator[None]:
    """Keep an enclave from starting in a home where none runs; a running one goes on beside the backup."""
    try:
        lock = lock_home(home)
    except Failed as failed:
        if failed.code != "home.busy":
            raise
        yield
        return
    try:
        yield
    finally:
        os.close(lock)


def _copy_ledger(home: EnclaveHome, copy: Path) -> None:
    """The ledger at one moment, whatever the running enclave does to it."""
    try:
        with (
            closing(sqlite3.connect(f"{home.ledger.absolute().as_uri()}?mode=rw", uri=True, timeout=30)) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
    except sqlite3.Error:
        raise Failed("backup.unreadable") from None


def _describe(home: EnclaveHome, copy: Path, label: str) -> Signed:
    key = KeyFile.load(home.receipt_key)
    limits = read_limits(PolicyPack(home.policies))
    with closing(Database(copy)) as database:
        ledger = Ledger(database, key, limits.caps)
        manifest = Manifest(
            format=FORMAT,
            label=label,
            made_at=utc_now().replace(microsecond=0),
            checkpoint=ledger.checkpoint(),
            readings=ledger.readings(),
        )
    return seal(manifest, PURPOSE, key)


def _is_kept(home: EnclaveHome, name: PurePosixPath) -> bool:
    """Everything but the ledger, which is in already, and what running processes have not finished (dot names)."""
    if any(part.startswith(".") for part in name.parts):
        return False
    return name.parts[0] not in (SOCKET_NAME, USERS_NAME) and not name.parts[0].startswith(home.ledger.name)


def _small_files(home: EnclaveHome) -> dict[str, str | None]:
    """Digest of every small file that an enclave does not write to while it runs."""
    found = {}
    for path in sorted(home.folder.rglob("*")):
        name = path.relative_to(home.folder)
        if _is_kept(home, PurePosixPath(name)) and path != home.log and path.is_file() and not _is_large(path):
            found[name.as_posix()] = _digest_of(path)
    return found


def _is_large(path: Path) -> bool:
    try:
        return path.stat().st_size > SMALL
    except OSError:
        return True


def _digest_of(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None
