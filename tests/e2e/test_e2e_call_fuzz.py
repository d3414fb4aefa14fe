"""Thousands of spoilt calls through the API, in every mode: each is answered or clearly refused, and nothing breaks.

A fault (a 5xx, or a receipt of a call that failed) would be ours: a caller must not be able to cause one.
"""

from __future__ import annotations

import base64
import json
import random
import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from enclave_runner.contract.call import (
    Ask,
    Asked,
    BucketAsk,
    Call,
    CallReceipt,
    EqualityAsk,
    EvaluationAsk,
    LookupAsk,
    OpeningAsk,
    PlainAsk,
    ScoreAsk,
    ThresholdAsk,
)
from enclave_runner.contract.check import VerificationMode
from enclave_runner.contract.ciphertext import Keys, ring_of
from enclave_runner.contract.codec import decode, encode
from enclave_runner.contract.protocols import oprf, threshold
from enclave_runner.contract.receipt import Outcome
from enclave_runner.contract.scoring import ScoreCheck
from enclave_runner.contract.wire import CallReply
from tests.support.malicious_client import first_opening
from tests.support.verification_site import Caller, Site, verification_site

pytestmark = pytest.mark.slow
CASES, SEED = 3000, 20261125
EQUALS, AT_LEAST, SCORE = "lives-in", "earns-at-least", "credit"
ODD_TEXTS = (
    "",
    " ",
    "\ud800",
    "\x00",
    "𝟙𝟚",
    "٣",
    "-0",
    "1e9",
    "9" * 64,
    "\N{ZERO WIDTH SPACE}p1",
    "p1\n",
    "NaN",
    "..",
    "'",
)
ODD_NUMBERS = (-1, 0, 2**31, 2**32, 2**32 + 1, 2**63, 10**30, 1.5, True, None)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Open products of all modes."""
    with verification_site(tmp_path_factory.mktemp("fuzz") / "home", EQUALS, AT_LEAST, SCORE, people=2000) as opened:
        yield opened


def honest(site: Site) -> list[tuple[Caller, str, Callable[[str], Ask]]]:
    """Good questions of each kind about a subject, with their caller and version."""
    equals, at_least, score = (site.caller(name) for name in (EQUALS, AT_LEAST, SCORE))
    point, opening, table = oprf.blind(b"x").element, first_opening(at_least), equals.table
    choice, _ = threshold.choose(opening.point, 0, b"")
    offer = score.offer
    assert table is not None
    assert isinstance(offer.check, ScoreCheck)
    parameters = offer.check.model.parameters
    keys = Keys(ring_of(parameters))
    encrypted = keys.encrypt([1] * parameters.slots)
    evaluation = EvaluationAsk(mode=VerificationMode.LOOKUP, blinded=(point, point))
    lookup = LookupAsk(question=secrets.token_bytes(4 * table.columns))
    asks: list[tuple[Caller, Callable[[str], Ask]]] = [
        (equals, lambda who: PlainAsk(asked=(Asked(subject=who, claim="south"), Asked(subject=f"{who}x", claim="x")))),
        (at_least, lambda who: PlainAsk(asked=(Asked(subject=who, claim="1500.00"),))),
        (equals, lambda who: EqualityAsk(subject=who, blinded=point)),
        (at_least, lambda who: OpeningAsk()),
        (at_least, lambda who: ThresholdAsk(subject=who, opening=opening.opening, choice=choice)),
        (equals, lambda who: evaluation),
        (equals, lambda who: BucketAsk(bucket=0)),
        (equals, lambda who: lookup),
        (score, lambda who: ScoreAsk(subjects=(who,), key=keys.public, features=(encrypted, encrypted))),
    ]
    versions = {caller.product_id: caller.version for caller, _ in asks}
    return [(caller, versions[caller.product_id], ask) for caller, ask in asks]


def places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in a JSON document with a key of it."""
    if isinstance(document, dict):
        for key, value in document.items():
            yield document, key
            yield from places(value)
    elif isinstance(document, list):
        for index, value in enumerate(document):
            yield document, index
            yield from places(value)


