"""Whatever bytes come back, the client answers what was signed or raises its own error: it never crashes."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

from enclave_runner.contract.call import (
    OFFER_PURPOSE,
    Asked,
    BucketAsk,
    Call,
    EqualityAsk,
    EvaluationAsk,
    LookupAsk,
    OpeningAsk,
    PlainAsk,
)
from enclave_runner.contract.check import Check, CheckKind, VerificationMode
from enclave_runner.contract.codec import encode
from enclave_runner.contract.dataset import ColumnType
from enclave_runner.contract.errors import YuneiError
from enclave_runner.contract.protocols import lattice, oprf
from enclave_runner.contract.signing import seal
from enclave_runner.contract.wire import OfferReply
from sandbox.client.calls import Asking, Pins, settle
from sandbox.client.evidence import FORM, Evidence, Opening, ReceiptFile, verify_receipt
from sandbox.client.exchange import JSON, PROBLEM, Exchange, Reply
from sandbox.client.offers import Terms, open_offer
from sandbox.client.problems import require_answered
from sandbox.client.transport import MAX_PROBLEM_BYTES, Door, Transport
from tests.support.platform_half import COLUMNS, PRODUCT, Platform
from tests.support.raw_server import raw_server, read_request

T = TypeVar("T")
QUICK, MANY = 2_000, 120_000
MODES = tuple(VerificationMode(f"P{n}") for n in (0, 1, 3, 4))
PLATFORM = Platform(
    Check(dataset_id="licences", attribute="level", kind=CheckKind.EQUALS, modes=MODES),
    {f"S{n}": str(n) for n in range(20)},
    ColumnType.INTEGER,
)
POINT = oprf.blind(b"x").element
ASKS = {
    PlainAsk(asked=(Asked(subject="S7", claim="7"),)): "P0",
    EqualityAsk(subject="S7", blinded=POINT): "P1",
    OpeningAsk(): "P2",
    EvaluationAsk(mode=VerificationMode.LOOKUP, blinded=(POINT,)): "P4",
    BucketAsk(bucket=1): "P3",
    LookupAsk(question=bytes(4 * COLUMNS)): "P4",
}
TRUSTED = (PLATFORM.signer.public_key,)


def terms() -> Terms:
    return open_offer(offer_reply(), PRODUCT, TRUSTED, datetime.now(UTC))


def offer_reply() -> Reply:
    signed = seal(PLATFORM.offer(), OFFER_PURPOSE, PLATFORM.signer)
    return Reply(200, JSON, encode(OfferReply(offer=signed)))


def mutate(data: bytes, chance: random.Random) -> bytes:
    """One to four changes: of a bit, a byte, a stretch, a number, or of the JSON as such."""
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(7):
            case 0:
                data = data[:at] + bytes([chance.randrange(256)]) + data[at:]
            case 1:
                data = data[:at] + data[at + chance.randrange(1, 9) :]
            case 2 if data:
                at %= len(data)
                data = data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]
            case 3:
                other = chance.randrange(len(data) + 1)
                data = data[:at] + data[other : other + chance.randrange(200)] + data[at:]
            case 4:
                data = data[:at]
            case 5:
                data = _other_value(data, chance)
            case _:
                data = data.replace(b'":', chance.choice((b'":-', b'":9', b'":[', b'":null,"x":', b"::")), 1)
    return data


def _other_value(data: bytes, chance: random.Random) -> bytes:
    """One member of the JSON, however deep, replaced by something that may be of another type."""
    try:
        document = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return data
    place = document
    while isinstance(place, dict) and place:
        name = chance.choice(sorted(place))
        if not isinstance(place[name], dict) or chance.random() < 0.2:
            odd = (None, True, -1, 2**63, 2**200, 1e308, "", "\x00", "A" * 4096, [], {}, [[]], "é", place[name])
            place[name] = chance.choice(odd)
            break
        place = place[name]
    return msgspec.json.encode(document)


def attempt(run: Callable[..., T], *given: object) -> T | None:
    """What it gave, or None; anything but an error of ours passes through, and fails the test."""
    try:
        return run(*given)
    except YuneiError:
        return None


def fuzz_calls(count: int) -> int:
    """How many mutated replies were believed; each of those must be the answer that was signed."""
    chance, believed, known = random.Random(count), 0, terms()
    cases = []
    for ask, mode in ASKS.items():
        call = Call(call_id=chance.randbytes(16), salt=chance.randbytes(32), version=PLATFORM.version, ask=ask)
        asking = Asking(known, Pins(TRUSTED), VerificationMode(mode))
        body = PLATFORM.reply(call)
        honest = settle(asking, call, 1, Reply(200, JSON, body))
        cases.append((asking, call, body, honest))
    for number in range(count):
        asking, call, body, honest = cases[number % len(cases)]
        reply = Reply(200, JSON, mutate(body, chance))
        told = attempt(settle, asking, call, 1, reply)
        if told is not None:
            believed += 1
            assert told.answer == honest.answer
            assert told.verified.receipt == honest.verified.receipt
    return believed


def fuzz_offers(count: int) -> None:
    """Mutated after it was signed: refused, or the very offer; mutated before: refused, or of sane sizes."""
    chance, reply, now = random.Random(count), offer_reply(), datetime.now(UTC)
    honest = open_offer(reply, PRODUCT, TRUSTED, now).offer
    payload = encode(PLATFORM.offer())
    for number in range(count):
        if number % 2:
            bent = Reply(200, JSON, mutate(reply.body, chance))
        else:
            signed = seal(msgspec.Raw(_other_value(payload, chance)), OFFER_PURPOSE, PLATFORM.signer)
            bent = Reply(200, JSON, encode(OfferReply(offer=signed)))
        told = attempt(open_offer, bent, PRODUCT, TRUSTED, now)
        if told is not None:
            table = told.table
            assert told.offer == honest or not number % 2
            assert lattice.hint_bytes(table.height) == table.hint_bytes <= 1 << 27
            assert 0 < table.bucket_columns <= table.columns <= lattice.MAX_COLUMNS


def fuzz_problems(count: int) -> None:
    """A refusal of the control plane in any spelling: an error of ours, whose text a terminal can show."""
    chance = random.Random(count)
    body = b'{"type":"x","title":"t","status":403,"rule":"consent.missing","reason":"r","remedy_zh":"z","fault":"f-1"}'
    for _ in range(count):
        reply = Reply(chance.choice((0, 200, 301, 403, 500, 999)), chance.choice((PROBLEM, JSON)), mutate(body, chance))
        try:
            require_answered(reply, "application/octet-stream")
        except YuneiError as error:
            assert str(error).isprintable()
        else:
            raise AssertionError("an answer where there is none")


def fuzz_files(count: int, folder: Path) -> None:
    """A receipt file that was edited: refused, or it says what was signed."""
    chance, path = random.Random(count), folder / "receipt.json"
    ask = PlainAsk(asked=(Asked(subject="S7", claim="7"),))
    call = Call(call_id=chance.randbytes(16), salt=chance.randbytes(32), version=PLATFORM.version, ask=ask)
    asking = Asking(terms(), Pins(TRUSTED), VerificationMode.PLAIN)
    evidence = settle(asking, call, 1, Reply(200, JSON, PLATFORM.reply(call))).evidence
    assert isinstance(evidence, Evidence)
    assert isinstance(evidence.opening, Opening)
    data = encode(ReceiptFile(form=FORM, calls=(evidence,)))
    path.write_bytes(data)
    (honest,) = verify_receipt(path, TRUSTED)
    for _ in range(count):
        path.write_bytes(mutate(data, chance))
        try:
            found = verify_receipt(path, TRUSTED)
        except YuneiError:
            continue
        assert [call.receipt for call in found] == [honest.receipt]


def test_mutated_replies_offers_problems_and_files(tmp_path: Path) -> None:
    assert fuzz_calls(QUICK) < QUICK // 4
    fuzz_offers(QUICK // 2)
    fuzz_problems(QUICK)
    fuzz_files(QUICK // 2, tmp_path)


@pytest.mark.slow
def test_a_hundred_thousand_and_more(tmp_path: Path) -> None:
    assert fuzz_calls(MANY) < MANY // 4
    fuzz_offers(MANY // 6)
    fuzz_problems(MANY)
    fuzz_files(MANY // 6, tmp_path)


def test_mutated_http_is_an_answer_a_lost_one_or_a_refused_one() -> None:
    chance = random.Random(7)
    body = b'{"a":1}'
    heads = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n" + body,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n" + body + b"\r\n0\r\n\r\n",
        b"HTTP/1.0 403 No\r\nContent-Type: application/problem+json\r\n\r\n" + body,
    )

    def converse(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(mutate(chance.choice(heads), chance))

    answered = 0
    with raw_server(converse) as url:
        transport = Transport(Door(url, "k" * 20, seconds=2.0, pauses=()))
        for _ in range(400):
            reply = attempt(transport.send, Exchange("GET", "/x", 100))
            if reply is not None:
                answered += 1
                assert len(reply.body) <= MAX_PROBLEM_BYTES
        transport.close()
    assert 0 < answered < 400
