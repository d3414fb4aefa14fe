"""Writing so that it survives a crash: whole or not at all, private, on disk when the call returns."""

from __future__ import annotations

import os
from pathlib import Path

DRAFT_SUFFIX = ".new"


def make_private(path: Path, content: bytes) -> None:
    """A new file with mode 0600, its content on disk. An existing one is never overwritten."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace_private(path: Path, content: bytes) -> None:
    """Put new content in a file's place: a crash leaves the old file or the new one, never a part."""
    draft = path.with_name(path.name + DRAFT_SUFFIX)
    draft.unlink(missing_ok=True)  # of a crash
    make_private(draft, content)
    draft.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
