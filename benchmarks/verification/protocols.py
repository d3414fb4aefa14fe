"""What a private answer costs beside the group operations that it cannot do without.

`bare` calls libsodium and hashlib directly, with no check, no framing and no function of ours between.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

import rbcl

from benchmarks.report import Check, interleaved
from enclave_runner.contract.protocols import equality, oprf
from enclave_runner.contract.protocols.canonical import claim_digest, keyword
from enclave_runner.private import assemble, evaluate
from enclave_runner.private.tasks import KEYWORD_BYTES, Assembling, Evaluating

VERSION = "0a" * 16
K_MIN = 1024


def protocol_checks(rows: int = 20_000, answers: int = 2_000, rounds: int = 5) -> list[Check]:
    """P1 beside its two multiplications; the table of `rows` subjects beside as many bare evaluations."""
    return [_equality_check(answers, rounds), _table_check(rows, rounds)]


def _equality_check(answers: int, rounds: int) -> Check:
    context, y = equality.context("product", VERSION, bytes(16)), claim_digest("6500")
    _, blinded = equality.blind(context, claim_digest("6501"))

    def bare() -> None:
        for _ in range(answers):
            scalar = rbcl.crypto_core_ristretto255_scalar_random()
            rbcl.crypto_scalarmult_ristretto255(scalar, blinded)
            rbcl.crypto_scalarmult_ristretto255(scalar, blinded)

    def ours() -> None:
        for _ in range(answers):
            equality.answer(context, y, blinded)

    floor, whole = interleaved(rounds, bare, ours)
    note = f"{whole / answers * 1e6:.0f} µs an answer, {floor / answers * 1e6:.0f} µs its two multiplications"
    return Check("P1 answer", whole / floor, "×", "<= 2.5", "two bare multiplications", note)


def _table_check(rows: int, rounds: int) -> Check:
    keywords = [keyword(f"{number:018d}") for number in range(rows)]
    key = oprf.new_key()

    def bare() -> None:
        for data in keywords:
            element = rbcl.crypto_core_ristretto255_from_hash(hashlib.sha512(data).digest())
            point = rbcl.crypto_scalarmult_ristretto255(key, element)
            hashlib.sha512(data + point).digest()

    with _memory(b"".join(data + (1).to_bytes(KEYWORD_BYTES - len(data), "little") for data in keywords)) as records:

        def ours() -> None:
            with _memory() as cells, _memory() as matrix:
                evaluate.run(Evaluating(key=key, version=VERSION, first=0, count=rows), [records, cells])
                assemble.run(Assembling(k_min=K_MIN), [cells, matrix])

        floor, whole = interleaved(rounds, bare, ours)
    note = f"{whole / rows * 1e6:.0f} µs a row with its place in the matrix, {floor / rows * 1e6:.0f} µs bare; one core"
    return Check("P3/P4 table build", whole / floor, "×", "<= 1.3", "bare OPRF evaluations", note)


@contextmanager
def _memory(data: bytes = b"") -> Iterator[int]:
    descriptor = os.memfd_create("benchmark")
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        yield descriptor
    finally:
        os.close(descriptor)