def spoil_value(chance: random.Random, body: bytes) -> bytes:
    """Another value in one place of the document."""
    document = json.loads(body)
    container, key = chance.choice(list(places(document)))
    value = container[key]
    other: object
    if isinstance(value, str) and chance.random() < 0.7:
        text = list(value) or ["A"]
        place = chance.randrange(len(text))
        other = chance.choice(
            (
                "".join([*text[:place], chance.choice("ABab01+/="), *text[place + 1 :]]),
                value[:place],
                value + value[: place + 1],
                chance.choice(ODD_TEXTS),
            )
        )
    else:
        other = chance.choice((*ODD_NUMBERS, *ODD_TEXTS, [], {}, [value] * chance.choice((0, 2, 50)), {"type": value}))
    container[key] = other
    return json.dumps(document).encode()


def spoil_bytes(chance: random.Random, body: bytes) -> bytes:
    """Other bytes in one place."""
    place, count = chance.randrange(len(body)), chance.choice((0, 1, 2, 8))
    return body[:place] + chance.randbytes(count) + body[place + chance.choice((0, 1, 3)) :]


def drop_field(chance: random.Random, body: bytes) -> bytes:
    """A field less, or one more."""
    document = json.loads(body)
    container, key = chance.choice(list(places(document)))
    if isinstance(container, dict) and chance.random() < 0.5:
        container[f"{key}x"] = container[key]
    else:
        del container[key]
    return json.dumps(document).encode()


def spoil_bits(chance: random.Random, body: bytes) -> bytes:
    """Other bits in one of the raw byte strings of the question, of the same length: the JSON stays good."""
    document = json.loads(body)
    raw = [(holder, key) for holder, key in places(document["ask"]) if isinstance(holder[key], str)]
    raw = [(holder, key) for holder, key in raw if len(holder[key]) >= 40]
    if not raw:
        return drop_field(chance, body)
    holder, key = chance.choice(raw)
    content = bytearray(base64.b64decode(holder[key]))
    for _ in range(chance.choice((1, 1, 8, 1000))):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    holder[key] = base64.b64encode(content).decode()
    return json.dumps(document).encode()


SPOILERS: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    spoil_bits,
    spoil_bits,
    spoil_bits,
    spoil_value,
    spoil_bytes,
    drop_field,
)


def test_spoilt_calls_are_answered_or_refused_and_nothing_breaks(site: Site) -> None:
    chance, seen = random.Random(SEED), Counter[str]()
    calls = honest(site)
    broken: list[tuple[str, bytes]] = []
    for number in range(CASES):
        caller, version, make = calls[number % len(calls)]
        ask = make(f"p{number % 1900}")
        good = Call(call_id=chance.randbytes(16), salt=chance.randbytes(32), version=version, ask=ask)
        body = chance.choice(SPOILERS)(chance, encode(good))
        answer = caller.client.post(f"/v1/products/{caller.product_id}/calls", content=body, headers=caller.headers)
        if answer.status_code >= 500:
            broken.append((answer.text, body[:300]))
        if answer.status_code != 200:
            seen[f"{answer.status_code} {answer.json().get('rule')}"] += 1
            continue
        reply = msgspec.json.decode(answer.content, type=CallReply)
        receipt = decode(reply.settled.receipt, CallReceipt)
        seen[f"{receipt.outcome.value} {receipt.rule}"] += 1
        if receipt.outcome is Outcome.FAILED:
            broken.append((f"{ask} {receipt.fault}", body[:300]))
        assert (receipt.units > 0) <= (receipt.outcome is Outcome.RELEASED)
    print("\n" + "\n".join(f"{count:6}  {what}" for what, count in seen.most_common()))
    assert broken == []
    assert len(seen) >= 8  # the cases reach many rules
    for caller, version, make in calls[:6]:
        caller.ask(make("p1950"), secrets.token_bytes(16), version)
