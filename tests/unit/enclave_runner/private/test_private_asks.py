"""Asks as they go over the connection."""

from __future__ import annotations

import msgspec
import pytest

from enclave_runner.contract.call import MAX_ASKED, MAX_QUESTION_BYTES
from enclave_runner.private.asks import (
    LENGTH_BYTES,
    MAX_ASK_BYTES,
    Ask,
    Bucket,
    Choose,
    Equal,
    Evaluate,
    Judge,
    Lookup,
    Open,
    Points,
    frame,
    unframe,
)

ASKS: tuple[Ask, ...] = (
    Judge(asked=(("身份证", "1"), ("", "")), is_stale=True), Judge(asked=()),
    Equal(context=b"\0\xff", subject="a", blinded=bytes(32)), Open(caller="c"),
    Choose(caller="c", subject="s", opening=bytes(56), choice=bytes(32), context=b"x"),
    Evaluate(elements=(bytes(32), b"\xff" * 32)), Bucket(number=1 << 32), Lookup(question=bytes(range(256)) * 99),
    Points(subjects=("a", "b")),
)  # fmt: skip


@pytest.mark.parametrize("ask", ASKS, ids=lambda ask: type(ask).__name__)
def test_an_ask_is_read_as_it_was_written(ask: Ask) -> None:
    framed = frame(ask)
    assert int.from_bytes(framed[:LENGTH_BYTES], "big") == len(framed) - LENGTH_BYTES
    assert unframe(framed[LENGTH_BYTES:]) == ask


def test_the_longest_ask_that_a_call_can_make_fits() -> None:
    longest = Judge(asked=(("中" * 64, "\U0001f600" * 200),) * MAX_ASKED)
    assert len(frame(longest)) < MAX_ASK_BYTES
    assert len(frame(Lookup(question=bytes(MAX_QUESTION_BYTES)))) < MAX_ASK_BYTES


@pytest.mark.parametrize(
    "said",
    [
        b"", b"\xc0", b"\x80", msgspec.msgpack.encode({"type": "judge"}), msgspec.msgpack.encode({"type": "run"}),
        msgspec.msgpack.encode({"type": "open", "caller": "x", "more": 1}),
        msgspec.msgpack.encode({"type": "bucket", "number": "1"}),
        msgspec.msgpack.encode({"type": "bucket", "number": 1.5}),
        b"\x81" * 5000,
    ],
)  # fmt: skip
def test_what_is_no_ask_is_none(said: bytes) -> None:
    with pytest.raises((msgspec.DecodeError, RecursionError)):
        unframe(said)
