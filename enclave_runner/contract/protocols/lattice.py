"""The private lookup of P4: plain learning with errors, in the shape of SimplePIR. Its parameters and public matrix.

The table is a matrix M of bytes, `height` × `columns`; A is a public matrix of `columns` × DIMENSION words, expanded
from a 16-byte seed; the hint is M·A. The client draws a fresh secret s and an error e for each question and sends
A·s + e, with 2²⁴ added at the column that it wants; the platform answers M times that; the client subtracts hint·s and
reads the bytes of its column from the top 8 bits. Everything is modulo 2³². The client's half is
`sandbox.client.lookup`, the platform's `enclave_runner.private`.

Source: Henzinger, Hong, Corrigan-Gibbs, Meiklejohn, Vaikuntanathan, "One Server for the Price of Two: Simple and Fast
Single-Server Private Information Retrieval" (USENIX Security 2023). n = 1408, q = 2³², σ = 6.4 are those of Li,
Micciancio, Raykova, Schultz-Wu, "Hintless Single-Server Private Information Retrieval" (CRYPTO 2024, section 7.1),
since SimplePIR's own n = 1024 is worth 121 bits by today's estimates, not 128; estimates: docs/reference/lattice.md.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

DIMENSION = 1408
SIGMA = "6.4"  # the standard deviation of the error, exactly
STEP_BITS = 24  # 2³² / 256: what one unit of a byte is worth
MAX_COLUMNS = 1 << 20
WORD_BYTES, SEED_BYTES = 4, 16
_BLOCK = 16


def question_bytes(columns: int) -> int:
    """The length of a question."""
    return columns * WORD_BYTES


def reply_bytes(height: int) -> int:
    """The length of an answer."""
    return height * WORD_BYTES


def hint_bytes(height: int) -> int:
    """The length of a hint: `height` rows of DIMENSION words, little-endian."""
    return height * DIMENSION * WORD_BYTES


def public_rows(seed: bytes, first: int, count: int) -> bytes:
    """Rows `first` to `first + count - 1` of A: DIMENSION little-endian words each.

    AES-128-CTR under the seed, the counter (NIST SP 800-38A, big-endian) at 0 where row 0 begins.

    Raises:
        ValueError: the seed has not 16 bytes, or a row outside [0, MAX_COLUMNS) is asked for.
    """
    if len(seed) != SEED_BYTES or not 0 <= first <= first + count <= MAX_COLUMNS:
        raise ValueError("a seed of 16 bytes, and rows below 2^20")
    row = DIMENSION * WORD_BYTES
    counter = (first * row // _BLOCK).to_bytes(_BLOCK, "big")
    return Cipher(algorithms.AES128(seed), modes.CTR(counter)).encryptor().update(bytes(count * row))
