"""What the supervisor asks a serving worker, and how both speak on the connection between them.

An ask is a frame: its length in four bytes, then MessagePack of one of the closed types below; the supervisor alone
writes asks. A reply is one byte of state and then as many bytes as the ask decides, known before it is read: nothing of
a reply is parsed, a worker that was taken over can say nothing else.
"""

from __future__ import annotations

import msgspec

from enclave_runner.contract.codec import Value

LENGTH_BYTES = 4
MAX_ASK_BYTES = 64 << 20
ANSWERED, REFUSED, BROKEN = b"A", b"R", b"B"
# What a worker may refuse by; it says the number of the rule.
RULES = (
    "verification.point",
    "verification.opening",
    "verification.claim-form",
    "verification.bucket",
    "verification.question",
)
CODE_BYTES, POINTS_BYTES = 2, 8


class Judge(Value, frozen=True, tag="judge"):
    """P0: subjects with their claims. Reply: a code (two bytes, little-endian) for each."""

    asked: tuple[tuple[str, str], ...]
    is_stale: bool = False


class Equal(Value, frozen=True, tag="equal"):
    """P1. Reply: the evaluated point, the tag, and one byte: whether anything is known."""

    context: bytes
    subject: str
    blinded: bytes
    is_stale: bool = False


class Open(Value, frozen=True, tag="open"):
    """P2, first move. Reply: the opening and the point."""

    caller: str


class Choose(Value, frozen=True, tag="choose"):
    """P2, second move. Reply: a masked cell for each edge."""

    caller: str
    subject: str
    opening: bytes
    choice: bytes
    context: bytes
    is_stale: bool = False


class Evaluate(Value, frozen=True, tag="evaluate"):
    """P3 and P4, first move. Reply: a point for each element, and the proof."""

    elements: tuple[bytes, ...]


class Bucket(Value, frozen=True, tag="bucket"):
    """P3, second move. Reply: the columns of the bucket, one after the other."""

    number: int


class Lookup(Value, frozen=True, tag="lookup"):
    """P4, second move. Reply: four bytes for each row of the matrix."""

    question: bytes


class Points(Value, frozen=True, tag="points"):
    """P5: the platform's points. Reply: 64 bits (little-endian, signed) for each subject, then one byte for each:
    whether it is known."""

    subjects: tuple[str, ...]


Ask = Judge | Equal | Open | Choose | Evaluate | Bucket | Lookup | Points

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Ask] = msgspec.msgpack.Decoder(Ask)


def frame(ask: Ask) -> bytes:
    """An ask as it goes over the connection."""
    body = _encoder.encode(ask)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def unframe(body: bytes) -> Ask:
    """The ask in a frame's body."""
    return _decoder.decode(body)
