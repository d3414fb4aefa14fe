"""The scoring of one request: exact where it must be, close where it may be, and the same steps whatever the points."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Iterator, Sequence
from itertools import product

import pytest

from enclave_runner.contract.ciphertext import Keys, Workbench, ring_of
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.scoring import (
    MAX_ERROR,
    MILLION,
    Feature,
    Input,
    Linear,
    Model,
    Network,
    Neuron,
    Scorecard,
)
from enclave_runner.he.scoring import run, score
from enclave_runner.he.tasks import Scored, Scoring
from enclave_runner.kinds.tasks import Declined
from tests.support.descriptors import open_kinds

RNG = random.Random(7)
CARD = Scorecard(
    features=tuple(Feature(name=f"x{i}", weight=RNG.choice((-1, 1)) * (i + 1), low=-50, high=50) for i in range(4)),
    intercept=-600,
)
LINEAR = Linear(
    features=tuple(
        Feature(name=f"x{i}", weight=RNG.randint(1, 9 * MILLION) * (-1) ** i, low=-3, high=3) for i in range(4)
    ),
    intercept=12_345,
)
NETWORK = Network(
    features=tuple(Input(name=f"x{i}", low=-2, high=2) for i in range(3)),
    neurons=tuple(
        Neuron(
            weights=tuple(RNG.randint(1, MILLION) for _ in range(3)),
            bias=RNG.randint(-MILLION, MILLION),
            output=RNG.randint(1, MILLION) * (-1) ** k,
        )
        for k in range(4)
    ),
    intercept=-77,
)
MODELS: dict[str, Model] = {"scorecard": CARD, "linear": LINEAR, "network": NETWORK}


@pytest.fixture
def bench() -> Iterator[Workbench]:
    bench = Workbench()
    yield bench
    bench.close()


def rows_of(model: Model, count: int, seed: int) -> list[list[float]]:
    rng = random.Random(seed)
    draw = rng.randint if isinstance(model, Scorecard) else rng.uniform
    return [[draw(low, high) for low, high in model.domains] for _ in range(count)]


def request_of(keys: Keys, model: Model, rows: Sequence[Sequence[float]], points: Sequence[int]) -> bytes:
    slots, parts = model.parameters.slots, [keys.public]
    for column in zip(*rows, strict=True):
        for start in range(0, len(rows), slots):
            batch = column[start : start + slots]
            parts.append(keys.encrypt([*batch, *[0] * (slots - len(batch))]))
    return b"".join([*parts, struct.pack(f"<{len(points)}q", *points)])


def opened(keys: Keys, model: Model, answer: bytes, bench: Workbench) -> list[float]:
    each = model.parameters.answer_bytes
    return [n for at in range(0, len(answer), each) for n in keys.open(answer[at : at + each], bench)]


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("count", [1, 5, 5000])
def test_scores_are_those_of_the_model_and_the_points(kind: str, count: int, bench: Workbench) -> None:
    model = MODELS[kind]
    keys, rows = Keys(ring_of(model.parameters)), rows_of(model, count, count)
    points = [random.Random(count).randint(-9, 9) for _ in range(count)]
    answer = score(model, count, request_of(keys, model, rows, points), bench)
    assert len(answer) == model.parameters.batches(count) * model.parameters.answer_bytes
    scores = opened(keys, model, answer, bench)
    unit = 1 if model is CARD else MILLION
    allowed = 0 if model is CARD else MAX_ERROR
    for got, row, added in zip(scores, rows, points, strict=False):
        assert abs(got - (model.computed(row) + added) / unit) <= allowed
    idle = model.computed([0] * len(model.names)) / unit
    assert all(abs(got - idle) <= allowed for got in scores[count:])


@pytest.mark.parametrize("kind", MODELS)
def test_the_ends_of_the_range_do_not_wrap(kind: str, bench: Workbench) -> None:
    model = MODELS[kind]
    keys, unit = Keys(ring_of(model.parameters)), 1 if model is CARD else MILLION
    rows = list(product(*model.domains))
    answer = score(model, len(rows), request_of(keys, model, rows, [0] * len(rows)), bench)
    for got, row in zip(opened(keys, model, answer, bench), rows, strict=False):
        assert abs(got - model.computed(row) / unit) <= (0 if model is CARD else MAX_ERROR)


def test_features_that_cancel_are_a_refusal_not_a_fault(bench: Workbench) -> None:
    """x0·1 + x1·(-1) of one ciphertext twice has no second half: SEAL raises, before any points are there."""
    model = Scorecard(
        features=(Feature(name="a", weight=1, low=0, high=9), Feature(name="b", weight=-1, low=0, high=9))
    )
    keys = Keys(ring_of(model.parameters))
    one = keys.encrypt([3] * 4096)
    for points in (0, 1, 4000):
        with pytest.raises(Refused, match=r"scoring\.ciphertext"):
            score(model, 4096, keys.public + one + one + struct.pack("<4096q", *[points] * 4096), bench)


@pytest.mark.parametrize("kind", MODELS)
def test_no_points_take_the_same_way_as_any(kind: str, bench: Workbench) -> None:
    """All zero, which SEAL could treat specially, and the features zero as well: Enc(0) is added in any case."""
    model = MODELS[kind]
    keys, slots = Keys(ring_of(model.parameters)), model.parameters.slots
    rows = [[0.0] * len(model.names)] * slots
    answer = score(model, slots, request_of(keys, model, rows, [0] * slots), bench)
    assert len(answer) == model.parameters.answer_bytes


@pytest.mark.parametrize("cut", [0, 1, 122_880, 122_881, 204_800, -1, -8])
def test_a_request_of_another_length_is_refused(cut: int, bench: Workbench) -> None:
    keys = Keys(ring_of(CARD.parameters))
    request = request_of(keys, CARD, rows_of(CARD, 3, 0), [0] * 3)
    for wrong in (request[:cut], request + bytes(1), request + bytes(81_920)):
        with pytest.raises(Refused, match=r"scoring\.length"):
            score(CARD, 3, wrong, bench)


def test_the_key_of_another_set_is_refused(bench: Workbench) -> None:
    """Right in length, and its coefficients too large for these primes."""
    keys, others = Keys(ring_of(CARD.parameters)), Keys(ring_of(LINEAR.parameters))
    request = request_of(keys, CARD, rows_of(CARD, 3, 0), [0] * 3)
    with pytest.raises(Refused, match=r"scoring\.ciphertext"):
        score(CARD, 3, others.public[: CARD.parameters.key_bytes] + request[CARD.parameters.key_bytes :], bench)


def handed(content: bytes = b"") -> int:
    descriptor = os.memfd_create("handed")
    os.write(descriptor, content)
    return descriptor


def test_a_task_leaves_its_answer_in_the_memory_that_it_was_handed(bench: Workbench) -> None:
    keys, rows = Keys(ring_of(CARD.parameters)), rows_of(CARD, 3, 1)
    before = open_kinds()
    descriptors = [handed(request_of(keys, CARD, rows, [1, 2, 3])), handed(), handed()]
    assert run(Scoring(model=CARD, subjects=3), descriptors) == Scored()
    answer = os.pread(descriptors[1], 1 << 20, 0)
    assert opened(keys, CARD, answer, bench)[:3] == [
        CARD.computed(row) + n for row, n in zip(rows, (1, 2, 3), strict=True)
    ]
    for descriptor in descriptors:
        os.close(descriptor)
    assert open_kinds() == before


def test_a_task_declines_without_a_word_of_the_request() -> None:
    keys = Keys(ring_of(CARD.parameters))
    request = request_of(keys, CARD, rows_of(CARD, 3, 1), [0] * 3)
    descriptors = [handed(bytes(len(keys.public)) + request[len(keys.public) :]), handed(), handed()]
    assert run(Scoring(model=CARD, subjects=3), descriptors) == Declined(rule="scoring.ciphertext", facts={})
    assert os.fstat(descriptors[1]).st_size == 0
    for descriptor in descriptors:
        os.close(descriptor)
