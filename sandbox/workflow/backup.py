"""Backing a whole deployment up into one sealed file, also while it is in use.

    enclave part (written by the enclave itself, which shows nobody its keys) ‖ bureau part

Both parts are of one moment: the control plane's write lock is held while both databases are copied, so that no receipt
in the one copy names a checkpoint that the other one does not know yet.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from enclave_runner.contract.archive import ArchiveWriter, load_recipient
from enclave_runner.contract.errors import Failed
from enclave_runner.contract.folder import FolderWriter, sync_folder, workspace
from sandbox.settings import Home
from sandbox.store.database import open_engine, sqlite_url, writing

PART = "bureau"
POLL_SECONDS = 0.1
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class BackupReport:
    """A finished backup."""

    file: str
    label: str
    bytes: int


def back_up(home: Home, to: Path, recipient: Path, progress: Progress) -> BackupReport:
    """Write the file, whole or not at all. `progress` is told bytes written and expected, now and then.

    Raises:
        Failed: `home.missing`, `home.incomplete`, `backup.exists`, `backup.unwritable`, `backup.busy`, `workspace.…`,
            `key.…`, or as the enclave says.
    """
    if not home.trust.is_file():
        raise Failed("home.missing")
    if not home.control_db.is_file():
        raise Failed("home.incomplete")
    public, label, expected = load_recipient(recipient), secrets.token_hex(16), _size_of(home.folder)
    with _new_file(to) as file, workspace(home.bureau / ".backup") as place:
        copy = place / home.control_db.name
        with tempfile.TemporaryFile() as errors:
            enclave = _start_at_one_moment(home, copy, file, recipient, label, errors)
            _await(enclave, errors, lambda: progress(min(os.fstat(file.fileno()).st_size, expected), expected))
        file.seek(0, os.SEEK_END)
        folder = FolderWriter(ArchiveWriter(file, public, label, PART))
        folder.tree(home.folder, lambda name: _is_kept(home, name))
        folder.file(home.control_db.relative_to(home.folder).as_posix(), copy)
        folder.finish()
        size = file.tell()
    progress(expected, expected)
    return BackupReport(str(to), label, size)


@contextmanager
def _new_file(to: Path) -> Iterator[BinaryIO]:
    """A draft beside the file that takes its name at the end; one that was left behind is written over."""
    if to.exists():
        raise Failed("backup.exists")
    draft = to.with_name(f".{to.name}.part")
    try:
        descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError:
        raise Failed("backup.unwritable") from None
    with os.fdopen(descriptor, "r+b") as file:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Failed("backup.busy") from None
        file.truncate(0)
        try:
            yield file
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        try:
            file.flush()
            os.fsync(descriptor)
            draft.rename(to)
            sync_folder(to.parent)
        except OSError:
            raise Failed("backup.unwritable") from None


def _start_at_one_moment(
    home: Home, copy: Path, file: BinaryIO, recipient: Path, label: str, errors: BinaryIO
) -> subprocess.Popen[bytes]:
    """Copy the control plane's database, and start the enclave's own backup, which has copied the ledger by the end."""
    engine = open_engine(sqlite_url(home.control_db))
    reads, writes = os.pipe()
    told = os.fdopen(writes, "wb", 0)  # may be closed twice
    command = [sys.executable, "-P", "-m", "enclave_runner", "backup", "--home", str(home.enclave), "--label", label]
    command += ["--recipient", str(recipient.absolute()), "--fixed-fd", str(writes)]
    try:
        with writing(engine):
            _copy_database(home.control_db, copy)
            enclave = subprocess.Popen(  # noqa: S603 - our own program, no shell
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=errors, pass_fds=(writes,)
            )
            told.close()
            os.read(reads, 1)  # nothing comes: the enclave closes its end, or has died
    finally:
        told.close()
        os.close(reads)
        engine.dispose()
    return enclave


def _copy_database(path: Path, copy: Path) -> None:
    try:
        with (
            closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=30)) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
    except sqlite3.Error:
        raise Failed("backup.unreadable") from None


def _await(enclave: subprocess.Popen[bytes], errors: BinaryIO, tick: Callable[[], None]) -> None:
    try:
        while enclave.poll() is None:
            tick()
            try:
                enclave.wait(POLL_SECONDS)
            except subprocess.TimeoutExpired:
                continue
    except BaseException:
        enclave.kill()
        enclave.wait()
        raise
    if enclave.returncode != 0:
        raise Failed(said_by_enclave(errors))


def said_by_enclave(errors: BinaryIO) -> str:
    """The code that an enclave's command printed when it gave up."""
    errors.seek(0)
    lines = errors.read().decode(errors="replace").strip().splitlines()
    start = "yunei enclave: "
    return lines[-1].removeprefix(start) if lines and lines[-1].startswith(start) else "backup.enclave"


def _is_kept(home: Home, name: PurePosixPath) -> bool:
    """Everything but the enclave, which is in already, the database, which is copied, and unfinished things."""
    path = home.folder / name
    is_database = path.parent == home.bureau and path.name.startswith(home.control_db.name)
    return path != home.enclave and not is_database and not any(part.startswith(".") for part in name.parts)


def _size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
