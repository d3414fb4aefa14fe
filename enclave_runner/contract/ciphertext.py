"""SEAL's objects of one parameter set, read from and written to the wire form (`encryption`). Needs TenSEAL.

Only its raw SEAL binding is used: TenSEAL's own messages end the process when they are malformed, and its vectors read
beyond their buffers. Of a received object nothing but coefficients is the sender's; SEAL checks that each is below its
prime, and what it made of them is checked again.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import tenseal.sealapi as seal
from numpy.typing import NDArray

from enclave_runner.contract.encryption import ParameterSet, Scheme
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.packing import Buffer, Words, pack, unpack

# SEAL's framing: magic, header size, version, no compression, reserved, total size.
HEADER, MAGIC, VERSION, NO_COMPRESSION = "<HBBBBHQ", 0xA15E, (4, 3), 0
HEADER_BYTES = struct.calcsize(HEADER)


class Workbench:
    """A file without a name, through which SEAL's objects pass: its binding reads by path alone.

    Over a descriptor of memory that was handed (in a jail), or over its own. Nothing secret ever passes.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self._descriptor = os.memfd_create("workbench", os.MFD_CLOEXEC) if descriptor is None else os.dup(descriptor)

    @property
    def path(self) -> str:
        """Where it can be opened."""
        return f"/proc/self/fd/{self._descriptor}"

    def put(self, header: bytes, words: Words) -> None:
        """Let it hold these bytes and nothing else.

        Raises:
            Failed: `scoring.memory`.
        """
        length = len(header) + words.nbytes
        if os.fstat(self._descriptor).st_size != length:
            os.ftruncate(self._descriptor, length)
        if os.pwrite(self._descriptor, header, 0) + os.pwrite(self._descriptor, words.data, len(header)) != length:
            raise Failed("scoring.memory")

    def close(self) -> None:
        """Give it up."""
        os.close(self._descriptor)


class Ring:
    """What both halves compute with: the context of one parameter set, and the forms in which objects may arrive.

    Raises:
        Failed: `scoring.parameters` when the installed SEAL does not take the set at 128 bits.
    """

    def __init__(self, parameters: ParameterSet) -> None:
        self.parameters = parameters
        self.is_bfv = parameters.scheme is Scheme.BFV
        chosen = seal.EncryptionParameters(seal.SCHEME_TYPE.BFV if self.is_bfv else seal.SCHEME_TYPE.CKKS)
        chosen.set_poly_modulus_degree(parameters.degree)
        chosen.set_coeff_modulus([seal.Modulus(prime) for prime in parameters.primes])
        if self.is_bfv:
            chosen.set_plain_modulus(parameters.plain_modulus)
        self.context: Any = seal.SEALContext(chosen, True, seal.SEC_LEVEL_TYPE.TC128)
        if not self.context.parameters_set():
            raise Failed("scoring.parameters")
        self.encoder: Any = seal.BatchEncoder(self.context) if self.is_bfv else seal.CKKSEncoder(self.context)

    @property
    def scale(self) -> float:
        """Of a fresh ciphertext."""
        return 2.0**self.parameters.scale_bits if not self.is_bfv else 1.0

    @property
    def answer_scale(self) -> float:
        """Of an answer. Weights are encoded at the prime that is dropped after them, so that they do not change it."""
        squared = self.parameters.size == 3
        return self.scale * self.scale / self.parameters.primes[1] if squared else self.scale

    def plain(self, slots: Sequence[float] | NDArray[Any], like: Any = None) -> Any:
        """A plaintext of one number for each slot, for adding to that ciphertext, or for encryption."""
        plain = seal.Plaintext()
        if self.is_bfv:
            self.encoder.encode(np.asarray(slots, dtype=np.int64).tolist(), plain)
        elif like is None:
            self.encoder.encode(np.asarray(slots, dtype=np.float64).tolist(), self.scale, plain)
        else:
            numbers = np.asarray(slots, dtype=np.float64).tolist()
            self.encoder.encode(numbers, like.parms_id(), like.scale, plain)
        return plain

    def numbers(self, plain: Any) -> list[int] | list[float]:
        """What a decrypted plaintext says, slot by slot."""
        return list(self.encoder.decode_int64(plain) if self.is_bfv else self.encoder.decode_double(plain))

    def read_question(self, data: Buffer, bench: Workbench) -> Any:
        """A fresh ciphertext.

        Raises:
            Refused: `scoring.length`, `scoring.ciphertext`.
        """
        primes = self.parameters.data_primes
        return self._read(seal.Ciphertext(), data, bench, 2, primes, self.context.first_parms_id(), self.scale)

    def read_answer(self, data: bytes, bench: Workbench) -> Any:
        """An answered ciphertext.

        Raises:
            Refused: `scoring.length`, `scoring.ciphertext`.
        """
        primes, size = self.parameters.primes[: self.parameters.answer_primes], self.parameters.size
        level = self.context.last_parms_id()
        return self._read(seal.Ciphertext(), data, bench, size, primes, level, self.answer_scale)

    def read_key(self, data: Buffer, bench: Workbench) -> Any:
        """A public key.

        Raises:
            Refused: `scoring.length`, `scoring.ciphertext`.
        """
        primes = self.parameters.primes
        words, key = unpack(data, 2, self.parameters.degree, primes), seal.PublicKey()
        bench.put(_header(2, self.parameters.degree, len(primes), self.context.key_parms_id(), True, 1.0), words)
        _load(key, self.context, bench)
        if key.parms_id() != self.context.key_parms_id() or key.data().is_transparent():
            raise Refused("scoring.ciphertext")
        return key

    def write(self, ciphertext: Any, primes: Sequence[int]) -> bytes:
        """A ciphertext (also that inside a public key) in wire form."""
        words, count = ciphertext.dyn_array(), ciphertext.size() * self.parameters.degree * len(primes)
        if words.size() != count:
            raise Failed("scoring.form")
        # Its array has no other door than one word at a time; iterating it reads beyond its end.
        plain = np.array(list(map(words.__getitem__, range(count))), dtype=np.uint64)
        return pack(plain, ciphertext.size(), self.parameters.degree, primes)

    def _read(
        self,
        empty: Any,
        data: Buffer,
        bench: Workbench,
        size: int,
        primes: Sequence[int],
        level: Any,
        scale: float,
    ) -> Any:
        words = unpack(data, size, self.parameters.degree, primes)
        bench.put(_header(size, self.parameters.degree, len(primes), level, not self.is_bfv, scale), words)
        _load(empty, self.context, bench)
        is_as_framed = (
            empty.size() == size
            and empty.parms_id() == level
            and empty.is_ntt_form() is not self.is_bfv
            and empty.scale == scale
        )
        if not is_as_framed or empty.is_transparent():
            raise Refused("scoring.ciphertext")
        return empty


