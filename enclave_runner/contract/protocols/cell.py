"""One 16-byte entry of a hidden-subject table (P3, P4), and what its label means.

Everything about an entry follows from the OPRF output of its keyword and the table version: a tag to know it by, a
pad over its label, and the column that holds it. Without the output, which costs an evaluation, an entry is noise.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field

from enclave_runner.contract.check import MAX_EDGES, Check, CheckKind, Verdict
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.protocols.canonical import frame

ENTRY_BYTES, TAG_BYTES, LABEL_BYTES = 16, 8, 8
NO, YES, CANNOT_SAY = 0, 1, 2
LEVEL = 16
_LAST_CODE = LEVEL + MAX_EDGES
_TEXTS = {NO: Verdict.NO.value, YES: Verdict.YES.value, CANNOT_SAY: Verdict.CANNOT_SAY.value}


@dataclass(frozen=True)
class Entry:
    """Where a keyword's entry lies and how it is hidden: 8 bytes of tag, 8 of pad, and a 64-bit word for its column."""

    tag: bytes = field(repr=False)
    pad: bytes = field(repr=False)
    word: int = field(repr=False)

    def column(self, columns: int) -> int:
        """Which of that many columns holds it."""
        return column_of(self.word, columns)

    def seal(self, label: bytes) -> bytes:
        """The 16 bytes to store: the tag, and the label (8 bytes) under the pad."""
        if len(label) != LABEL_BYTES:
            raise ValueError("a label of 8 bytes")
        return self.tag + _xor(label, self.pad)


def entry(output: bytes, version: str) -> Entry:
    """The entry of an OPRF output (64 bytes) in that table version: HMAC-SHA-256, cut into tag, pad and word."""
    made = hmac.digest(output, frame(b"yunei/v1/entry", version.encode()), "sha256")
    return Entry(made[:8], made[8:16], int.from_bytes(made[16:24], "little"))


def column_of(word: int, columns: int) -> int:
    """A 64-bit word as a column number below `columns`, evenly: ⌊word · columns / 2⁶⁴⌋."""
    return (word * columns) >> 64


def find(cells: bytes, output: bytes, version: str) -> bytes | None:
    """Client: the label (8 bytes) of an OPRF output among the entries of its column or bucket, None where it is absent.

    A foreign entry matches with a probability of 2^-64, and would have to carry a label besides.

    Raises:
        Refused: `verification.answer` where the bytes are no whole entries, or a matching entry holds no label.
    """
    if len(cells) % ENTRY_BYTES:
        raise Refused("verification.answer")
    own = entry(output, version)
    place = cells.find(own.tag)
    while place >= 0 and place % ENTRY_BYTES:
        place = cells.find(own.tag, place + 1)
    if place < 0:
        return None
    found = _xor(cells[place + TAG_BYTES : place + ENTRY_BYTES], own.pad)
    code_of(found)
    return found


def label(code: int) -> bytes:
    """The 8 bytes of a label: its code, little-endian."""
    if code not in _TEXTS and not LEVEL <= code <= _LAST_CODE:
        raise ValueError("no such code")
    return code.to_bytes(LABEL_BYTES, "little")


def code_of(label: bytes) -> int:
    """The code in a label; Refused(`verification.answer`) where it holds none."""
    code = int.from_bytes(label, "little")
    if len(label) != LABEL_BYTES or (code not in _TEXTS and not LEVEL <= code <= _LAST_CODE):
        raise Refused("verification.answer")
    return code


def absent_code(check: Check) -> int:
    """What is said about nobody on record: cannot say where the check says so, else no, or band 0."""
    if check.says_unknown:
        return CANNOT_SAY
    return LEVEL if check.kind is CheckKind.LEVEL else NO


def verdict_text(code: int) -> str:
    """How an answer tells a code: `no`, `yes`, `cannot-say`, or the number of a band."""
    return _TEXTS.get(code) or str(code - LEVEL)


def _xor(left: bytes, right: bytes) -> bytes:
    return (int.from_bytes(left, "big") ^ int.from_bytes(right, "big")).to_bytes(len(right), "big")
