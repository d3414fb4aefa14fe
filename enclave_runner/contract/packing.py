"""Coefficients in the short wire form of `encryption`, and in the 64-bit words that SEAL holds. Needs numpy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from enclave_runner.contract.encryption import packed_bytes, require_length, width

Words = NDArray[np.uint64]
Buffer = bytes | memoryview


def pack(words: Words, size: int, degree: int, primes: Sequence[int]) -> bytes:
    """Coefficients as 64-bit words in the shorter wire form."""
    packed = bytearray(packed_bytes(size, degree, primes))
    for place in _places(size, degree, tuple(primes)):
        place.short(packed)[:] = place.long(words)
    return bytes(packed)


def unpack(packed: Buffer, size: int, degree: int, primes: Sequence[int]) -> Words:
    """The 64-bit words of a packed ciphertext. Whether each is below its prime is SEAL's check.

    Raises:
        Refused: `scoring.length` when the length is not exactly that of this form.
    """
    require_length("ciphertext", len(packed), packed_bytes(size, degree, primes))
    words = np.zeros(size * len(primes) * degree, dtype=np.uint64)
    for place in _places(size, degree, tuple(primes)):
        place.long(words)[:] = place.short(packed)
    return words


@dataclass(frozen=True)
class _Place:
    """Where the same few bytes of `count` coefficients stand in both forms: `wide` bytes apart, and eight."""

    kind: str
    count: int
    wide: int
    packed_at: int
    words_at: int

    def short(self, packed: Buffer | bytearray) -> NDArray[Any]:
        return np.ndarray((self.count,), self.kind, packed, self.packed_at, (self.wide,))

    def long(self, words: Words) -> NDArray[Any]:
        return np.ndarray((self.count,), self.kind, words, self.words_at, (8,))


@cache
def _places(size: int, degree: int, primes: tuple[int, ...]) -> tuple[_Place, ...]:
    """A coefficient is copied in pieces of four, two and one byte, those of neighbours of one width at once."""
    places, packed_at, words_at = [], 0, 0
    for wide, limbs in groupby(list(map(width, primes)) * size):
        count, offset = len(list(limbs)) * degree, 0
        while offset < wide:
            step = next(step for step in (4, 2, 1) if offset + step <= wide)
            places.append(_Place(f"<u{step}", count, wide, packed_at + offset, words_at + offset))
            offset += step
        packed_at, words_at = packed_at + count * wide, words_at + count * 8
    return tuple(places)
