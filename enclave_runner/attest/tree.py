"""A digest over a folder: path, mode, symbolic link and content of everything that could change what runs."""

from __future__ import annotations

import hashlib
import importlib.util
import marshal
import os
import stat
from collections.abc import Iterator

from enclave_runner.contract.codec import Value, digest, encode
from enclave_runner.contract.errors import Failed

CACHE_FOLDER = "__pycache__"
PYC_HEADER_BYTES = 16
UNCHECKED, HASH_BASED = 0b01, 0b11


class Entry(Value, frozen=True):
    """One file. `mode` is 0o755 or 0o644 by its owner's execute bit, as in git, with the bit that lets anyone write.

    `content` is the SHA-256 of a file's bytes, a link's target, or the kind of anything else.
    """

    path: str
    mode: int
    content: str


def tree_digest(folder: str) -> str:
    """SHA-256 over every entry below the folder, in path order. Bytecode is not in it: see `check_bytecode`."""
    return digest(encode(sorted(entries(folder), key=lambda entry: entry.path)))


def entries(folder: str, prefix: str = "") -> Iterator[Entry]:
    """Every file, link and other thing below the folder, links not followed."""
    with os.scandir(folder) as listing:
        for item in listing:
            if item.is_dir(follow_symlinks=False):
                if item.name != CACHE_FOLDER:
                    yield from entries(item.path, f"{prefix}{item.name}/")
            else:
                yield entry_of(item.path, prefix + item.name)


def entry_of(place: str, path: str) -> Entry:
    """The entry of one file, under the name `path`."""
    status = os.lstat(place)
    mode = (0o755 if status.st_mode & stat.S_IXUSR else 0o644) | status.st_mode & stat.S_IWOTH
    if stat.S_ISLNK(status.st_mode):
        return Entry(path=path, mode=0, content=f"link {os.readlink(place)}")
    if not stat.S_ISREG(status.st_mode):
        return Entry(path=path, mode=mode, content=f"kind {stat.S_IFMT(status.st_mode):o}")
    with open(place, "rb") as file:
        return Entry(path=path, mode=mode, content=hashlib.file_digest(file, "sha256").hexdigest())


def check_bytecode(folder: str) -> None:
    """Bytecode that this interpreter would take in place of a source must be what that source compiles to.

    Python trusts a cached file whose header names the source's time and size; nothing else ties the two together.

    Raises:
        Failed: `attest.bytecode` when they differ.
    """
    for place, _, names in os.walk(folder):
        for name in names:
            if name.endswith(".pyc") and os.path.basename(place) != CACHE_FOLDER:
                raise Failed("attest.bytecode")  # a module without any source
            if name.endswith(".py") and not _is_faithful(os.path.join(place, name)):
                raise Failed("attest.bytecode")


def _is_faithful(source_path: str) -> bool:
    try:
        with open(importlib.util.cache_from_source(source_path), "rb") as file:
            cached = file.read()
    except OSError:
        return True  # nothing cached
    with open(source_path, "rb") as file:
        source, status = file.read(), os.fstat(file.fileno())
    if not _would_be_used(cached, source, status):
        return True
    compiled = compile(source, source_path, "exec", dont_inherit=True)
    try:
        return bool(marshal.loads(cached[PYC_HEADER_BYTES:]) == compiled)  # noqa: S302 - what the import itself does
    except (EOFError, ValueError, TypeError):
        return True  # the import would compile the source instead


def _would_be_used(cached: bytes, source: bytes, status: os.stat_result) -> bool:
    """Whether an import would take this bytecode (the rules of PEP 552)."""
    if len(cached) < PYC_HEADER_BYTES or cached[:4] != importlib.util.MAGIC_NUMBER:
        return False
    flags = int.from_bytes(cached[4:8], "little")
    if flags == UNCHECKED:
        return True
    if flags == HASH_BASED:
        return cached[8:16] == importlib.util.source_hash(source)
    time, size = int.from_bytes(cached[8:12], "little"), int.from_bytes(cached[12:16], "little")
    return (time, size) == (int(status.st_mtime) & 0xFFFFFFFF, status.st_size & 0xFFFFFFFF)
