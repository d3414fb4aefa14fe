"""A hundred thousand hostile keys, ciphertexts and answers: each is read or refused, and the process is still there.

In this very process: a crash of SEAL would end the suite. Whole calls use what was read. YUNEI_FUZZ_CASES sets how many
(a nightly run takes a million); `random` is seeded, so that a failure comes back.
"""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Callable, Iterator

import pytest

from enclave_runner.contract.call import ScoreAnswer
from enclave_runner.contract.ciphertext import Keys, Workbench, ring_of
from enclave_runner.contract.encryption import LINEAR, NETWORK, SCORECARD, ParameterSet
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.scoring import Feature, Scorecard, ScoreCheck, Term
from enclave_runner.he.scoring import score
from sandbox.client.scoring import ScoreQuestion

Read = Callable[[bytes, Workbench], object]
MANY = int(os.environ.get("YUNEI_FUZZ_CASES", "100000")) / 100_000
INTERESTING = (0, 1, 2**31, 2**32 - 1, 2**36, 2**40 - 1, 2**63, 2**64 - 1, 4096, 8192)


@pytest.fixture
def bench() -> Iterator[Workbench]:
    bench = Workbench()
    yield bench
    bench.close()


def mutated(rng: random.Random, data: bytes) -> bytes:
    """One hostile edit: mostly of the right length, since any other is refused at once."""
    out = bytearray(data)
    match rng.randrange(8):
        case 0:
            return rng.randbytes(rng.choice((0, 1, 16, 100, len(data) - 1, len(data) + 1)))
        case 1:
            return data[: rng.randrange(len(data))]
        case 2:
            out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
        case 3:
            at, length = rng.randrange(len(out)), rng.randrange(1, 5000)
            out[at : at + length] = bytes([rng.choice((0, 255))]) * len(out[at : at + length])
        case 4:
            at = rng.randrange(len(out) - 8)
            out[at : at + 8] = struct.pack("<Q", rng.choice(INTERESTING))
        case 5:
            at = rng.randrange(5)
            out[at : at + 21] = struct.pack("<HBBBBHQ", 0xA15E, 16, 4, 3, rng.randrange(4), 0, rng.choice(INTERESTING))[
                :21
            ]
        case 6:
            half = len(out) // 2
            out[:half], out[half:] = out[half : 2 * half], out[:half]
        case 7:
            for _ in range(rng.randrange(1, 200)):
                out[rng.randrange(len(out))] = rng.randrange(256)
    return bytes(out)


def tried(read: Read, base: bytes, bench: Workbench, count: int, seed: int) -> dict[str, int]:
    """How often each outcome came."""
    rng, seen = random.Random(seed), {"read": 0, "scoring.length": 0, "scoring.ciphertext": 0}
    for _ in range(count):
        try:
            read(mutated(rng, base), bench)
        except Refused as refusal:
            seen[refusal.rule] += 1
            continue
        seen["read"] += 1
    return seen


CASES = [
    (SCORECARD, "question", 30_000),
    (SCORECARD, "key", 16_000),
    (SCORECARD, "answer", 30_000),
    (LINEAR, "question", 6_000),
    (LINEAR, "key", 4_000),
    (LINEAR, "answer", 6_000),
    (NETWORK, "question", 4_000),
    (NETWORK, "key", 3_000),
    (NETWORK, "answer", 4_000),
]


@pytest.mark.slow
@pytest.mark.timeout(int(300 * max(MANY, 1)))
@pytest.mark.parametrize(("parameters", "kind", "count"), CASES, ids=lambda case: getattr(case, "name", str(case)))
def test_hostile_bytes_are_read_or_refused(parameters: ParameterSet, kind: str, count: int, bench: Workbench) -> None:
    ring = ring_of(parameters)
    keys = Keys(ring)
    fresh = keys.encrypt([1] * parameters.slots)
    base, read = {
        "question": (fresh, ring.read_question),
        "key": (keys.public, ring.read_key),
        "answer": (random.Random(1).randbytes(parameters.answer_bytes), ring.read_answer),
    }[kind]
    if kind == "answer":
        base = bytes(byte & 7 if at % 5 == 4 else byte for at, byte in enumerate(base))
        read = keys.open
    count = round(count * MANY)
    seen = tried(read, base, bench, count, seed=count)
    assert sum(seen.values()) == count
    assert seen["scoring.length"] > 0
    assert seen["scoring.ciphertext"] + seen["read"] > count // 2
    assert ring.read_question(fresh, bench).size() == 2  # and it still works


def test_the_cases_are_a_hundred_thousand() -> None:
    assert sum(count for _, _, count in CASES) + 1_000 >= 100_000


@pytest.mark.slow
def test_hostile_calls_are_answered_or_refused_on_both_sides(bench: Workbench) -> None:
    """Whole calls: a spoilt request to the platform, and what it answers, spoilt again, to the business."""
    model = Scorecard(features=tuple(Feature(name=f"x{i}", weight=i + 1, low=0, high=9) for i in range(2)))
    check = ScoreCheck(dataset_id="tax", model=model, terms=(Term(column="c", weight=1, low=0, high=9),))
    question = ScoreQuestion(check, ("s",), {"x0": [1], "x1": [2]})
    ask, rng = question.ask, random.Random(2)
    seen = {"answered": 0, "refused": 0, "read": 0, "unread": 0}
    for number in range(1_000):
        parts = [ask.key, *ask.features]
        if number % 2:
            spoilt = rng.randrange(3)
            parts[spoilt] = mutated(rng, parts[spoilt])
        try:
            scores = score(model, 1, b"".join((*parts, bytes(8))), bench)
        except Refused:
            seen["refused"] += 1
            continue
        seen["answered"] += 1
        try:
            question.read(ScoreAnswer(scores=mutated(rng, scores) if number % 4 == 0 else scores, known=(True,)))
        except Refused as refusal:
            assert refusal.rule == "scoring.answer"
            seen["unread"] += 1
            continue
        seen["read"] += 1
    assert all(seen.values())
