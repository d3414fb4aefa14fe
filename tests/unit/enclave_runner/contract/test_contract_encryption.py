"""The wire form of ciphertexts: fixed lengths, no header, and back to the same words."""

from __future__ import annotations

import random

import numpy as np
import pytest
from numpy.typing import NDArray

from enclave_runner.contract.encryption import PARAMETER_SETS, ParameterSet, packed_bytes, require_length
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.packing import pack, unpack

BY_NAME = {parameters.name: parameters for parameters in PARAMETER_SETS}


def words(parameters: ParameterSet, seed: int, size: int = 2) -> NDArray[np.uint64]:
    rng = random.Random(seed)
    values = [rng.randrange(p) for _ in range(size) for p in parameters.data_primes for _ in range(parameters.degree)]
    return np.array(values, dtype=np.uint64)


@pytest.mark.parametrize("name", BY_NAME)
def test_packing_keeps_every_word(name: str) -> None:
    parameters = BY_NAME[name]
    original = words(parameters, 1)
    packed = pack(original, 2, parameters.degree, parameters.data_primes)
    assert len(packed) == parameters.ciphertext_bytes < original.nbytes
    assert np.array_equal(unpack(packed, 2, parameters.degree, parameters.data_primes), original)


def test_the_lengths_of_the_sets() -> None:
    """They are the wire format: a change is a change of protocol."""
    assert {s.name: (s.ciphertext_bytes, s.key_bytes, s.answer_bytes) for s in PARAMETER_SETS} == {
        "bfv-4096-24": (81_920, 122_880, 40_960),
        "ckks-8192-linear": (196_608, 311_296, 114_688),
        "ckks-8192-network": (278_528, 393_216, 172_032),
    }


def test_every_prime_is_written_in_the_bytes_that_it_has() -> None:
    assert packed_bytes(1, 4, (255, 256, 2**40 - 1, 2**40)) == 4 * (1 + 2 + 5 + 6)
    numbers = np.array([1, 2, 3, 2**40 - 2, 4, 5, 6, 254], dtype=np.uint64)
    packed = pack(numbers, 1, 4, (2**40 - 1, 255))
    assert packed == b"".join(int(n).to_bytes(5, "little") for n in numbers[:4]) + bytes([4, 5, 6, 254])
    assert np.array_equal(unpack(packed, 1, 4, (2**40 - 1, 255)), numbers)


@pytest.mark.parametrize("change", [-1, 1, -81_920, 81_920, 1 << 20])
def test_another_length_is_refused(change: int) -> None:
    parameters = PARAMETER_SETS[0]
    with pytest.raises(Refused) as refusal:
        unpack(bytes(parameters.ciphertext_bytes + change), 2, parameters.degree, parameters.data_primes)
    assert refusal.value.rule == "scoring.length"
    assert refusal.value.facts["expected"] == "81920"


def test_a_length_is_that_or_refused() -> None:
    require_length("key", 5, 5)
    with pytest.raises(Refused, match=r"scoring\.length"):
        require_length("key", 5, 6)
