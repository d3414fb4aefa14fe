"""Reading SEAL's objects strictly. What raw SEAL accepts is shown first where our reader must be stricter."""

from __future__ import annotations

import pickle
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tenseal.sealapi as seal

from enclave_runner.contract.ciphertext import Keys, Ring, Workbench, ring_of
from enclave_runner.contract.encryption import LINEAR, NETWORK, PARAMETER_SETS, SCORECARD, ParameterSet
from enclave_runner.contract.errors import Failed, Refused
from tests.support.descriptors import open_kinds
from tests.support.scoring_attacks import NOTHING, raw_object

SETS = pytest.mark.parametrize("parameters", PARAMETER_SETS, ids=lambda parameters: parameters.name)


@pytest.fixture
def bench() -> Iterator[Workbench]:
    bench = Workbench()
    yield bench
    bench.close()


def slots(parameters: ParameterSet, seed: int = 0) -> list[int]:
    rng = random.Random(seed)
    return [rng.randint(-1000, 1000) for _ in range(parameters.slots)]


@SETS
def test_what_is_encrypted_is_read_as_it_was_written(parameters: ParameterSet, bench: Workbench) -> None:
    ring = ring_of(parameters)
    keys = Keys(ring)
    data = keys.encrypt(slots(parameters))
    assert len(data) == parameters.ciphertext_bytes
    ciphertext = ring.read_question(data, bench)
    assert ring.write(ciphertext, parameters.data_primes) == data
    assert len(keys.public) == parameters.key_bytes
    key = ring.read_key(keys.public, bench)
    assert ring.write(key.data(), parameters.primes) == keys.public


@SETS
def test_a_coefficient_of_its_prime_or_more_is_refused(parameters: ParameterSet, bench: Workbench) -> None:
    ring = ring_of(parameters)
    data = bytearray(Keys(ring).encrypt(slots(parameters)))
    width = (parameters.primes[0].bit_length() + 7) // 8
    for value, is_fine in ((parameters.primes[0] - 1, True), (parameters.primes[0], False), (256**width - 1, False)):
        data[:width] = value.to_bytes(width, "little")
        if is_fine:
            ring.read_question(bytes(data), bench)
            continue
        with pytest.raises(Refused, match=r"scoring\.ciphertext"):
            ring.read_question(bytes(data), bench)


@SETS
def test_a_transparent_ciphertext_and_a_transparent_key_are_refused(parameters: ParameterSet, bench: Workbench) -> None:
    """c1 = 0 shows its plaintext, and the first operation on it raises: SEAL loads it all the same."""
    ring = ring_of(parameters)
    keys = Keys(ring)
    data, half = keys.encrypt(slots(parameters)), parameters.ciphertext_bytes // 2
    with pytest.raises(Refused, match=r"scoring\.ciphertext"):
        ring.read_question(data[:half] + bytes(half), bench)
    half = parameters.key_bytes // 2
    with pytest.raises(Refused, match=r"scoring\.ciphertext"):
        ring.read_key(keys.public[:half] + bytes(half), bench)


