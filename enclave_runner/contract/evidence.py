"""What another party has seen of an enclave: proof against a restored enclave that has forgotten something.

A file of lines: first the newest checkpoint seen, then one line for each ticket, with its receipt where there is one.
The enclave believes only its own signatures in it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

from enclave_runner.contract.codec import Value, decode, encode
from enclave_runner.contract.errors import Failed
from enclave_runner.contract.signing import Signed

RESTORATION = "restoration"


class Seen(Value, frozen=True):
    """The first line: the newest checkpoint of the receipt log that was verified, None before any."""

    checkpoint: str | None


class Exchange(Value, frozen=True):
    """A ticket that was sent; its receipt and release, or None while it is not known how it ended."""

    ticket: Signed
    receipt: Signed | None
    release: bytes | None


class Restoration(Value, frozen=True):
    """The enclave's own signed statement about a restore; it stays in the ledger for good.

    Tickets issued before `not_before` are void. `size` and `root` are those of the log as restored, of which `replayed`
    receipts came from evidence. `is_lossy`: nobody could show what was missing, so every lifetime budget counts as
    spent.
    """

    label: str
    not_before: datetime
    size: int
    root: str
    replayed: int
    is_lossy: bool


class RestoreReport(Value, frozen=True):
    """A finished restore. `replayed` receipts and `reopened` tickets came from evidence; see `Restoration`.

    `enclave_key` is the SHA-256 of the key that signed the backup; its first 16 digits are that key's id.
    """

    label: str
    enclave_key: str
    made_at: datetime
    not_before: datetime
    size: int
    replayed: int
    reopened: int
    is_lossy: bool


def write_evidence(path: Path, seen: Seen, exchanges: Iterable[Exchange]) -> int:
    """Write a new file for its owner alone; how many exchanges it holds.

    Raises:
        Failed: `backup.exists`, `backup.unwritable`.
    """
    count = 0
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(encode(seen) + b"\n")
            for exchange in exchanges:
                file.write(encode(exchange) + b"\n")
                count += 1
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise Failed("backup.exists") from None
    except OSError:
        raise Failed("backup.unwritable") from None
    return count


def read_note(path: Path) -> str:
    """A checkpoint as a file of its own.

    Raises:
        Failed: `file.unreadable`.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        raise Failed("file.unreadable") from None


def read_seen(path: Path) -> Seen:
    """The first line of a file of evidence.

    Raises:
        Failed: `file.unreadable`.
        Refused: `wire.malformed`.
    """
    try:
        with path.open("rb") as file:
            return decode(file.readline(), Seen)
    except OSError:
        raise Failed("file.unreadable") from None


def read_exchanges(path: Path) -> Iterator[Exchange]:
    """The lines after the first.

    Raises:
        Failed: `file.unreadable`.
        Refused: `wire.malformed`.
    """
    try:
        with path.open("rb") as file:
            file.readline()
            for line in file:
                yield decode(line, Exchange)
    except OSError:
        raise Failed("file.unreadable") from None
