"""P1: equal or not, one guess per call, and clients and platforms that send something else."""

from __future__ import annotations

import pytest

from enclave_runner.contract.protocols import equality, group
from enclave_runner.contract.protocols.canonical import claim_digest
from tests.support.refusals import refused_by

CONTEXT = equality.context("product-1", "0a" * 16, bytes(16))
X, Y = claim_digest("6500"), claim_digest("6501")


def said(x: bytes, y: bytes) -> bool:
    scalar, element = equality.blind(CONTEXT, x)
    return equality.is_equal(CONTEXT, scalar, *equality.answer(CONTEXT, y, element))


def test_equal_values_are_equal_and_others_are_not() -> None:
    assert said(X, X)
    assert not said(X, Y)
    assert not said(Y, X)


def test_an_answer_is_32_and_16_bytes_whatever_is_asked() -> None:
    for y in (X, Y):
        evaluated, tag = equality.answer(CONTEXT, y, equality.blind(CONTEXT, X)[1])
        assert (len(evaluated), len(tag)) == (32, equality.TAG_BYTES)


def test_nothing_fits_into_another_call_product_or_version() -> None:
    scalar, element = equality.blind(CONTEXT, X)
    for other in (
        equality.context("product-2", "0a" * 16, bytes(16)),
        equality.context("product-1", "0b" * 16, bytes(16)),
        equality.context("product-1", "0a" * 16, bytes(15) + b"\1"),
    ):
        assert not equality.is_equal(other, scalar, *equality.answer(CONTEXT, X, element))
        assert not equality.is_equal(CONTEXT, scalar, *equality.answer(other, X, element))


def test_the_same_claim_is_another_point_in_every_context() -> None:
    """Points of one call are of no use in another, even before the tag."""
    other = equality.context("product-1", "0a" * 16, bytes(15) + b"\1")
    hashed = [
        group.multiply(group.invert(scalar), element)
        for scalar, element in (equality.blind(CONTEXT, X), equality.blind(CONTEXT, X), equality.blind(other, X))
    ]
    assert hashed[0] == hashed[1] != hashed[2]


def test_contexts_are_framed() -> None:
    """A product that ends with what a version begins with is another product."""
    assert equality.context("ab", "c", b"") != equality.context("a", "bc", b"")


def test_the_platform_s_key_is_fresh_for_every_answer() -> None:
    _, element = equality.blind(CONTEXT, X)
    answers = [equality.answer(CONTEXT, X, element) for _ in range(20)]
    assert len({evaluated for evaluated, _ in answers}) == len({tag for _, tag in answers}) == 20


def test_the_client_s_element_is_fresh_for_every_question() -> None:
    assert len({equality.blind(CONTEXT, X)[1] for _ in range(20)}) == 20


def test_one_call_is_one_guess() -> None:
    """A client that mixes two claims into one element learns about neither: k·(H(x1) + H(x2)) holds no k·H(x1)."""
    hashed = [
        group.multiply(group.invert(scalar), sent) for scalar, sent in (equality.blind(CONTEXT, x) for x in (X, Y))
    ]
    evaluated, tag = equality.answer(CONTEXT, X, group.add(*hashed))
    one = group.small_scalar(1)
    halves = [evaluated, group.multiply(group.invert(group.small_scalar(2)), evaluated)]
    tried = [*halves, *(group.sub(evaluated, point) for point in hashed), *hashed]
    assert not any(equality.is_equal(CONTEXT, one, point, tag) for point in tried)
    assert equality.is_equal(CONTEXT, one, *equality.answer(CONTEXT, X, hashed[0]))


@pytest.mark.parametrize("bad", [b"", bytes(32), b"\xff" * 32, b"\1" + bytes(31)], ids=["empty", "0", "ff", "1"])
def test_what_is_no_point_is_refused_on_both_sides(bad: bytes) -> None:
    scalar, _ = equality.blind(CONTEXT, X)
    with refused_by("verification.point"):
        equality.answer(CONTEXT, X, bad)
    with refused_by("verification.point"):
        equality.is_equal(CONTEXT, scalar, bad, bytes(16))


def test_a_spoilt_answer_is_never_a_yes() -> None:
    scalar, element = equality.blind(CONTEXT, X)
    evaluated, tag = equality.answer(CONTEXT, X, element)
    for bit in range(8 * len(tag)):
        spoilt = (int.from_bytes(tag, "big") ^ (1 << bit)).to_bytes(len(tag), "big")
        assert not equality.is_equal(CONTEXT, scalar, evaluated, spoilt)
    for wrong in (b"", tag[:15], tag + b"\0"):
        assert not equality.is_equal(CONTEXT, scalar, evaluated, wrong)
    assert not equality.is_equal(CONTEXT, scalar, group.multiply(group.small_scalar(2), evaluated), tag)
