"""A business that breaks the protocol of encrypted scoring: it spoils its ciphertexts and reads the noise of answers.

`naive_answer` is the textbook circuit r·(x - y), the victim that shows that these attacks work.
"""

from __future__ import annotations

import math
import random
import struct
from typing import Any

import numpy as np
import tenseal.sealapi as seal

from enclave_runner.contract.ciphertext import Ring, Workbench
from enclave_runner.contract.encryption import ParameterSet, Scheme
from enclave_runner.contract.packing import pack

# Where the attacks were first run: 174 bits of modulus for data, so that 2^100 of error can be told from the plaintext.
WIDE = ParameterSet(
    name="attacked",
    scheme=Scheme.BFV,
    degree=8192,
    primes=(8796092858369, 8796092792833, 17592186028033, 17592185438209, 17592184717313),
    plain_modulus=1032193,
    reach=516096,
    answer_primes=4,
)

NOTHING = np.zeros(0, dtype=np.uint64)


class Attacker:
    """Owns a key pair, and reads what decryption throws away."""

    def __init__(self, ring: Ring, seed: int = 0) -> None:
        self.ring, self.bench, self.random = ring, Workbench(), random.Random(seed)
        self.degree, self.t = ring.parameters.degree, ring.parameters.plain_modulus
        generator, public = seal.KeyGenerator(ring.context), seal.PublicKey()
        generator.create_public_key(public)
        self.key = ring.write(public.data(), ring.parameters.primes)
        self._encryptor = seal.Encryptor(ring.context, generator.secret_key())
        self._decryptor = seal.Decryptor(ring.context, generator.secret_key())
        self._evaluator = seal.Evaluator(ring.context)
        self._secret = self._coefficients_of(generator.secret_key())

    def question(self, slots: list[int], error: int) -> bytes:
        """An honest encryption, but for `error` added to the first coefficient of its first polynomial."""
        fresh = seal.Ciphertext()
        self._encryptor.encrypt_symmetric(self.ring.plain(slots), fresh)
        return pack(self._spoilt(fresh, error), 2, self.degree, self.ring.parameters.data_primes)

    def _spoilt(self, fresh: Any, error: int) -> np.ndarray:
        primes = self.ring.parameters.data_primes
        words = words_of(fresh).reshape(2, len(primes), self.degree)
        for limb, prime in enumerate(primes):
            words[0, limb, 0] = (int(words[0, limb, 0]) + error) % prime
        return words

    def phase(self, answer: Any, primes: tuple[int, ...]) -> list[int]:
        """c0 + c1·s modulo the product of the primes: what decryption rounds, plaintext and noise together."""
        words = words_of(answer).reshape(2, len(primes), self.degree).astype(np.int64)
        limbs = [(words[0, k] + self._times_secret(words[1, k], prime)) % prime for k, prime in enumerate(primes)]
        modulus = math.prod(primes)
        factors = [modulus // prime * pow(modulus // prime, -1, prime) for prime in primes]
        return [
            sum(int(limb[j]) * factor for limb, factor in zip(limbs, factors, strict=True)) % modulus
            for j in range(self.degree)
        ]

    def noise(self, answer: Any, primes: tuple[int, ...]) -> tuple[list[int], list[int]]:
        """The decrypted slots, and the noise of every coefficient, centred."""
        plain, modulus = seal.Plaintext(), math.prod(primes)
        self._decryptor.decrypt(answer, plain)
        coefficients = [plain[j] if j < plain.coeff_count() else 0 for j in range(self.degree)]
        noise = [
            (phase - (modulus * m + self.t // 2) // self.t) % modulus
            for phase, m in zip(self.phase(answer, primes), coefficients, strict=True)
        ]
        centred = [e - modulus if e > modulus // 2 else e for e in noise]
        return list(self.ring.encoder.decode_uint64(plain)), centred

    def slots_of(self, polynomial: list[int]) -> list[int]:
        """What a polynomial, given by its coefficients, says in the slots."""
        terms = [f"{c % self.t:X}x^{j}" if j else f"{c % self.t:X}" for j, c in enumerate(polynomial) if c % self.t]
        return list(self.ring.encoder.decode_uint64(seal.Plaintext(" + ".join(reversed(terms)) or "0")))

    def _times_secret(self, polynomial: np.ndarray, prime: int) -> np.ndarray:
        """Modulo x^N + 1, with a secret of -1, 0 and 1: only additions, which fit 64 bits."""
        total = np.zeros(self.degree, dtype=np.int64)
        for shift in np.flatnonzero(self._secret):
            rolled = np.roll(polynomial, shift)
            rolled[:shift] *= -1
            total += rolled * self._secret[shift]
        return total % prime

    def _coefficients_of(self, secret: Any) -> np.ndarray:
        """The secret key as a polynomial: as the first half of a ciphertext, SEAL transforms it back."""
        primes = self.ring.parameters.data_primes
        values = secret.data().dyn_array()
        words = [values.at(j) for j in range(len(primes) * self.degree)]
        ones = [1] * (len(primes) * self.degree)
        posing = seal.Ciphertext()
        level = self.ring.context.first_parms_id()
        self.bench.put(raw_object([*words, *ones], 2, len(primes), self.degree, level, is_ntt=True), NOTHING)
        posing.load(self.ring.context, self.bench.path)
        self._evaluator.transform_from_ntt_inplace(posing)
        first = words_of(posing)[: self.degree].astype(np.int64)
        return np.where(first > 1, -1, first)


def naive_answer(ring: Ring, question: bytes, secret: list[int], rng: random.Random, flood_bits: int = 0) -> Any:
    """The textbook circuit over a business's ciphertext: r·(x - y), r uniform and not zero where there is a secret."""
    evaluator, bench = seal.Evaluator(ring.context), Workbench()
    ciphertext = ring.read_question(question, bench)
    evaluator.sub_plain_inplace(ciphertext, ring.plain(secret))
    factors = seal.Plaintext()
    ring.encoder.encode([rng.randrange(1, ring.parameters.plain_modulus) for _ in secret], factors)
    evaluator.multiply_plain_inplace(ciphertext, factors)
    return flooded(ring, ciphertext, rng, flood_bits, bench) if flood_bits else ciphertext


def flooded(ring: Ring, ciphertext: Any, rng: random.Random, bits: int, bench: Workbench) -> Any:
    """The same with uniform noise of [-2^bits, 2^bits] on every coefficient."""
    primes, degree = ring.parameters.data_primes, ring.parameters.degree
    words = words_of(ciphertext).reshape(2, len(primes), degree)
    noise = [rng.randrange(-(2**bits), 2**bits + 1) for _ in range(degree)]
    for limb, prime in enumerate(primes):
        shift = np.array([e % prime for e in noise], dtype=np.uint64)
        words[0, limb] = (words[0, limb] + shift) % np.uint64(prime)
    return ring.read_question(pack(words, 2, degree, primes), bench)


def words_of(ciphertext: Any) -> np.ndarray:
    """Every coefficient."""
    array = ciphertext.dyn_array()
    return np.fromiter(map(array.at, range(array.size())), dtype=np.uint64, count=array.size())


def raw_object(
    words: list[int],
    size: int,
    limbs: int,
    degree: int,
    level: Any,
    *,
    is_ntt: bool = False,
    scale: float = 1.0,
    version: tuple[int, int] = (4, 3),
) -> bytes:
    """A SEAL object, sound or not, uncompressed."""

    def wrapped(payload: bytes) -> bytes:
        return struct.pack("<HBBBBHQ", 0xA15E, 16, *version, 0, 0, 16 + len(payload)) + payload

    fields = struct.pack("<4QB3QdQ", *level, is_ntt, size, degree, limbs, scale, 1)
    return wrapped(fields + wrapped(struct.pack(f"<Q{len(words)}Q", len(words), *words)))
