"""Private lookups by the plainest arithmetic: Python's whole numbers, one at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from enclave_runner.private.matrix import RECORD

# Bytes and words at which sums wrap, carries begin and signs turn.
BYTES = (0, 1, 127, 128, 254, 255)
WORDS = (0, 1, 2**15 - 1, 2**15, 2**16 - 1, 2**24, 2**31 - 2**15 - 1, 2**31 - 2**15, 2**31 - 1, 2**31, 2**32 - 1)


def exact_product(matrix: NDArray[np.uint8], words: NDArray[np.uint32]) -> list[int]:
    """matrix @ words modulo 2³² in whole numbers of any size."""
    vector = [int(word) for word in words]
    return [sum(int(byte) * word for byte, word in zip(row, vector, strict=True)) % 2**32 for row in matrix]


def exact_public(seed: bytes, rows: int, dimension: int) -> list[list[int]]:
    """The public matrix from single blocks of AES-128: block i of row r encrypts the number of blocks before it."""
    cipher = Cipher(algorithms.AES128(seed), modes.ECB()).encryptor()
    stream = b"".join(cipher.update(block.to_bytes(16, "big")) for block in range(rows * dimension // 4))
    words = [int.from_bytes(stream[at : at + 4], "little") for at in range(0, len(stream), 4)]
    return [words[row * dimension : (row + 1) * dimension] for row in range(rows)]


def random_records(rows: int, seed: int = 7) -> NDArray[np.void]:
    """Records as a table's evaluation makes them: pseudorandom words and entries."""
    return np.frombuffer(np.random.default_rng(seed).bytes(rows * RECORD.itemsize), RECORD)


def records(words: list[int]) -> NDArray[np.void]:
    """Records with these words and entries of their own."""
    made = random_records(len(words)).copy()
    made["word"] = words
    return made


class Tape:
    """`os.urandom` replaced by a stream that can be played again; notes how much was drawn, and when."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch, self._real = patch, os.urandom
        self.drawn: list[int] = []

    def play(self, source: Iterator[bytes] | None = None, seed: int = 1) -> None:
        """From now on: the given pieces, or the bytes of a seeded generator."""
        stream = np.random.default_rng(seed)
        self.drawn = []

        def draw(count: int) -> bytes:
            self.drawn.append(count)
            return stream.bytes(count) if source is None else next(source)

        self._patch.setattr(os, "urandom", draw)

    def stop(self) -> None:
        """The operating system's randomness again."""
        self._patch.setattr(os, "urandom", self._real)
