"""A folder as a tar stream, and back: regular files and folders only, private, durable, nothing outside."""

from __future__ import annotations

import fcntl
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from enclave_runner.contract.archive import ArchiveReader, ArchiveWriter
from enclave_runner.contract.errors import Failed

BLOCK = 1 << 20


class FolderWriter:
    """Packs files and folders, one after the other, into an archive."""

    def __init__(self, archive: ArchiveWriter) -> None:
        self._archive = archive
        self._tar = tarfile.open(fileobj=archive, mode="w|")  # type: ignore[call-overload]  # noqa: SIM115

    def folder(self, name: str) -> None:
        """Add an empty folder."""
        member = tarfile.TarInfo(name)
        member.type, member.mode = tarfile.DIRTYPE, 0o700
        self._tar.addfile(member)

    def file(self, name: str, path: Path) -> None:
        """Add a file as long as it is now. One that is gone by now is left out: then nothing refers to it.

        Raises:
            Failed: `backup.changed` when it gets shorter meanwhile; `backup.unreadable`.
        """
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        except OSError:
            raise Failed("backup.unreadable") from None
        with os.fdopen(descriptor, "rb") as file:
            member = tarfile.TarInfo(name)
            member.size, member.mode = os.fstat(descriptor).st_size, 0o600
            try:
                self._tar.addfile(member, file)
            except OSError:
                raise Failed("backup.changed") from None

    def tree(self, root: Path, is_wanted: Callable[[PurePosixPath], bool], prefix: str = "") -> None:
        """Add everything below a folder that is wanted, by its relative name; sockets and links never are.

        Raises:
            Failed: as `file`.
        """
        for folder, folders, files in os.walk(root, onerror=_unreadable):
            place = Path(folder).relative_to(root)
            kept = sorted(name for name in folders if is_wanted(PurePosixPath(place / name)))
            folders[:] = [name for name in kept if not (Path(folder) / name).is_symlink()]
            for name in folders:
                self.folder(f"{prefix}{(place / name).as_posix()}")
            for name in sorted(files):
                path = Path(folder) / name
                if is_wanted(PurePosixPath(place / name)) and path.is_file() and not path.is_symlink():
                    self.file(f"{prefix}{(place / name).as_posix()}", path)

    def finish(self) -> None:
        """End the tar and the archive."""
        self._tar.close()
        self._archive.finish()


def _unreadable(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise Failed("backup.unreadable") from None


def unpack(archive: ArchiveReader, folder: Path) -> None:
    """Fill an empty folder from an archive; every file is 0600, every folder 0700, all on the disk at the end.

    Raises:
        Failed: `backup.damaged`, also for a name that points elsewhere or a member that is no file;
            `restore.unwritable` when the disk does not take it.
    """
    try:
        with tarfile.open(fileobj=archive, mode="r|") as tar:  # type: ignore[call-overload]
            for member in tar:
                _place(tar, member, folder)
                tar.members.clear()  # the stream is read once; a list of all members would only grow
    except (tarfile.TarError, ValueError, OverflowError):  # headers are the archive's maker's, not ours
        raise Failed("backup.damaged") from None
    except OSError:
        raise Failed("restore.unwritable") from None
    archive.drain()
    sync_tree(folder)


def _place(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts or not name.parts:
        raise Failed("backup.damaged")
    path = folder / name
    if member.type == tarfile.DIRTYPE:
        path.mkdir(mode=0o700)
        return
    # A sparse file may claim any size of nothing, also as a regular one with extended headers.
    is_file = member.type == tarfile.REGTYPE and not member.issparse()
    content = tar.extractfile(member) if is_file else None
    if content is None:
        raise Failed("backup.damaged")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with content, os.fdopen(descriptor, "wb") as file:
        shutil.copyfileobj(content, file, BLOCK)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Make the names in a folder and below it durable."""
    for path, _, _ in os.walk(folder):
        sync_folder(Path(path))


def require_free(folder: Path) -> None:
    """Pass when nothing stands in that place, or an empty folder.

    Raises:
        Failed: `home.exists`.
    """
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise Failed("home.exists")


@contextmanager
def workspace(place: Path) -> Iterator[Path]:
    """A private folder of one process at a time: empty at first, gone at the end.

    What a killed process left in it is removed.

    Raises:
        Failed: `workspace.busy`, `workspace.unwritable`.
    """
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        raise Failed("workspace.unwritable") from None
    try:
        _lock(lock)
        try:
            for path in place.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)
    finally:
        os.close(lock)


def _lock(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise Failed("workspace.busy") from None


def beside(folder: Path) -> Path:
    """Where a folder is made that will take that one's place: on the same disk, under a name that nobody opens."""
    return folder.with_name(f".{folder.name}.restoring")


def settle(made: Path, folder: Path) -> None:
    """Move a finished folder into its place, durably: whole or not at all.

    Raises:
        Failed: `home.exists` when something has come to stand there.
    """
    sync_tree(made)
    try:
        made.rename(folder)
    except OSError:
        raise Failed("home.exists") from None
    sync_folder(folder.parent)


def file_of(descriptor: int) -> BinaryIO:
    """An unbuffered file over a descriptor that stays open: it reads no byte too far."""
    return os.fdopen(descriptor, "rb", buffering=0, closefd=False)
