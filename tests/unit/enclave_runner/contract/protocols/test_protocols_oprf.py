"""The OPRF: every vector of RFC 9497 in modes 0 and 1, and answers that were not made with the key of the offer."""

from __future__ import annotations

from typing import Any

import pytest

from enclave_runner.contract.protocols import group, oprf
from tests.support.refusals import refused_by
from tests.support.rfc import vectors

SUITES = {suite["mode"]: suite for suite in vectors("rfc9497")["suites"]}
NAMED = {0: oprf.OPRF, 1: oprf.VOPRF}
CASES = [(mode, vector) for mode, suite in SUITES.items() for vector in suite["vectors"]]
KEY = oprf.derive_key(bytes(range(32)), b"a key of the tests")
PUBLIC = oprf.public_key(KEY)


def unhex(texts: list[str]) -> list[bytes]:
    return [bytes.fromhex(text) for text in texts]


def key_of(mode: int) -> bytes:
    suite = SUITES[mode]
    return oprf.derive_key(bytes.fromhex(suite["seed"]), bytes.fromhex(suite["info"]), NAMED[mode])


def test_all_vectors_of_both_modes_are_here() -> None:
    assert {mode: len(suite["vectors"]) for mode, suite in SUITES.items()} == {0: 2, 1: 3}
    assert max(len(vector["inputs"]) for _, vector in CASES) == 2


@pytest.mark.parametrize("mode", [0, 1])
def test_keys_are_derived_as_in_rfc_9497(mode: int) -> None:
    assert key_of(mode).hex() == SUITES[mode]["key"]
    expected = SUITES[mode]["public_key"]
    assert expected is None or oprf.public_key(key_of(mode)).hex() == expected


@pytest.mark.parametrize(("mode", "vector"), CASES)
def test_blind_evaluate_and_finalize_as_in_rfc_9497(mode: int, vector: dict[str, Any]) -> None:
    key, inputs = key_of(mode), unhex(vector["inputs"])
    blinds = unhex(vector["blinds"])
    blinded = [oprf.blind(data, NAMED[mode], scalar) for data, scalar in zip(inputs, blinds, strict=True)]
    assert [item.element.hex() for item in blinded] == vector["blinded"]
    evaluated = oprf.evaluate_unproven(key, [item.element for item in blinded])
    assert [point.hex() for point in evaluated] == vector["evaluated"]
    outputs = [oprf.output(item, point) for item, point in zip(blinded, evaluated, strict=True)]
    assert [output.hex() for output in outputs] == vector["outputs"]
    assert [oprf.evaluate_directly(key, data, NAMED[mode]).hex() for data in inputs] == vector["outputs"]


@pytest.mark.parametrize("vector", SUITES[1]["vectors"])
def test_the_proofs_of_rfc_9497(vector: dict[str, Any]) -> None:
    key, elements, evaluated = key_of(1), unhex(vector["blinded"]), unhex(vector["evaluated"])
    proof = oprf.prove(key, elements, evaluated, bytes.fromhex(vector["nonce"]))
    assert proof.hex() == vector["proof"]
    assert oprf.is_proven(oprf.public_key(key), elements, evaluated, proof)


def test_the_two_modes_are_separate_functions() -> None:
    assert oprf.evaluate_directly(KEY, b"x", oprf.OPRF) != oprf.evaluate_directly(KEY, b"x")
    assert oprf.blind(b"x", oprf.OPRF, KEY).element != oprf.blind(b"x", oprf.VOPRF, KEY).element


def asked(*data: bytes) -> tuple[list[oprf.Blinded], list[bytes], bytes]:
    blinded = [oprf.blind(item) for item in data]
    evaluated, proof = oprf.evaluate(KEY, [item.element for item in blinded])
    return blinded, list(evaluated), proof


@pytest.mark.parametrize("count", [1, 2, 7, 50])
def test_a_batch_ends_with_the_outputs_of_the_key(count: int) -> None:
    data = [b"%d" % number for number in range(count)]
    blinded, evaluated, proof = asked(*data)
    expected = tuple(oprf.evaluate_directly(KEY, item) for item in data)
    assert oprf.finalize(blinded, evaluated, proof, PUBLIC) == expected
    assert all(len(output) == oprf.OUTPUT_BYTES for output in expected)


def test_the_same_data_are_sent_as_another_element_each_time() -> None:
    elements = {oprf.blind(b"the same").element for _ in range(20)}
    assert len(elements) == 20


def test_a_key_of_another_client_s_own_is_refused() -> None:
    """A platform that gives each client a key of its own could tell them apart: the proof is against the offer's."""
    blinded = [oprf.blind(b"a"), oprf.blind(b"b")]
    other = oprf.new_key()
    evaluated, proof = oprf.evaluate(other, [item.element for item in blinded])
    with refused_by("verification.proof"):
        oprf.finalize(blinded, evaluated, proof, PUBLIC)
    assert oprf.finalize(blinded, evaluated, proof, oprf.public_key(other))


