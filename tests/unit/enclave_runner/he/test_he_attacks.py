"""The two attacks that break r·(x - y) under a business's key: they work on it, and find nothing in our endpoint.

The textbook circuit is attacked first, in the same test with the same code, so that none of these can pass because the
attack has a fault.
"""

from __future__ import annotations

import math
import random
import struct
from itertools import pairwise

import numpy as np
import pytest
import tenseal.sealapi as seal

from enclave_runner.contract.ciphertext import Keys, Ring, Workbench, ring_of
from enclave_runner.contract.encryption import LINEAR, NETWORK, SCORECARD
from enclave_runner.contract.packing import pack, unpack
from enclave_runner.contract.scoring import (
    MILLION,
    Feature,
    Input,
    Linear,
    Model,
    Network,
    Neuron,
    Scorecard,
)
from enclave_runner.he.circuit import evaluate
from enclave_runner.he.scoring import score, settle
from tests.support.scoring_attacks import WIDE, Attacker, naive_answer

WEIGHT, COEFFICIENTS = 7, 64
REMAINING, DROPPED = WIDE.data_primes[:-1], WIDE.data_primes[-1]
CARD = Scorecard(features=(Feature(name="x", weight=WEIGHT, low=0, high=1000),))


@pytest.fixture(scope="module")
def ring() -> Ring:
    return Ring(WIDE)


@pytest.fixture(scope="module")
def attacker(ring: Ring) -> Attacker:
    return Attacker(ring)


def ours(ring: Ring, attacker: Attacker, question: bytes, points: list[int]) -> object:
    """Our circuit and our way of adding points, at the parameters of the attack. One prime is dropped: `DROPPED`."""
    bench = Workbench()
    total = evaluate(ring, CARD, [ring.read_question(question, bench)])
    settle(ring, total, ring.read_key(attacker.key, bench), points)
    return total


