"""Every parser of the protocols over 10^5 and more byte strings that no honest side makes: refused, and nothing else.

YUNEI_FUZZ_CASES sets how many (a nightly run takes a million). A case is random bytes of about the right length, or
a right message with a few bytes changed, cut or added. `random` is seeded, so that a failure comes back.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from random import Random

import pytest

from enclave_runner.contract.errors import Refused
from enclave_runner.contract.protocols import cell, equality, group, oprf, threshold

CASES = int(os.environ.get("YUNEI_FUZZ_CASES", "100000"))
CONTEXT = equality.context("product-1", "0a" * 16, bytes(16))
SECRET, CALLER, NOW = bytes(range(32)), "bank-1", 1_800_000_000.0
SCALAR = group.small_scalar(11)
POINT = group.base(SCALAR)


def changed(random: Random, message: bytes) -> bytes:
    """The message with one to three bytes changed, or cut, or longer."""
    data = bytearray(message)
    for _ in range(random.randrange(1, 4)):
        match random.randrange(4):
            case 0 if data:
                data[random.randrange(len(data))] ^= 1 << random.randrange(8)
            case 1 if data:
                data[random.randrange(len(data))] = random.choice((0, 1, 0x7F, 0x80, 0xEC, 0xED, 0xFF))
            case 2:
                del data[random.randrange(len(data) + 1) :]
            case _:
                data += random.randbytes(random.randrange(1, 20))
    return bytes(data)


def noise(random: Random, message: bytes, cases: int) -> Iterator[bytes]:
    """Byte strings to parse, half of them near the message; never the message itself."""
    for number in range(cases):
        length = len(message) if number % 4 else random.randrange(2 * len(message) + 1)
        made = changed(random, message) if number % 2 else random.randbytes(length)
        if made != message:
            yield made


def is_point(data: bytes) -> bool:
    try:
        return group.checked(data) == data
    except Refused as refusal:
        assert refusal.rule == "verification.point"
        return False


def test_points() -> None:
    """A string is a point for every operation or for none: adding zero times nothing changes that."""
    random, points = Random(1), 0
    for data in noise(random, POINT, CASES):
        right = is_point(data)
        points += right
        try:
            group.sub(group.add(data, POINT), POINT)
            assert right or data == group.IDENTITY
        except Refused as refusal:
            assert refusal.rule == "verification.point"
            assert not right
    assert 0 < points < CASES


@pytest.mark.slow
def test_blinded_elements_and_choices() -> None:
    """What a client sends in P1, P2 and P3: an answer for a point, a refusal for anything else."""
    random = Random(2)
    opening, _ = threshold.open(SECRET, CALLER, NOW)
    for number, data in enumerate(noise(random, POINT, CASES)):
        # Points cost a hundred times more than anything else: some of them are enough.
        if is_point(data) and number % 200:
            continue
        for respond in (
            lambda data=data: equality.answer(CONTEXT, b"y", data),
            lambda data=data: threshold.table(SECRET, CALLER, NOW, opening, data, CONTEXT, (1, 0)),
            lambda data=data: oprf.evaluate_unproven(SCALAR, (data,)),
        ):
            try:
                respond()
                assert is_point(data)
            except Refused as refusal:
                assert refusal.rule == "verification.point"
                assert not is_point(data)


def test_openings() -> None:
    random = Random(3)
    opening, point = threshold.open(SECRET, CALLER, NOW)
    choice, _ = threshold.choose(point, 0, CONTEXT)
    accepted = 0
    for data in noise(random, opening, CASES):
        try:
            threshold.table(SECRET, CALLER, NOW, data, choice, CONTEXT, (1, 0))
            accepted += 1
        except Refused as refusal:
            assert refusal.rule == "verification.opening"
    assert accepted == 0


def test_tables_of_cells() -> None:
    """A client opens its cell if and only if the seven check bytes stand in their place."""
    random = Random(4)
    opening, point = threshold.open(SECRET, CALLER, NOW)
    choice, pad = threshold.choose(point, 1, CONTEXT)
    cells = threshold.table(SECRET, CALLER, NOW, opening, choice, CONTEXT, (1, 0, 1))
    opened = 0
    for data in noise(random, cells, CASES):
        try:
            assert 0 <= threshold.read(pad, 1, data) <= 255
            assert data[8:15] == pad[:7]
            opened += 1
        except Refused as refusal:
            assert refusal.rule == "verification.answer"
            assert len(data) % 8 or data[8:15] != pad[:7]
    assert 0 < opened < CASES


def test_columns_of_entries() -> None:
    """A column of noise holds nobody; one with the entry in it tells its label, or is refused when that is spoilt."""
    random, output, version = Random(5), bytes(range(64)), "0a" * 16
    sealed = cell.entry(output, version).seal(cell.label(cell.YES))
    found = 0
    for data in noise(random, random.randbytes(48) + sealed, CASES):
        try:
            label = cell.find(data, output, version)
        except Refused as refusal:
            assert refusal.rule == "verification.answer"
            continue
        assert len(data) % 16 == 0
        assert (label is None) == all(data[start : start + 8] != sealed[:8] for start in range(0, len(data), 16))
        found += label is not None
    assert 0 < found < CASES


def test_proofs() -> None:
    """No changed proof verifies; those that parse cost eight multiplications, so most are stopped before."""
    random = Random(6)
    blinded = oprf.blind(b"a")
    evaluated, proof = oprf.evaluate(SCALAR, (blinded.element,))
    public = oprf.public_key(SCALAR)
    for number, data in enumerate(noise(random, proof, CASES)):
        # The parsing of every case, the whole verification of each twentieth that has the right length.
        if len(data) == oprf.PROOF_BYTES and number % 20 > 1 and is_pair_of_scalars(data):
            continue
        try:
            oprf.finalize((blinded,), evaluated, data, public)
            raise AssertionError("a changed proof verifies")
        except Refused as refusal:
            assert refusal.rule in ("verification.answer", "verification.proof")


def is_pair_of_scalars(data: bytes) -> bool:
    try:
        return all(group.checked_scalar(data[start : start + 32]) for start in (0, 32))
    except ValueError:
        return False


@pytest.mark.slow
def test_equality_answers() -> None:
    """A changed answer is refused or is no: never yes."""
    random = Random(7)
    scalar, element = equality.blind(CONTEXT, b"x")
    evaluated, tag = equality.answer(CONTEXT, b"x", element)
    for number, data in enumerate(noise(random, evaluated + tag, CASES)):
        point, rest = data[:32], data[32:]
        if number % 200 and is_point(point):
            continue
        try:
            assert not equality.is_equal(CONTEXT, scalar, point, rest)
        except Refused as refusal:
            assert refusal.rule == "verification.point"
