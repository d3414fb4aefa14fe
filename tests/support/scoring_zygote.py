"""A zygote whose workers score, or are ended on purpose by messages that TenSEAL cannot take; and its launcher."""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import tenseal

from enclave_runner.contract.codec import decode, encode
from enclave_runner.contract.errors import Refused
from enclave_runner.he import proof, scoring
from enclave_runner.he.tasks import Scoring
from enclave_runner.jail.launcher import Zygote
from enclave_runner.jail.zygote import serve

SIZES, CIPHERTEXTS = 1, 2  # field numbers of a TenSEAL vector


def varint(number: int) -> bytes:
    """One unsigned protobuf varint."""
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def field(tag: int, payload: bytes) -> bytes:
    """One length-delimited protobuf field."""
    return varint(tag << 3 | 2) + varint(len(payload)) + payload


def vector(sizes: list[int], ciphertexts: list[bytes], scale: float | None = None) -> bytes:
    """A TenSEAL vector of parts that need not fit together."""
    out = field(SIZES, b"".join(map(varint, sizes))) if sizes else b""
    out += b"".join(field(CIPHERTEXTS, ciphertext) for ciphertext in ciphertexts)
    return out + (b"" if scale is None else varint(3 << 3 | 1) + struct.pack("<d", scale))


def ciphertext_of(message: bytes) -> bytes:
    """The SEAL ciphertext in a short vector message that TenSEAL made: its last bytes but for a scale."""
    start = message.index(struct.pack("<HBBB", 0xA15E, 16, 4, 3))
    length = struct.unpack_from("<Q", message, start + 8)[0]
    return message[start : start + length]


def bfv() -> tenseal.Context:
    """As a careless server would hold."""
    return tenseal.context(tenseal.SCHEME_TYPE.BFV, 4096, 1032193, n_threads=1)


def ckks() -> tenseal.Context:
    """The same for CKKS."""
    context = tenseal.context(tenseal.SCHEME_TYPE.CKKS, 4096, coeff_mod_bit_sizes=[30, 24, 30], n_threads=1)
    context.global_scale = 2**24
    return context


def integers() -> tuple[tenseal.Context, bytes]:
    """A context and a ciphertext of it."""
    context = bfv()
    return context, ciphertext_of(tenseal.bfv_vector(context, [1, 2, 3]).serialize())


def reals() -> tuple[tenseal.Context, bytes]:
    """The same for CKKS."""
    context = ckks()
    return context, ciphertext_of(tenseal.ckks_vector(context, [1.0, 2.0, 3.0]).serialize())


def empty_tensor() -> None:
    """No byte at all."""
    (tenseal.bfv_tensor_from(bfv(), b"") + 1).serialize()


def vector_without_sizes() -> None:
    """A ciphertext of nobody's length."""
    context, ciphertext = integers()
    (tenseal.bfv_vector_from(context, vector([], [ciphertext])) - []).serialize()


def vector_of_size_zero() -> None:
    """A ciphertext of no length."""
    context, ciphertext = integers()
    (tenseal.bfv_vector_from(context, vector([0], [ciphertext])) - []).serialize()


def real_vector_without_sizes() -> None:
    """The same in CKKS."""
    context, ciphertext = reals()
    (tenseal.ckks_vector_from(context, vector([], [ciphertext], 2.0**24)) * []).serialize()


def real_vector_of_size_zero() -> None:
    """The same in CKKS."""
    context, ciphertext = reals()
    (tenseal.ckks_vector_from(context, vector([0], [ciphertext], 2.0**24)) * []).serialize()


def endless_array() -> None:
    """The raw binding's array has no end for an iterator."""
    list(tenseal.sealapi.DynArray(16))


def endless_memory() -> None:
    """Allocate without end."""
    held = []
    while True:
        held.append(bytearray(16 << 20))


def endless_time() -> None:
    """Never come back."""
    while True:
        pass


def nothing() -> None:
    """The control: a probe that ends nothing."""


PROBES: dict[str, Callable[[], None]] = {
    probe.__name__: probe
    for probe in (
        empty_tensor, vector_without_sizes, vector_of_size_zero, real_vector_without_sizes, real_vector_of_size_zero,
        endless_array, endless_memory, endless_time, nothing,
    )
}  # fmt: skip


def work(data: bytes, descriptors: list[int]) -> bytes:
    """Score, or run the probe of that name."""
    try:
        task = decode(data, Scoring)
    except Refused:
        PROBES[data.decode()]()
        return b"survived"
    return encode(scoring.run(task, descriptors))


class ScoringZygote(Zygote):
    """The real launcher in front of this program."""

    def _command(self, orders: int) -> list[str]:
        return [sys.executable, str(Path(__file__)), str(orders)]


if __name__ == "__main__":
    sys.path.insert(0, os.fspath(Path(__file__).parents[2]))
    proof.prepare()
    serve(socket.socket(fileno=int(sys.argv[1])), work)
