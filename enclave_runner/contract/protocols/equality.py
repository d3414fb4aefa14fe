"""P1: is the platform's value y the client's x? By Diffie-Hellman on ristretto255, with a fresh key per call.

The client sends B = r·H(x), uniform whatever x is. The platform answers k·B and a tag of k·H(y), with a k of this call
alone: the client takes r off and compares tags. A client that breaks the protocol tests one x per call: to test
another, it would need k·H(x) from k times points of its own (one-more Diffie-Hellman). The tag is a hash, so that y
stays hidden behind k. Contexts name the product version and the call, so that nothing fits into another call.
"""

from __future__ import annotations

import hashlib
import hmac

from enclave_runner.contract.protocols import group
from enclave_runner.contract.protocols.canonical import frame

TAG_BYTES = 16
_DST = b"YUNEI-V01-EQUALITY-with-ristretto255_XMD:SHA-512_R255MAP_RO_"


def context(product_id: str, version: str, call_id: bytes) -> bytes:
    """The bytes that bind a protocol run to its product, table version and call."""
    return frame(product_id.encode(), version.encode(), call_id)


def blind(context: bytes, x: bytes) -> tuple[bytes, bytes]:
    """Client, before the call: the blinding scalar, kept for this call alone, and the element to send."""
    scalar = group.random_scalar()
    return scalar, group.multiply(scalar, _element(context, x))


def answer(context: bytes, y: bytes, blinded: bytes) -> tuple[bytes, bytes]:
    """Platform: k·B and the 16-byte tag of k·H(y). k is drawn here and forgotten here.

    Raises:
        Refused: `verification.point` where B is not a point, or the identity (from which k·B tells nothing, but which
            no honest client sends).
    """
    key = group.random_scalar()
    evaluated = group.multiply(key, blinded)
    return evaluated, _tag(context, group.multiply(key, _element(context, y)))


def is_equal(context: bytes, scalar: bytes, evaluated: bytes, tag: bytes) -> bool:
    """Client, after the call: whether x is y; wrong with a probability of 2^-128.

    Raises:
        Refused: `verification.point` where the answer is not a point. A tag of the wrong length is not equal.
    """
    return hmac.compare_digest(_tag(context, group.multiply(group.invert(scalar), evaluated)), tag)


def _element(context: bytes, value: bytes) -> bytes:
    return group.hash_to_ristretto255(frame(context, value), _DST)


def _tag(context: bytes, point: bytes) -> bytes:
    return hashlib.sha256(frame(b"yunei/v1/equality-tag", context, point)).digest()[:TAG_BYTES]