def test_one_wrong_evaluation_in_a_batch_is_refused() -> None:
    blinded, evaluated, _ = asked(b"a", b"b", b"c")
    evaluated[1] = group.multiply(group.random_scalar(), blinded[1].element)
    forged = oprf.prove(KEY, [item.element for item in blinded], evaluated, group.random_scalar())
    with refused_by("verification.proof"):
        oprf.finalize(blinded, evaluated, forged, PUBLIC)


def test_swapped_answers_are_refused() -> None:
    blinded, evaluated, proof = asked(b"a", b"b")
    with refused_by("verification.proof"):
        oprf.finalize(blinded, evaluated[::-1], proof, PUBLIC)
    with refused_by("verification.proof"):
        oprf.finalize(blinded[::-1], evaluated, proof, PUBLIC)


def test_the_proof_of_another_batch_is_refused() -> None:
    blinded, evaluated, _ = asked(b"a")
    _, _, proof = asked(b"a")
    with refused_by("verification.proof"):
        oprf.finalize(blinded, evaluated, proof, PUBLIC)


def test_every_flipped_bit_of_a_proof_is_refused() -> None:
    blinded, evaluated, proof = asked(b"a")
    elements = [item.element for item in blinded]
    for bit in range(8 * len(proof)):
        forged = (int.from_bytes(proof, "little") ^ (1 << bit)).to_bytes(len(proof), "little")
        assert not oprf.is_proven(PUBLIC, elements, evaluated, forged)


@pytest.mark.parametrize("proof", [b"", bytes(63), bytes(65)], ids=len)
def test_an_answer_of_the_wrong_form_is_refused(proof: bytes) -> None:
    blinded, evaluated, good = asked(b"a", b"b")
    with refused_by("verification.answer"):
        oprf.finalize(blinded, evaluated, proof, PUBLIC)
    with refused_by("verification.answer"):
        oprf.finalize(blinded, evaluated[:1], good, PUBLIC)
    with refused_by("verification.answer"):
        oprf.finalize(blinded, [*evaluated, evaluated[0]], good, PUBLIC)


@pytest.mark.parametrize(
    "bad", [b"", bytes(32), b"\xff" * 32, b"\1" + bytes(31), bytes(70_000)], ids=["empty", "0", "ff", "1", "long"]
)
def test_what_is_no_point_is_refused_on_both_sides(bad: bytes) -> None:
    blinded, evaluated, proof = asked(b"a", b"b")
    with refused_by("verification.point"):
        oprf.evaluate(KEY, [blinded[0].element, bad])
    with refused_by("verification.point"):
        oprf.finalize(blinded, [evaluated[0], bad], proof, PUBLIC)
    for said in (proof, bytes(64)):
        with refused_by("verification.point"):
            oprf.finalize(blinded, evaluated, said, bad)


def test_scalars_of_zero_or_beyond_the_order_are_no_proof() -> None:
    blinded, evaluated, proof = asked(b"a")
    elements = [item.element for item in blinded]
    challenge, response = (int.from_bytes(proof[start : start + 32], "little") for start in (0, 32))
    for first, second in ((0, response), (challenge, 0), (challenge + group.ORDER, response)):
        forged = first.to_bytes(32, "little") + second.to_bytes(32, "little")
        assert not oprf.is_proven(PUBLIC, elements, evaluated, forged)


def test_batches_have_one_to_65535_elements() -> None:
    with pytest.raises(ValueError, match="batch"):
        oprf.evaluate(KEY, [])
    with pytest.raises(ValueError, match="batch"):
        oprf.evaluate_unproven(KEY, [PUBLIC] * 65_536)
    with pytest.raises(ValueError, match="seed"):
        oprf.derive_key(bytes(31), b"")


def test_a_client_cannot_combine_two_evaluations_into_a_third() -> None:
    """k·(A+B) is k·A + k·B, but the output is a hash over the data's own point: no third keyword comes out of two."""
    blinded = [oprf.blind(b"a"), oprf.blind(b"b")]
    evaluated, _ = oprf.evaluate(KEY, [item.element for item in blinded])
    points = [group.multiply(group.invert(item.scalar), point) for item, point in zip(blinded, evaluated, strict=True)]
    mixed = oprf.Blinded(b"c", group.small_scalar(1), group.add(*(item.element for item in blinded)))
    assert oprf.output(mixed, group.add(*points)) != oprf.evaluate_directly(KEY, b"c")


def test_what_the_client_keeps_is_not_shown() -> None:
    kept = oprf.blind(b"11010519491231002X", scalar=KEY)
    assert "11010519491231002X" not in repr(kept)
    assert repr(KEY) not in repr(kept)


def test_a_key_is_never_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """DeriveKeyPair tries again with the next counter, and gives up after 256; no seed is known that needs it."""
    good, tried = oprf.derive_key(bytes(32), b""), []

    def zero_until_the_third(message: bytes, dst: bytes) -> bytes:
        tried.append(message[-1])
        return good if len(tried) == 3 else bytes(32)

    monkeypatch.setattr(group, "hash_to_scalar", zero_until_the_third)
    assert oprf.derive_key(bytes(32), b"") == good
    assert tried == [0, 1, 2]
    with pytest.raises(ValueError, match="256 attempts"):
        oprf.derive_key(bytes(32), b"")
