"""What a private lookup draws at random is drawn as it says: errors, questions, places and fillers.

Each alarm is raised on sound code with probability 1e-6 at most, by bounds that hold for every number of draws:
Dvoretzky, Kiefer, Wolfowitz with Massart's constant (1990) for a distribution function; Chernoff and Hoeffding (1963),
P[n·KL(p̂‖p) ≥ t] ≤ 2e^-t, for the frequency of one value, shared out over the values. Beside each stands a broken
sampler that is caught.
"""

from __future__ import annotations

import math
from decimal import Decimal

import numpy as np
import pytest

from enclave_runner.private.matrix import place, shape_of
from sandbox.client import lookup
from tests.support.lookups import random_records

FALSE_ALARM = 1e-6
DRAWS = 2_000_000
REACH = 24  # values beyond ±24 are one value: expected 370 times


def probabilities(sigma: float = 6.4) -> np.ndarray:
    """P[X = x] for x from -100 to 100, in plain floats."""
    weights = np.exp(-(np.arange(-100.0, 101.0) ** 2) / (2 * sigma**2))
    return weights / weights.sum()


def alarms(counts: np.ndarray, expected: np.ndarray) -> bool:
    """Whether any of the frequencies is too unlikely (Chernoff and Hoeffding, shared out)."""
    draws = counts.sum()
    seen = counts / draws
    with np.errstate(divide="ignore", invalid="ignore"):
        first = np.where(seen > 0, seen * np.log(seen / expected), 0.0)
        second = np.where(seen < 1, (1 - seen) * np.log((1 - seen) / (1 - expected)), 0.0)
    return bool((draws * (first + second)).max() >= math.log(2 * len(counts) / FALSE_ALARM))


def folded(values: np.ndarray) -> np.ndarray:
    """How often each value from -REACH to REACH was drawn, and how often one beyond."""
    inside = np.bincount(values[np.abs(values) <= REACH] + REACH, minlength=2 * REACH + 1)
    return np.append(inside, (np.abs(values) > REACH).sum())


def folded_probabilities() -> np.ndarray:
    inside = probabilities()[100 - REACH : 101 + REACH]
    return np.append(inside, 1 - inside.sum())


def furthest(values: np.ndarray) -> float:
    """The largest distance of the two distribution functions."""
    counted = np.bincount(np.clip(values, -100, 100) + 100, minlength=201).cumsum() / len(values)
    return float(np.abs(counted - probabilities().cumsum()).max())


def with_deviation(sigma: str, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(lookup, "SIGMA", sigma)
    mask = 2**63 - 1
    patch.setattr(lookup, "_THRESHOLDS", [(np.uint64(cut >> 63), np.uint64(cut & mask)) for cut in lookup.thresholds()])


def test_errors_follow_the_discrete_gaussian() -> None:
    values = lookup.gaussian(DRAWS)
    assert furthest(values) < math.sqrt(math.log(2 / FALSE_ALARM) / (2 * DRAWS))
    assert not alarms(folded(values), folded_probabilities())


@pytest.mark.parametrize("sigma", ["6.2", "6.6"])
def test_a_deviation_that_is_off_by_three_hundredths_is_caught(sigma: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with_deviation(sigma, monkeypatch)
    assert float(Decimal(sigma)) != 6.4
    assert alarms(folded(lookup.gaussian(DRAWS)), folded_probabilities())


def test_neighbouring_errors_are_independent() -> None:
    """Signs and sizes of two that follow each other, in nine cells; then the same with one sign for both."""

    def cells(values: np.ndarray) -> np.ndarray:
        kinds = np.where(values < -3, 0, np.where(values > 3, 2, 1)).reshape(-1, 2)
        return np.bincount(3 * kinds[:, 0] + kinds[:, 1], minlength=9)

    outer = probabilities()[:97].sum()
    single = np.array([outer, 1 - 2 * outer, outer])
    values = lookup.gaussian(DRAWS)
    assert not alarms(cells(values), np.outer(single, single).ravel())
    values[::2] = np.abs(values[::2]) * np.sign(values[1::2])
    assert alarms(cells(values), np.outer(single, single).ravel())


def test_every_byte_of_a_question_is_uniform_also_at_the_column_asked_for() -> None:
    """What LWE promises of all of it, seen in the bytes of single words. Without A·s the high bytes give it away."""
    rounds = 400
    questions = [np.frombuffer(lookup.ask(bytes(16), 64, 5)[1], np.uint8).reshape(64, 4) for _ in range(rounds)]
    words = np.array(questions)
    for cells in (words.ravel(), words[:, 5].ravel(), words[:, :, 3].ravel()):
        assert not alarms(np.bincount(cells, minlength=256), np.full(256, 1 / 256))
    bare = (lookup.gaussian(64 * rounds).astype(np.uint32) >> np.uint32(24)).astype(np.uint8)
    assert alarms(np.bincount(bare, minlength=256), np.full(256, 1 / 256))


def test_entries_stand_at_uniform_places_and_fillers_are_uniform_bytes() -> None:
    """Where the only record of a column of 128 places lands; and that the first place is no likelier than the last."""
    record = random_records(1)
    shape = shape_of(1, 1024)
    places, fillers = [], np.zeros(256, np.int64)
    for _ in range(20_000):
        column = place(record, shape).matrix[:, 0]
        slot = column.tobytes().find(record["entry"][0].tobytes()) // 16
        places.append(slot)
        fillers += np.bincount(np.delete(column, np.s_[16 * slot : 16 * slot + 16]), minlength=256)
    assert not alarms(np.bincount(places, minlength=128), np.full(128, 1 / 128))
    assert not alarms(fillers, np.full(256, 1 / 256))
    assert alarms(np.bincount(np.minimum(places, 120), minlength=128), np.full(128, 1 / 128))
