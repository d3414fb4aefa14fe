"""The server in the worker: replies of the right length to every ask, one byte to what is none, an end with its
connection."""

from __future__ import annotations

import os
import random
import socket
import threading

import pytest

from enclave_runner.contract.check import CheckKind, VerificationMode
from enclave_runner.contract.dataset import Column, ColumnType
from enclave_runner.contract.protocols import canonical, equality, group, oprf, threshold
from enclave_runner.contract.protocols.cell import CANNOT_SAY, NO, YES
from enclave_runner.private.asks import (
    ANSWERED,
    BROKEN,
    LENGTH_BYTES,
    REFUSED,
    RULES,
    Bucket,
    Choose,
    Equal,
    Evaluate,
    Judge,
    Lookup,
    Open,
    Points,
    frame,
)
from enclave_runner.private.serve import reply_to, serve
from enclave_runner.private.tasks import Subject
from tests.support.private_tables import HIDDEN, VERSION, check_of, column_of, subject_of, tables_of

INTEGER, TEXT = column_of(ColumnType.INTEGER), column_of(ColumnType.TEXT)
CONTEXT = equality.context("product", VERSION, bytes(16))
P1, P2 = (VerificationMode.PLAIN, VerificationMode.EQUALITY), (VerificationMode.PLAIN, VerificationMode.THRESHOLD)


def equals(column: Column, says_unknown: bool) -> Subject:
    """P1 over that column."""
    return subject_of(check_of(CheckKind.EQUALS, P1, says_unknown=says_unknown), column)


@pytest.mark.parametrize("says_unknown", [False, True])
@pytest.mark.parametrize(("column", "value", "claim"), [(INTEGER, 7, "7"), (TEXT, "已婚", "已婚")])
def test_an_equality_with_the_unknown_is_no_and_says_so_only_where_the_check_does(
    says_unknown: bool, column: Column, value: object, claim: str
) -> None:
    with tables_of(equals(column, says_unknown), [("a", value), ("b", None)]) as tables:
        server = tables.server()
        seen = {}
        for subject, is_stale in (("a", False), ("b", False), ("c", False), ("a", True)):
            scalar, blinded = equality.blind(CONTEXT, canonical.claim_digest(claim))
            said = server.answer(Equal(context=CONTEXT, subject=subject, blinded=blinded, is_stale=is_stale))
            seen[subject, is_stale] = equality.is_equal(CONTEXT, scalar, said[:32], said[32:48]), said[48:]
    known, unknown = b"\1", b"\0" if says_unknown else b"\1"
    assert seen == {
        ("a", False): (True, known), ("b", False): (False, unknown), ("c", False): (False, unknown),
        ("a", True): (False, unknown),
    }  # fmt: skip


def test_a_text_of_zero_bytes_digest_is_not_what_the_unknown_equals() -> None:
    """The unknown's y is random: nobody can name it, not even the digest that stands in the table for nothing."""
    with tables_of(equals(TEXT, False), [("b", None)]) as tables:
        scalar, blinded = equality.blind(CONTEXT, bytes(32))
        said = tables.server().answer(Equal(context=CONTEXT, subject="b", blinded=blinded))
        assert not equality.is_equal(CONTEXT, scalar, said[:32], said[32:48])


@pytest.mark.parametrize(("says_unknown", "nothing"), [(False, NO), (True, CANNOT_SAY)])
def test_a_threshold_opens_one_cell(says_unknown: bool, nothing: int) -> None:
    check = check_of(CheckKind.AT_LEAST, P2, edges=(-5, 0, 7), says_unknown=says_unknown)
    with tables_of(subject_of(check, INTEGER), [("a", 0), ("b", None)]) as tables:
        server = tables.server()
        found = {}
        for subject, is_stale in (("a", False), ("b", False), ("c", False), ("a", True)):
            for index in range(3):
                said = server.answer(Open(caller="caller"))
                choice, pad = threshold.choose(said[threshold.OPENING_BYTES :], index, CONTEXT)
                ask = Choose(
                    caller="caller", subject=subject, opening=said[: threshold.OPENING_BYTES], choice=choice,
                    context=CONTEXT, is_stale=is_stale,
                )  # fmt: skip
                found[subject, is_stale, index] = threshold.read(pad, index, server.answer(ask))
    assert [found["a", False, index] for index in range(3)] == [YES, YES, NO]
    assert {code for (subject, is_stale, _), code in found.items() if (subject, is_stale) != ("a", False)} == {nothing}


