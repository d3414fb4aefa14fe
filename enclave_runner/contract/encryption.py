"""Parameters of encrypted scoring and the wire form of its ciphertexts: fixed lengths, and nothing of a header.

A ciphertext on the wire is its coefficients alone: polynomial by polynomial, prime by prime, each in as many
little-endian bytes as the prime has. What SEAL would read from a header (version, compression, level, form, size,
scale) is decided by the receiver, from the parameter set: none of it can be sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from enclave_runner.contract.errors import Refused

MAX_FEATURE_BYTES = 8 << 20
MAX_KEY_BYTES = 1 << 19


class Scheme(Enum):
    """BFV computes whole numbers exactly, CKKS numbers with a small error."""

    BFV = "bfv"
    CKKS = "ckks"


@dataclass(frozen=True)
class ParameterSet:
    """One set that the platform computes with; there are no others.

    The last of the `primes` is SEAL's special prime, in keys only. `size` counts the polynomials of an answer, which
    is at the level of the first `answer_primes`. A BFV score is a whole number of absolute value at most `reach`, a
    CKKS score a number of that.

    Security: at least 128 bits against classical attacks by the table of the HomomorphicEncryption.org standard
    (2018), which SEAL enforces: N = 4096 allows 109 bits of modulus, 8192 allows 218.
    """

    name: str
    scheme: Scheme
    degree: int
    primes: tuple[int, ...]
    reach: int
    plain_modulus: int = 0
    scale_bits: int = 0
    size: int = 2
    answer_primes: int = 1

    @property
    def slots(self) -> int:
        """How many subjects one ciphertext holds."""
        return self.degree if self.scheme is Scheme.BFV else self.degree // 2

    @property
    def data_primes(self) -> tuple[int, ...]:
        """The primes of a fresh ciphertext."""
        return self.primes[:-1]

    @property
    def ciphertext_bytes(self) -> int:
        """The length of a fresh ciphertext on the wire."""
        return packed_bytes(2, self.degree, self.data_primes)

    @property
    def key_bytes(self) -> int:
        """The length of a public key on the wire."""
        return packed_bytes(2, self.degree, self.primes)

    @property
    def answer_bytes(self) -> int:
        """The length of one answered ciphertext on the wire."""
        return packed_bytes(self.size, self.degree, self.primes[: self.answer_primes])

    @property
    def most_features(self) -> int:
        """How many features a call can carry for one ciphertext each."""
        return MAX_FEATURE_BYTES // self.ciphertext_bytes

    def batches(self, subjects: int) -> int:
        """How many ciphertexts hold that many subjects, for each feature."""
        return -(-subjects // self.slots)

    def most_subjects(self, features: int) -> int:
        """How many subjects one call can carry, with that many features."""
        return MAX_FEATURE_BYTES // (self.ciphertext_bytes * features) * self.slots


# SEAL's default primes for N = 4096; t is the largest prime of 24 bits that is 1 modulo 2N. Weights up to 2^16 in sum
# leave 4 to 5 bits of noise budget at the one prime of the answer (he/proof.py measures it at every start).
SCORECARD = ParameterSet(
    name="bfv-4096-24",
    scheme=Scheme.BFV,
    degree=4096,
    primes=(68719403009, 68719230977, 137438822401),
    plain_modulus=16760833,
    reach=16760833 // 2,
)
# 54 + 40 + 54 bits. Scores below 2^17 fit the answer's prime at a scale of 2^36.
LINEAR = ParameterSet(
    name="ckks-8192-linear",
    scheme=Scheme.CKKS,
    degree=8192,
    primes=(18014398508138497, 1099511480321, 18014398508400641),
    scale_bits=36,
    reach=(1 << 17) - 1,
)
# 54 + 40 + 40 + 54 bits: a product with weights and a square. The square is not made linear again (three polynomials
# go out), so that no relinearisation key has to be sent. Scores below 2^13 fit.
NETWORK = ParameterSet(
    name="ckks-8192-network",
    scheme=Scheme.CKKS,
    degree=8192,
    primes=(18014398508138497, 1099510890497, 1099511480321, 18014398508400641),
    scale_bits=40,
    size=3,
    reach=(1 << 13) - 1,
)
PARAMETER_SETS = (SCORECARD, LINEAR, NETWORK)


def packed_bytes(size: int, degree: int, primes: Sequence[int]) -> int:
    """The length of `size` polynomials on the wire."""
    return size * degree * sum(map(width, primes))


def require_length(what: str, length: int, expected: int) -> None:
    """Refuse anything but the one length.

    Raises:
        Refused: `scoring.length`.
    """
    if length != expected:
        raise Refused("scoring.length", what=what, length=length, expected=expected)


def width(prime: int) -> int:
    """How many bytes a coefficient below that prime takes on the wire."""
    return (prime.bit_length() + 7) // 8
