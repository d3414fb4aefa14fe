"""The plain table: what a product knows of each subject, and no more: sorted keyed digests and values of one width.

One file in memory, mapped and never copied: a head (magic, rows, width of a value), the digests as two columns of
words, the values, and a byte for each row that says whether its value is known. A digest is BLAKE2b under a secret of
this table, so that the file alone names nobody.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from enclave_runner.contract.check import Check, CheckKind
from enclave_runner.contract.dataset import EPOCH, Column, ColumnType
from enclave_runner.contract.protocols.canonical import claim_digest, claim_number, claim_text, subject_text
from enclave_runner.contract.protocols.cell import LEVEL, NO, YES, absent_code
from enclave_runner.private.tasks import Subject

DIGEST_BYTES = 16
HEAD = struct.Struct("<8sQQ")
MAGIC = b"yunei-1\n"
CODE, NUMBER, DIGEST = np.dtype("<i2"), np.dtype("<i8"), np.dtype(("u1", 32))
PIECE_ROWS = 1 << 18

Words = NDArray[np.uint64]
Value = int | bytes


@dataclass(frozen=True)
class Cell:
    """What is known of a subject on record: a code, a number or the digest of a text; None for an empty cell."""

    value: Value | None


class PlainTable:
    """An opened table. Reads only."""

    def __init__(self, descriptor: int, subject: Subject) -> None:
        """Map the file.

        Raises:
            ValueError: it is no plain table of that check.
        """
        self._subject = subject
        mapped = mmap.mmap(descriptor, 0, mmap.MAP_PRIVATE, mmap.PROT_READ)
        magic, rows, width = HEAD.unpack(mapped[: HEAD.size].ljust(HEAD.size, b"\0"))
        kind = value_type(subject)
        if magic != MAGIC or width != kind.itemsize or len(mapped) != file_bytes(rows, kind):
            raise ValueError("not a plain table of this check")
        start = HEAD.size
        self._high, self._low = (np.frombuffer(mapped, "<u8", rows, start + 8 * rows * part) for part in (0, 1))
        start += DIGEST_BYTES * rows
        self._values = np.frombuffer(mapped, kind.base, rows * width // kind.base.itemsize, start)
        self._values = self._values.reshape(rows, *kind.shape)
        self._known = np.frombuffer(mapped, np.uint8, rows, start + width * rows)

    def find(self, subject: str) -> Cell | None:
        """What is known of a subject, however it is typed; None where it is not on record."""
        return self.find_all([subject])[0]

    def find_all(self, subjects: Sequence[str]) -> list[Cell | None]:
        """The same for several, in their order."""
        if not subjects or not len(self._high):
            return [None] * len(subjects)
        key_kind, secret = self._subject.key_kind, self._subject.secret
        digests = b"".join(digest_of(subject_text(subject, key_kind), secret) for subject in subjects)
        wanted = np.frombuffer(digests, "<u8").reshape(-1, 2)
        places = np.minimum(np.searchsorted(self._high, wanted[:, 0]), len(self._high) - 1)
        for index in np.flatnonzero((self._high[places] == wanted[:, 0]) & (self._low[places] != wanted[:, 1])):
            places[index] = self._beside(places[index], wanted[index])
        is_own = (self._high[places] == wanted[:, 0]) & (self._low[places] == wanted[:, 1])
        cells = zip(is_own.tolist(), self._known[places].tolist(), self._stored(places), strict=True)
        return [Cell(value if known else None) if own else None for own, known, value in cells]

    def _beside(self, place: int, wanted: Words) -> int:
        """Where the whole digest stands among those that share its first word; the last of them where it does not."""
        last = int(np.searchsorted(self._high, wanted[0], "right"))
        return next((row for row in range(place, last) if self._low[row] == wanted[1]), last - 1)

    def _stored(self, places: NDArray[np.int64]) -> list[Value]:
        values = self._values[places]
        return [value.tobytes() for value in values] if values.ndim > 1 else values.tolist()


def digest_of(subject: str, secret: bytes) -> bytes:
    """The 16 bytes by which a table knows a subject in its one spelling."""
    return hashlib.blake2b(subject.encode(), digest_size=DIGEST_BYTES, key=secret).digest()


def value_type(subject: Subject) -> np.dtype[Any]:
    """How a value is stored: a code where the check has decided at building, the digest of a text, or a number."""
    check = subject.check
    if isinstance(check, Check):
        if check.kind in (CheckKind.MEMBER, CheckKind.LEVEL, CheckKind.EXISTS):
            return CODE
        if check.kind is CheckKind.EQUALS and subject.columns[0].type is ColumnType.TEXT:
            return DIGEST
    return NUMBER


def file_bytes(rows: int, kind: np.dtype[Any]) -> int:
    """The size of a table."""
    return HEAD.size + rows * (DIGEST_BYTES + kind.itemsize + 1)


def write(descriptor: int, digests: Words, values: NDArray[Any], known: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Write a table, sorted, and return the order of its rows.

    Args:
        digests: one row of two words for each subject.

    Raises:
        ManyRowsError: a subject has several rows.
    """
    order = np.lexsort((digests[:, 1], digests[:, 0]))
    _require_single(digests, order)
    _write_all(descriptor, HEAD.pack(MAGIC, len(order), values.itemsize * math.prod(values.shape[1:])))
    for column in (digests[:, 0], digests[:, 1], values, known):
        for first in range(0, len(order), PIECE_ROWS):
            _write_all(descriptor, column[order[first : first + PIECE_ROWS]].tobytes())
    return order