def test_what_is_refused_goes_out_as_a_number_and_what_breaks_as_nothing_at_all() -> None:
    bands = subject_of(check_of(CheckKind.LEVEL, HIDDEN, edges=(2, 4)), INTEGER)
    refused = {
        frame(Bucket(number=1 << 32)): "verification.bucket",
        frame(Lookup(question=b"xxx")): "verification.question",
        frame(Evaluate(elements=(group.IDENTITY,))): "verification.point",
        frame(Evaluate(elements=(oprf.blind(b"x").element, b"short"))): "verification.point",
    }
    broken = (
        b"", b"\xc1", b"\x81", frame(Judge(asked=(("a", ""),)))[:-1], frame(Judge(asked=(("a", ""),))) + b"\0",
        frame(Evaluate(elements=())), frame(Points(subjects=("a",)))[:9], frame(Bucket(number=-(1 << 63))),
    )  # fmt: skip
    with tables_of(bands, [("a", 3)]) as tables:
        server = tables.server()
        for asked, rule in refused.items():
            assert reply_to(server, asked[LENGTH_BYTES:]) == REFUSED + bytes([RULES.index(rule)])
        for asked in broken[:-1]:
            assert reply_to(server, asked[LENGTH_BYTES:]) == BROKEN
        assert reply_to(server, broken[-1][LENGTH_BYTES:])[:1] == REFUSED
        assert reply_to(server, frame(Judge(asked=(("a", ""),)))[LENGTH_BYTES:]) == ANSWERED + b"\x11\0"


def test_a_worker_without_that_part_breaks_one_ask() -> None:
    with tables_of(equals(INTEGER, False), [("a", 3)]) as tables:
        server = tables.server()
        question = Lookup(question=b""), Bucket(number=0), Evaluate(elements=(oprf.blind(b"x").element,))
        for ask in question:
            assert reply_to(server, frame(ask)[LENGTH_BYTES:]) == BROKEN
    score_asked_of_a_text = Points(subjects=("a",))
    with tables_of(equals(TEXT, False), [("a", "x")]) as tables:
        assert reply_to(tables.server(), frame(score_asked_of_a_text)[LENGTH_BYTES:]) == BROKEN


def test_a_hundred_thousand_malformed_asks_end_in_one_byte_each() -> None:
    """Changed, cut and made-up frames; whatever comes of them, the server goes on and its replies have their form."""
    generator = random.Random(5)
    bands = subject_of(check_of(CheckKind.LEVEL, HIDDEN, edges=(2, 4)), INTEGER)
    with tables_of(bands, [("a", 3)]) as tables:
        server = tables.server()
        honest = [
            frame(ask)[LENGTH_BYTES:]
            for ask in (
                Judge(asked=(("a", "1"), ("b", ""))), Bucket(number=0), Lookup(question=bytes(8)),
                Open(caller="x"), Points(subjects=("a", "b")),
            )
        ]  # fmt: skip
        seen = set()
        for number in range(100_000):
            body = bytearray(honest[number % len(honest)] if number % 3 else generator.randbytes(number % 90))
            for _ in range(number % 4):
                if body:
                    body[generator.randrange(len(body))] = generator.randrange(256)
            reply = reply_to(server, bytes(body[: generator.randrange(1, len(body) + 2)]))
            seen.add(reply[:1])
            assert reply == BROKEN or len(reply) > 1
            assert reply[:1] != REFUSED or reply[1] < len(RULES)
        assert seen == {ANSWERED, REFUSED, BROKEN}


def test_asks_are_answered_in_order_until_the_connection_ends() -> None:
    with tables_of(equals(INTEGER, False), [("a", 3)]) as tables:
        ours, theirs = socket.socketpair()
        worker = threading.Thread(target=serve, args=(tables.server(), theirs.fileno()))
        worker.start()
        asks = [Judge(asked=(("a", str(claim)),) * 700) for claim in range(5)]
        for ask in asks:
            ours.sendall(frame(ask))
        said = b"".join(_exactly(ours, 1 + 1400) for _ in asks)
        assert said == b"".join(ANSWERED + bytes([claim == 3, 0]) * 700 for claim in range(5))
        ours.sendall(frame(asks[0])[:7])  # half of an ask
        ours.close()
        worker.join(timeout=20)
        assert not worker.is_alive()
        theirs.close()


def test_a_frame_that_is_longer_than_any_ask_ends_the_worker() -> None:
    with tables_of(equals(INTEGER, False), [("a", 3)]) as tables:
        ours, theirs = os.pipe()
        os.write(theirs, b"\xff" * 100)
        serve(tables.server(), ours)
        os.close(ours)
        os.close(theirs)


def _exactly(connection: socket.socket, count: int) -> bytes:
    said = bytearray()
    while len(said) < count:
        said += connection.recv(count - len(said))
    return bytes(said)