@pytest.mark.parametrize("size", [1, 3, 4, 16, 17])
def test_seal_loads_other_sizes_which_the_wire_form_cannot_say(size: int, bench: Workbench) -> None:
    ring = ring_of(SCORECARD)
    bench.put(raw_object([1] * (size * 2 * 4096), size, 2, 4096, ring.context.first_parms_id()), NOTHING)
    loaded = seal.Ciphertext()
    if 3 <= size <= 16:
        loaded.load(ring.context, bench.path)
        assert loaded.size() == size
    else:
        with pytest.raises((RuntimeError, ValueError)):
            loaded.load(ring.context, bench.path)
    with pytest.raises(Refused, match=r"scoring\.length"):
        ring.read_question(bytes(size * 81_920 // 2), bench)


@pytest.mark.parametrize("scale", [float("nan"), -1.0, 1e300, 2.0**20])
def test_seal_loads_any_scale_which_the_wire_form_cannot_say(scale: float, bench: Workbench) -> None:
    ring = ring_of(LINEAR)
    words = [1] * (2 * 2 * 8192)
    bench.put(raw_object(words, 2, 2, 8192, ring.context.first_parms_id(), is_ntt=True, scale=scale), NOTHING)
    loaded = seal.Ciphertext()
    loaded.load(ring.context, bench.path)
    assert loaded.scale != ring.scale
    assert ring.read_question(Keys(ring).encrypt([0] * 4096), bench).scale == ring.scale == 2.0**36


def test_an_object_of_another_release_is_no_ciphertext(bench: Workbench) -> None:
    """TenSEAL 0.3.16 writes SEAL 4.1; each refuses the other. The wire form has no place for a version."""
    ring = ring_of(SCORECARD)
    level = ring.context.first_parms_id()
    bench.put(raw_object([1] * 16384, 2, 2, 4096, level), NOTHING)
    seal.Ciphertext().load(ring.context, bench.path)
    bench.put(raw_object([1] * 16384, 2, 2, 4096, level, version=(4, 1)), NOTHING)
    with pytest.raises(RuntimeError, match="incompatible version"):
        seal.Ciphertext().load(ring.context, bench.path)


@SETS
def test_sealed_words_of_every_kind_never_end_the_process(parameters: ParameterSet, bench: Workbench) -> None:
    ring = ring_of(parameters)
    for length, read in (
        (parameters.ciphertext_bytes, ring.read_question),
        (parameters.answer_bytes, ring.read_answer),
        (parameters.key_bytes, ring.read_key),
    ):
        for data in (bytes(length), b"\xff" * length, random.Random(1).randbytes(length)):
            with pytest.raises(Refused, match=r"scoring\.ciphertext"):
                read(data, bench)
        for data in (b"", bytes(length - 1), bytes(length + 1), b"\x5e\xa1\x10\x04\x03"):
            with pytest.raises(Refused, match=r"scoring\.length"):
                read(data, bench)


def test_a_ciphertext_of_another_key_is_noise_and_noise_is_no_answer(bench: Workbench) -> None:
    """It has the right form, and TenSEAL would decrypt it to numbers without a word."""
    ring = ring_of(SCORECARD)
    keys, others = Keys(ring), Keys(ring)
    answer = switched(ring, ring.read_question(others.encrypt([5] * 4096), bench))
    assert others.open(answer, bench) == [5] * 4096
    with pytest.raises(Refused, match=r"scoring\.ciphertext"):
        keys.open(answer, bench)


def test_an_answer_without_budget_is_refused_instead_of_read(bench: Workbench) -> None:
    ring = ring_of(SCORECARD)
    keys = Keys(ring)
    data = switched(ring, ring.read_question(keys.encrypt([5] * 4096), bench))
    spoilt = bytearray(data)
    spoilt[4] ^= 8  # the top of the first coefficient: one flipped bit
    with pytest.raises(Refused, match=r"scoring\.ciphertext"):
        keys.open(bytes(spoilt), bench)


def switched(ring: Ring, ciphertext: Any) -> bytes:
    seal.Evaluator(ring.context).mod_switch_to_next_inplace(ciphertext)
    return ring.write(ciphertext, ring.parameters.primes[:1])


def test_a_ciphertext_is_written_only_at_its_level(bench: Workbench) -> None:
    ring = ring_of(SCORECARD)
    ciphertext = ring.read_question(Keys(ring).encrypt([0] * 4096), bench)
    with pytest.raises(Failed, match=r"scoring\.form"):
        ring.write(ciphertext, SCORECARD.primes[:1])


@pytest.mark.parametrize(
    "changes",
    [
        {"primes": (68719403009, 68719230977, 1152921504606830593)},  # 132 bits at N = 4096: below 128 bits of security
        {"degree": 5000},
        {"plain_modulus": 1_000_003},  # a prime, and not 1 modulo 2N: SEAL says so at the first encoding
        {"plain_modulus": 1024},
    ],
)
def test_a_set_that_is_insecure_or_cannot_batch_is_none(changes: dict[str, Any]) -> None:
    fields = {name: getattr(SCORECARD, name) for name in SCORECARD.__dataclass_fields__}
    with pytest.raises((Failed, ValueError)) as failure:
        Ring(ParameterSet(**{**fields, **changes}))
    assert isinstance(failure.value, ValueError) or failure.value.code == "scoring.parameters"


@SETS
def test_the_sets_are_at_128_bits_and_no_more(parameters: ParameterSet) -> None:
    """SEAL's table (HomomorphicEncryption.org, 2018) lets them pass at 128 bits; at 192 it would not."""
    most = seal.CoeffModulus.MaxBitCount(parameters.degree, seal.SEC_LEVEL_TYPE.TC128)
    bits = sum(prime.bit_length() for prime in parameters.primes)
    assert bits <= most
    assert most == {4096: 109, 8192: 218}[parameters.degree]


def test_values_beyond_the_modulus_wrap_in_silence() -> None:
    """Why every number is checked against the model before it is encoded."""
    ring = ring_of(SCORECARD)
    beyond = SCORECARD.reach + 1
    try:
        wrapped = ring.numbers(ring.plain([beyond] + [0] * 4095))[0]
    except ValueError:
        return
    assert wrapped != beyond


def test_keys_can_be_shown_only_in_public() -> None:
    keys = Keys(ring_of(SCORECARD))
    shown = [name for name in dir(keys) if not name.startswith("_")]
    assert shown == ["budget", "encrypt", "open", "public"]
    with pytest.raises(TypeError):
        pickle.dumps(keys)


def test_two_encryptions_of_one_thing_have_nothing_in_common() -> None:
    keys = Keys(ring_of(SCORECARD))
    one, other = (np.frombuffer(keys.encrypt([1] * 4096), dtype=np.uint8).reshape(-1, 5) for _ in range(2))
    assert not np.any(np.all(one == other, axis=1)[:4096])


def test_a_workbench_holds_what_was_put_last_and_leaves_nothing() -> None:
    before = open_kinds()
    bench = Workbench()
    bench.put(b"a longer thing", NOTHING)
    bench.put(b"short", NOTHING)
    assert Path(bench.path).read_bytes() == b"short"
    bench.close()
    assert open_kinds() == before


def test_the_scales_of_an_answer() -> None:
    assert ring_of(SCORECARD).answer_scale == 1.0
    assert ring_of(LINEAR).answer_scale == 2.0**36
    assert ring_of(NETWORK).answer_scale == 2.0**80 / NETWORK.primes[1]