class ManyRowsError(Exception):
    """One subject has several rows: there is no one answer about it."""


def _require_single(digests: Words, order: NDArray[np.int64]) -> None:
    for first in range(0, len(order) - 1, PIECE_ROWS):
        some = digests[order[first : first + PIECE_ROWS + 1]]
        if (some[1:] == some[:-1]).all(axis=1).any():
            raise ManyRowsError


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def spelled(value: int, column: Column) -> str:
    """A stored number, date or truth value in the one spelling of its type."""
    if column.type is ColumnType.DATE:
        return (EPOCH + timedelta(days=value)).isoformat()
    if column.type is ColumnType.BOOLEAN:
        return "true" if value else "false"
    return str(value)


def digest_of_value(value: Value, column: Column) -> bytes:
    """The claim digest that a stored value has."""
    return value if isinstance(value, bytes) else claim_digest(spelled(value, column))


def read_claim(check: Check, claim: str, column: Column) -> Value | None:
    """A claim as it is compared: a digest, a number, or nothing where the check takes no claim.

    Raises:
        Refused: `verification.claim-form`.
    """
    if check.kind is CheckKind.EQUALS:
        return claim_digest(claim_text(claim, column.type, column.scale))
    if check.kind is CheckKind.AT_LEAST:
        return claim_number(claim, column.type, column.scale)
    return None


def judge(check: Check, column: Column, cell: Cell | None, claim: Value | None, is_stale: bool) -> int:
    """The code (`protocols.cell`) of the answer: what the check says of the unknown where nothing is known, the cell is
    empty or the data are too old."""
    value = None if cell is None or is_stale else cell.value
    if value is None:
        return absent_code(check)
    if check.kind is CheckKind.EQUALS:
        return YES if digest_of_value(value, column) == claim else NO
    if isinstance(value, bytes):
        raise ValueError("not a number")
    if check.kind is CheckKind.AT_LEAST:
        return at_least(value, claim)
    return value


def at_least(value: int, edge: Value | None) -> int:
    """YES or NO."""
    return YES if isinstance(edge, int) and value >= edge else NO


def band_of(value: int, edges: Sequence[int]) -> int:
    """The code of the band: 0 is below the first edge."""
    return LEVEL + sum(edge <= value for edge in edges)