def factors_in(attacker: Attacker, noise: list[int], error: int, dropped: int = 1) -> list[int]:
    """What the error was multiplied by, slot by slot: the noise divided by it."""
    return attacker.slots_of([(e * dropped + error // 2) // error for e in noise])


def recovered(attacker: Attacker, slots: list[int], factors: list[int], secret: list[int]) -> int:
    """attack_recover_all: take the factors for r, divide the slots by them."""
    guesses = [-z * pow(r, -1, attacker.t) % attacker.t if r else -1 for z, r in zip(slots, factors, strict=True)]
    return sum(guess == y % attacker.t for guess, y in zip(guesses, secret, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(("flood_bits", "found"), [(0, 8192), (90, 8192)])
def test_recover_all_reads_every_secret_of_the_textbook_circuit_and_none_of_ours(
    ring: Ring, attacker: Attacker, flood_bits: int, found: int
) -> None:
    secret = [attacker.random.randrange(1, 500_000) for _ in range(WIDE.slots)]
    error = 2**100
    question = attacker.question([0] * WIDE.slots, error)
    victim = naive_answer(ring, question, secret, attacker.random, flood_bits)
    slots, noise = attacker.noise(victim, WIDE.data_primes)
    assert recovered(attacker, slots, factors_in(attacker, noise, error), secret) == found
    slots, noise = attacker.noise(ours(ring, attacker, question, secret), REMAINING)
    factors = factors_in(attacker, noise, error, DROPPED)
    assert recovered(attacker, slots, factors, secret) == 0
    assert set(factors) == {WEIGHT}  # what the noise does tell: the weight, which is public


@pytest.mark.slow
@pytest.mark.parametrize("bits", [0, 40, 90, 100, 110, 130, 140])
def test_the_noise_of_our_answers_is_the_same_whatever_the_points_are(
    ring: Ring, attacker: Attacker, bits: int
) -> None:
    """Noise with an error of 2^bits differs between two vectors of points by fresh randomness alone."""
    question = attacker.question([0] * WIDE.slots, 2**bits)
    noises = []
    for _ in range(2):
        points = [attacker.random.randrange(-500_000, 500_000) for _ in range(WIDE.slots)]
        noises.append(attacker.noise(ours(ring, attacker, question, points), REMAINING)[1])
    differences = [abs(one - other) for one, other in zip(*noises, strict=True)]
    # Rounding, and what is left of an encryption of nothing; a product would be 2^bits / DROPPED times the points.
    assert max(differences) < 2**14
    assert max(abs(e) for e in noises[0]) >= WEIGHT * 2**bits // DROPPED // 2


def doubled_phase(attacker: Attacker, answer: object, primes: tuple[int, ...]) -> list[int]:
    """2t/Q of the phase: under an error of Δ/2 an integer whose parity is that of the factor."""
    modulus, doubled = math.prod(primes), 2 * attacker.t
    phase = attacker.phase(answer, primes)
    return [(doubled * v + modulus // 2) // modulus % doubled for v in phase]


def ranked(attacker: Attacker, parities: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Every r from 1 to t - 1 with its number of wrong parities, best first (attack_parity)."""
    first = seal.Plaintext()
    attacker.ring.encoder.encode([1] + [0] * (WIDE.slots - 1), first)
    r = np.arange(1, attacker.t, dtype=np.int64)
    misses = np.zeros(len(r), dtype=int)
    for j in range(COEFFICIENTS):
        coefficient = r * first[j] % attacker.t
        centred = np.where(coefficient > attacker.t // 2, coefficient - attacker.t, coefficient)
        misses += (centred & 1) != parities[j]
    order = np.argsort(misses, kind="stable")
    return r[order], misses[order]


@pytest.mark.slow
@pytest.mark.parametrize("flood_bits", [140, 152])
def test_parity_finds_the_secret_of_a_flooded_textbook_circuit_and_separates_nothing_of_ours(
    ring: Ring, attacker: Attacker, flood_bits: int
) -> None:
    half = pow(2, -1, attacker.t)
    secret = attacker.random.randrange(1, 500_000)
    question = attacker.question([0] * WIDE.slots, math.prod(WIDE.data_primes) // attacker.t // 2)

    victim = naive_answer(ring, question, [secret], attacker.random, flood_bits)
    u = doubled_phase(attacker, victim, WIDE.data_primes)
    candidates, misses = ranked(attacker, [w & 1 for w in u[:COEFFICIENTS]])
    first = attacker.slots_of(u)[0]
    implied = [-((first * pow(int(r), -1, attacker.t) - 1) * half) % attacker.t for r in candidates[:2]]
    assert list(misses[:2]) == [0, 0]
    assert misses[2] > 5  # of over a million candidates two are left, and the secret is that of one of them
    assert secret in implied

    # Ours: whatever the points, the parities are those of the public weight, so none of them separates from another.
    seen = set()
    for _ in range(3):
        points = [attacker.random.randrange(-500_000, 500_000) for _ in range(WIDE.slots)]
        u = doubled_phase(attacker, ours(ring, attacker, question, points), REMAINING)
        seen.add(tuple(w & 1 for w in u[:COEFFICIENTS]))
    assert seen == {tuple([WEIGHT & 1] + [0] * (COEFFICIENTS - 1))}


KINDS: dict[str, Model] = {
    "scorecard": CARD,
    "linear": Linear(features=(Feature(name="x", weight=WEIGHT * MILLION, low=0, high=100),)),
    "network": Network(
        features=(Input(name="x", low=-1, high=1),),
        neurons=(Neuron(weights=(2 * MILLION,), bias=MILLION, output=MILLION),),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bits", [0, 30, 50])
def test_a_spoilt_question_to_the_endpoint_tells_the_points_and_nothing_that_depends_on_them(
    kind: str, bits: int
) -> None:
    """Every model, the real parameters and the real message: two answers to one spoilt question differ by exactly the
    difference of the points, in every slot. A product with points would differ by 2^bits times them."""
    model = KINDS[kind]
    ring, bench, rng = ring_of(model.parameters), Workbench(), random.Random(bits)
    keys, slots = Keys(ring), model.parameters.slots
    primes, degree = model.parameters.data_primes, model.parameters.degree
    words = unpack(keys.encrypt([0] * slots), 2, degree, primes)
    for limb, prime in enumerate(primes):
        words[limb * degree] = (int(words[limb * degree]) + 2**bits) % prime
    question = pack(words, 2, degree, primes)
    answers, points = [], []
    for _ in range(2):
        points.append([rng.randrange(-1_000, 1_000) for _ in range(slots)])
        request = keys.public + question + struct.pack(f"<{slots}q", *points[-1])
        answers.append(keys.open(score(model, slots, request, bench), bench))
    allowed = 0 if ring.is_bfv else 1e-4
    for one, other, mine, theirs in zip(*answers, *points, strict=True):
        assert abs((one - other) - (mine - theirs) / (1 if ring.is_bfv else model.unit)) <= allowed


def test_two_answers_to_one_question_are_not_the_same_bytes() -> None:
    """Each carries a fresh encryption of nothing, also from workers that were forked from the same process."""
    ring, bench = ring_of(SCORECARD), Workbench()
    keys, slots = Keys(ring), SCORECARD.slots
    request = keys.public + keys.encrypt([1] * slots) + bytes(8 * slots)
    answers = [score(CARD, slots, request, bench) for _ in range(3)]
    assert all(one != other for one, other in pairwise(answers))


def test_the_sets_of_the_endpoint_are_the_ones_that_were_attacked() -> None:
    assert {model.parameters.name for model in KINDS.values()} == {SCORECARD.name, LINEAR.name, NETWORK.name}
