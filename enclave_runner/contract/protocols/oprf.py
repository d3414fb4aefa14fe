"""Oblivious pseudorandom functions of RFC 9497 over ristretto255 with SHA-512: modes 0 (OPRF) and 1 (VOPRF).

The client learns F(key, data) and nothing more of the key; the platform learns nothing of the data. In mode 1, which
the product uses, one proof for a whole batch shows that every point was evaluated with the key of the offer, so the
platform cannot tell clients apart by giving each a key of its own.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field

from enclave_runner.contract.errors import Refused
from enclave_runner.contract.protocols import group

OUTPUT_BYTES, PROOF_BYTES = 64, 2 * group.SCALAR_BYTES
MAX_BATCH = 65_535


@dataclass(frozen=True)
class Suite:
    """The domain separation of one mode (RFC 9497, 3.1 and 4.1)."""

    mode: int

    @property
    def context(self) -> bytes:
        """The context string."""
        return b"OPRFV1-" + bytes([self.mode]) + b"-ristretto255-SHA512"


OPRF, VOPRF = Suite(mode=0), Suite(mode=1)
_GROUP_DST = {suite: b"HashToGroup-" + suite.context for suite in (OPRF, VOPRF)}
_SCALAR_DST = b"HashToScalar-" + VOPRF.context
_SEED_DST = b"Seed-" + VOPRF.context


@dataclass(frozen=True)
class Blinded:
    """What the client keeps of one evaluation: its data, the blinding scalar, and the element that it sends."""

    data: bytes = field(repr=False)
    scalar: bytes = field(repr=False)
    element: bytes


def new_key() -> bytes:
    """A fresh secret key: a scalar."""
    return group.random_scalar()


def derive_key(seed: bytes, info: bytes, suite: Suite = VOPRF) -> bytes:
    """The secret key of a 32-byte seed and public info (DeriveKeyPair, 3.2.1)."""
    if len(seed) != 32:
        raise ValueError("a seed of 32 bytes")
    for counter in range(256):
        message = seed + _prefixed(info) + bytes([counter])
        key = group.hash_to_scalar(message, b"DeriveKeyPair" + suite.context)
        if any(key):
            return key
    raise ValueError("no key in 256 attempts")


def public_key(key: bytes) -> bytes:
    """key · G."""
    return group.base(key)


def blind(data: bytes, suite: Suite = VOPRF, scalar: bytes | None = None) -> Blinded:
    """Client, before the call. The element is uniform, whatever the data: `scalar` is fresh unless a test fixes it."""
    scalar = group.random_scalar() if scalar is None else scalar
    return Blinded(data, scalar, group.multiply(scalar, _element(data, suite)))


def evaluate(key: bytes, elements: Sequence[bytes]) -> tuple[tuple[bytes, ...], bytes]:
    """Platform: key times each element, and the proof (64 bytes) that it was this key every time.

    Raises:
        Refused: `verification.point` where one is not a point; nothing is evaluated then.
    """
    evaluated = evaluate_unproven(key, elements)
    return evaluated, prove(key, elements, evaluated, group.random_scalar())


def evaluate_unproven(key: bytes, elements: Sequence[bytes]) -> tuple[bytes, ...]:
    """Platform, mode 0: key times each element (BlindEvaluate, 3.3.1). Refused(`verification.point`)."""
    if not 0 < len(elements) <= MAX_BATCH:
        raise ValueError("a batch of 1 to 65 535 elements")
    return tuple(group.multiply(key, element) for element in elements)


def finalize(
    blinded: Sequence[Blinded], evaluated: Sequence[bytes], proof: bytes, public_key: bytes
) -> tuple[bytes, ...]:
    """Client, after the call: the 64-byte outputs, in order.

    Raises:
        Refused: `verification.answer` where there are not as many points as asked for, `verification.point`,
            `verification.proof` where they were not made with that key.
    """
    if len(evaluated) != len(blinded) or len(proof) != PROOF_BYTES:
        raise Refused("verification.answer")
    if not is_proven(public_key, [item.element for item in blinded], evaluated, proof):
        raise Refused("verification.proof")
    return tuple(output(item, point) for item, point in zip(blinded, evaluated, strict=True))


def output(blinded: Blinded, evaluated: bytes) -> bytes:
    """Client, mode 0: the output without a proof (Finalize, 3.3.1). Refused(`verification.point`)."""
    return _output(blinded.data, group.multiply(group.invert(blinded.scalar), evaluated))


def evaluate_directly(key: bytes, data: bytes, suite: Suite = VOPRF) -> bytes:
    """Platform: the output for data that it knows (Evaluate, 3.3.1): equal to what the client ends with."""
    return _output(data, group.multiply(key, _element(data, suite)))


def prove(key: bytes, elements: Sequence[bytes], evaluated: Sequence[bytes], nonce: bytes) -> bytes:
    """Platform: GenerateProof (2.2.1). The nonce is a fresh scalar: used twice it would give the key away."""
    public = group.base(key)
    mixed, _ = _composites(public, elements, evaluated, is_sum_of_evaluated_needed=False)
    product = group.multiply(key, mixed)
    challenge = _challenge(public, mixed, product, group.base(nonce), group.multiply(nonce, mixed))
    return challenge + group.scalar_difference(nonce, group.scalar_product(challenge, key))


def is_proven(public_key: bytes, elements: Sequence[bytes], evaluated: Sequence[bytes], proof: bytes) -> bool:
    """Client: VerifyProof (2.2.2). Refused(`verification.point`) where one is not a point."""
    group.checked(public_key)
    if any(len(point) != group.POINT_BYTES for point in (*elements, *evaluated)):
        raise Refused("verification.point")
    try:
        challenge = group.checked_scalar(proof[: group.SCALAR_BYTES])
        response = group.checked_scalar(proof[group.SCALAR_BYTES :])
    except ValueError:
        return False
    mixed, product = _composites(public_key, elements, evaluated, is_sum_of_evaluated_needed=True)
    first = group.add(group.base(response), group.multiply(challenge, public_key))
    second = group.add(group.multiply(response, mixed), group.multiply(challenge, product))
    return hmac.compare_digest(challenge, _challenge(public_key, mixed, product, first, second))


def _element(data: bytes, suite: Suite) -> bytes:
    return group.hash_to_ristretto255(data, _GROUP_DST[suite])


def _output(data: bytes, unblinded: bytes) -> bytes:
    return hashlib.sha512(_prefixed(data) + _prefixed(unblinded) + b"Finalize").digest()


def _composites(
    public: bytes, elements: Sequence[bytes], evaluated: Sequence[bytes], *, is_sum_of_evaluated_needed: bool
) -> tuple[bytes, bytes]:
    """Σ dᵢ·Cᵢ and, where it cannot be had by one multiplication with the key, Σ dᵢ·Dᵢ (ComputeComposites, 2.2.1)."""
    seed = hashlib.sha512(_prefixed(public) + _prefixed(_SEED_DST)).digest()
    mixed = product = group.IDENTITY
    for index, (element, point) in enumerate(zip(elements, evaluated, strict=True)):
        transcript = _prefixed(seed) + index.to_bytes(2, "big") + _prefixed(element) + _prefixed(point) + b"Composite"
        weight = group.hash_to_scalar(transcript, _SCALAR_DST)
        mixed = group.add(mixed, group.multiply(weight, element))
        if is_sum_of_evaluated_needed:
            product = group.add(product, group.multiply(weight, point))
    return mixed, product


def _challenge(*points: bytes) -> bytes:
    return group.hash_to_scalar(b"".join(map(_prefixed, points)) + b"Challenge", _SCALAR_DST)


def _prefixed(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data
