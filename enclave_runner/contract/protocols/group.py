"""The group ristretto255 (RFC 9496) through libsodium, and hashing to it (RFC 9380, appendix B).

Points are 32 canonical bytes and never the identity. Scalars are 32 bytes, little-endian, below the order of the group
and never zero. Multiplication takes the same time whatever the scalar; nothing else here sees a secret of the platform.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

from enclave_runner.contract.errors import Refused
from enclave_runner.contract.protocols.sodium import rbcl

POINT_BYTES, SCALAR_BYTES = 32, 32
ORDER = 2**252 + 27742317777372353535851937790883648493
IDENTITY = bytes(POINT_BYTES)
_UNIFORM_BYTES = 64
_HASH_BYTES, _BLOCK_BYTES, _MAX_DST = 64, 128, 255
_ZERO_BLOCK = bytes(_BLOCK_BYTES)


def expand(message: bytes, dst: bytes, length: int) -> bytes:
    """expand_message_xmd with SHA-512 (RFC 9380, 5.3.1): `length` uniform bytes, for a tag `dst` of 1 to 255 bytes."""
    blocks = -(-length // _HASH_BYTES)
    if not (0 < blocks <= 255 and 0 < len(dst) <= _MAX_DST):
        raise ValueError("a tag of 1 to 255 bytes, at most 255 blocks")
    suffix = dst + bytes([len(dst)])
    first = hashlib.sha512(_ZERO_BLOCK + message + length.to_bytes(2, "big") + b"\0" + suffix).digest()
    block = hashlib.sha512(first + b"\1" + suffix).digest()
    out = [block]
    for number in range(2, blocks + 1):
        mixed = int.from_bytes(first, "big") ^ int.from_bytes(block, "big")
        block = hashlib.sha512(mixed.to_bytes(_HASH_BYTES, "big") + bytes([number]) + suffix).digest()
        out.append(block)
    return b"".join(out)[:length]


def hash_to_ristretto255(message: bytes, dst: bytes) -> bytes:
    """A point of which nobody knows the logarithm (RFC 9380, appendix B): the same for the same message and tag."""
    point: bytes = rbcl.crypto_core_ristretto255_from_hash(expand(message, dst, _UNIFORM_BYTES))
    return point


def hash_to_scalar(message: bytes, dst: bytes) -> bytes:
    """A scalar (RFC 9497, 4.1): the same for the same message and tag. Zero with a probability of 2^-252."""
    return reduce(expand(message, dst, _UNIFORM_BYTES))


def reduce(uniform: bytes) -> bytes:
    """64 uniform bytes, little-endian, modulo the order of the group."""
    if len(uniform) != _UNIFORM_BYTES:
        raise ValueError("64 bytes")
    scalar: bytes = rbcl.crypto_core_ristretto255_scalar_reduce(uniform)
    return scalar


def checked(point: bytes) -> bytes:
    """The point itself, when it is one.

    Raises:
        Refused: `verification.point` for a wrong length, for what is not the canonical encoding of a point, and for the
            identity, which libsodium calls valid.
    """
    fits = len(point) == POINT_BYTES and not hmac.compare_digest(point, IDENTITY)
    if not fits or not rbcl.crypto_core_ristretto255_is_valid_point(point):
        raise Refused("verification.point")
    return point


def checked_scalar(scalar: bytes) -> bytes:
    """The scalar itself, when it is one; ValueError for a wrong length, zero, and anything not below the order."""
    if len(scalar) != SCALAR_BYTES or not 0 < int.from_bytes(scalar, "little") < ORDER:
        raise ValueError("not a scalar")
    return scalar


def random_scalar() -> bytes:
    """A fresh uniform scalar."""
    scalar: bytes = rbcl.crypto_core_ristretto255_scalar_random()
    return scalar


def small_scalar(number: int) -> bytes:
    """A public number from 1 on as a scalar."""
    return checked_scalar(number.to_bytes(SCALAR_BYTES, "little"))


def invert(scalar: bytes) -> bytes:
    """1 / scalar."""
    inverse: bytes = rbcl.crypto_core_ristretto255_scalar_invert(checked_scalar(scalar))
    return inverse


def scalar_product(left: bytes, right: bytes) -> bytes:
    """left · right, of two scalars."""
    product: bytes = rbcl.crypto_core_ristretto255_scalar_mul(checked_scalar(left), checked_scalar(right))
    return product


def scalar_difference(left: bytes, right: bytes) -> bytes:
    """left - right, of two scalars; zero where they are equal."""
    difference: bytes = rbcl.crypto_core_ristretto255_scalar_sub(checked_scalar(left), checked_scalar(right))
    return difference


def multiply(scalar: bytes, point: bytes) -> bytes:
    """scalar · point.

    Raises:
        Refused: `verification.point` for what `checked` refuses: it need not be checked before.
    """
    if len(scalar) != SCALAR_BYTES:
        raise ValueError("not a scalar")
    if len(point) != POINT_BYTES:
        raise Refused("verification.point")
    try:
        product: bytes = rbcl.crypto_scalarmult_ristretto255(scalar, point)
    except RuntimeError:  # not a point, or the product is the identity: of a scalar, only if the point is
        raise Refused("verification.point") from None
    return product


def base(scalar: bytes) -> bytes:
    """scalar · G, of the generator."""
    point: bytes = rbcl.crypto_scalarmult_ristretto255_base(checked_scalar(scalar))
    return point


def add(left: bytes, right: bytes) -> bytes:
    """left + right.

    Raises:
        Refused: `verification.point` where one is not a point, or the sum is the identity.
    """
    return _combined(rbcl.crypto_core_ristretto255_add, left, right)


def sub(left: bytes, right: bytes) -> bytes:
    """left - right.

    Raises:
        Refused: `verification.point` where one is not a point, or they are equal.
    """
    return _combined(rbcl.crypto_core_ristretto255_sub, left, right)


def _combined(operation: Callable[[bytes, bytes], bytes], left: bytes, right: bytes) -> bytes:
    if len(left) != POINT_BYTES or len(right) != POINT_BYTES:
        raise Refused("verification.point")
    result = operation(left, right)
    # rbcl drops libsodium's complaint about what is not a point: the result is then left all zero, as the identity is.
    if hmac.compare_digest(result, IDENTITY):
        raise Refused("verification.point")
    return result