@cache
def ring_of(parameters: ParameterSet) -> Ring:
    """The ring of a set, made once: its tables take some ten milliseconds.

    Raises:
        Failed: `scoring.parameters`.
    """
    return Ring(parameters)


class Keys:
    """A key pair, and what only its owner can do: encrypt short, decrypt. The secret half cannot be written out."""

    def __init__(self, ring: Ring) -> None:
        self._ring, public, generator = ring, seal.PublicKey(), seal.KeyGenerator(ring.context)
        generator.create_public_key(public)
        secret = generator.secret_key()
        self._encryptor, self._decryptor = seal.Encryptor(ring.context, secret), seal.Decryptor(ring.context, secret)
        self.public: bytes = ring.write(public.data(), ring.parameters.primes)

    def encrypt(self, slots: Sequence[float]) -> bytes:
        """A fresh ciphertext of one number for each slot, in wire form."""
        ciphertext = seal.Ciphertext()
        self._encryptor.encrypt_symmetric(self._ring.plain(slots), ciphertext)
        return self._ring.write(ciphertext, self._ring.parameters.data_primes)

    def open(self, answer: bytes, bench: Workbench) -> list[int] | list[float]:
        """The number in each slot of an answer.

        Raises:
            Refused: `scoring.length`, `scoring.ciphertext`; the latter also where BFV's noise leaves nothing to read.
        """
        ciphertext, plain = self._ring.read_answer(answer, bench), seal.Plaintext()
        if self.budget(ciphertext) == 0:
            raise Refused("scoring.ciphertext")
        self._decryptor.decrypt(ciphertext, plain)
        return self._ring.numbers(plain)

    def budget(self, ciphertext: Any) -> int:
        """How many bits of noise a BFV ciphertext can still take. CKKS has no such measure: 1."""
        return int(self._decryptor.invariant_noise_budget(ciphertext)) if self._ring.is_bfv else 1


def _load(empty: Any, context: Any, bench: Workbench) -> None:
    try:
        empty.load(context, bench.path)
    except (RuntimeError, ValueError):  # its words are SEAL's, and quote nothing that would help
        raise Refused("scoring.ciphertext") from None


def _header(size: int, degree: int, limbs: int, level: Any, is_ntt: bool, scale: float) -> bytes:
    """Of the one object that SEAL may find: every field that is not a coefficient is ours."""
    words = size * limbs * degree * 8
    fields = struct.pack("<4QB3QdQ", *level, is_ntt, size, degree, limbs, scale, 1)
    inner = struct.pack("<Q", size * limbs * degree)
    return _frame(len(fields) + HEADER_BYTES + len(inner) + words) + fields + _frame(len(inner) + words) + inner


def _frame(payload: int) -> bytes:
    return struct.pack(HEADER, MAGIC, HEADER_BYTES, *VERSION, NO_COMPRESSION, 0, HEADER_BYTES + payload)
