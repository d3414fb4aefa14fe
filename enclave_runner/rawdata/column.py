"""One column on disk: its bytes in chunks of 1 MiB, each sealed for its place.

**Why no nonce repeats.** The nonce is the chunk's number, under a key that is derived from a fresh random data key and
encrypts one file. The file is created exclusively, written once from its beginning to its end by one writer, and never
reopened for writing: a number is used once in it. The data key lives only in memory until the version is published, so
a crash before that leaves a file that nobody can read or continue; the next attempt makes another key. Rotation wraps
the data key again and does not touch the file.

**What is bound.** The derivation and every chunk's associated data bind format, suite, dataset, column and the file's
random id; each chunk also binds its number and whether it is the last. So chunks can be neither altered, swapped,
dropped, appended nor moved to another column. The version is not known while data still stream in: it is bound when the
data key is wrapped (`manifest.py`), and the data key is of one version alone.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from enclave_runner.contract.codec import Value, encode
from enclave_runner.contract.errors import Failed
from enclave_runner.jail.launcher import seal_memory
from enclave_runner.rawdata.suite import NONCE_BYTES, TAG_BYTES, Suite

FORMAT = 1
CHUNK = 1 << 20
SEALED_CHUNK = CHUNK + TAG_BYTES


class ColumnPlace(Value, frozen=True):
    """What a column file is bound to."""

    suite: Suite
    dataset_id: str
    column: str
    file_id: str
    format: int = FORMAT


class _Chunks:
    """The chunks of one file under their key."""

    def __init__(self, place: ColumnPlace, data_key: bytes) -> None:
        self._place = encode(place)
        self.cipher = place.suite.cipher(place.suite.derive(data_key, b"yunei/v1/column\n" + self._place))

    def nonce(self, number: int) -> bytes:
        return number.to_bytes(NONCE_BYTES, "big")

    def bound(self, number: int, is_last: bool) -> bytes:
        return struct.pack(">QB", number, is_last) + self._place


class ColumnWriter:
    """A new column file. `write` as often as there are bytes, then `finish`; or `abandon`."""

    def __init__(self, path: Path, place: ColumnPlace, data_key: bytes) -> None:
        self._chunks = _Chunks(place, data_key)
        self._waiting = bytearray()
        self._number = 0
        self._file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb", 0)

    def write(self, data: bytes) -> None:
        """Append plaintext; the last full chunk waits in memory, since it may be the last.

        Raises:
            Failed: `rawdata.write` (a full disk).
        """
        self._waiting += data
        start = 0
        with memoryview(self._waiting) as view:
            while len(view) - start > CHUNK:
                self._put(view[start : start + CHUNK], is_last=False)
                start += CHUNK
        if start:
            del self._waiting[:start]

    def finish(self) -> None:
        """Write the last chunk; durable when this returns.

        Raises:
            Failed: `rawdata.write`.
        """
        self._put(bytes(self._waiting), is_last=True)
        self._waiting.clear()
        try:
            os.fsync(self._file.fileno())
        except OSError:
            raise Failed("rawdata.write") from None
        self._file.close()

    def abandon(self) -> None:
        """Close the file, whatever state it is in."""
        self._file.close()
        self._waiting = bytearray()  # the old one may still be viewed by the frames of a failed write

    def _put(self, data: bytes | memoryview, is_last: bool) -> None:
        sealed = self._chunks.cipher.seal(
            self._chunks.nonce(self._number), data, self._chunks.bound(self._number, is_last)
        )
        self._number += 1
        try:
            _write_all(self._file.fileno(), sealed)
        except (OSError, ValueError):
            raise Failed("rawdata.write") from None


def read_column(path: Path, place: ColumnPlace, data_key: bytes) -> int:
    """The column's plaintext in a sealed memfd; the caller closes it. One chunk at a time is in this process's memory.

    Raises:
        Failed: `rawdata.missing`, `rawdata.unreadable` when the disk or the memory does not take part,
            `rawdata.damaged` when a single bit is not as it was written.
    """
    target = os.memfd_create("column", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        try:
            with path.open("rb", 0) as file:
                _decrypt(file.fileno(), _Chunks(place, data_key), target)
        except FileNotFoundError:
            raise Failed("rawdata.missing") from None
        except OSError:
            raise Failed("rawdata.unreadable") from None
        seal_memory(target)
    except BaseException:
        os.close(target)
        raise
    return target


def _decrypt(source: int, chunks: _Chunks, target: int) -> None:
    size = os.fstat(source).st_size
    count = -(-size // SEALED_CHUNK)
    if count == 0:
        raise Failed("rawdata.damaged")
    for number in range(count):
        sealed = _read_exactly(source, min(SEALED_CHUNK, size - number * SEALED_CHUNK))
        if len(sealed) < TAG_BYTES:
            raise Failed("rawdata.damaged")
        _write_all(target, chunks.cipher.open(chunks.nonce(number), sealed, chunks.bound(number, number == count - 1)))


def _read_exactly(source: int, length: int) -> bytes:
    data = os.read(source, length)
    while len(data) < length:
        more = os.read(source, length - len(data))
        if not more:
            raise Failed("rawdata.damaged")
        data += more
    return data


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
