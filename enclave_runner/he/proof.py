"""What must hold of a parameter set before anything is scored with it, measured at every start with the installed SEAL.

An exhausted noise budget and a lost scale decrypt to plausible numbers without any error, so they are looked for here:
with models as heavy as `contract.scoring` lets through, at the ends of their ranges, under keys that are forgotten.
"""

from __future__ import annotations

import struct
from itertools import cycle, islice

from enclave_runner.contract.ciphertext import Keys, Workbench, ring_of
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.scoring import (
    MAX_ERROR,
    MAX_FEATURES,
    MAX_WEIGHTS,
    MILLION,
    Feature,
    Input,
    Linear,
    Model,
    Network,
    Neuron,
    Scorecard,
)
from enclave_runner.he.scoring import score

MIN_BUDGET = 3  # bits that an answer must still have: its noise is then an eighth of what decrypts wrong
HEAVIEST = MAX_WEIGHTS // MAX_FEATURES
MODELS: tuple[Model, ...] = (
    Scorecard(
        features=tuple(
            Feature(name=f"x{i}", weight=HEAVIEST * (-1) ** i, low=-127, high=127) for i in range(MAX_FEATURES)
        )
    ),
    Linear(features=tuple(Feature(name=f"x{i}", weight=2000 * MILLION, low=-10, high=10) for i in range(2))),
    Network(
        features=(Input(name="x0", low=-10, high=10), Input(name="x1", low=-10, high=10)),
        neurons=(
            Neuron(weights=(MILLION, 2 * MILLION), bias=MILLION, output=MILLION),
            Neuron(weights=(-MILLION, MILLION), bias=-MILLION, output=-2 * MILLION),
        ),
    ),
)


def prepare() -> None:
    """What the zygote does before the first fork: make the contexts, and prove every parameter set with its model.

    Raises:
        Failed: `scoring.parameters` when SEAL does not take a set or reads another version's objects,
            `scoring.budget` when an answer has too little noise budget, `scoring.error` when a score is wrong.
    """
    for model in MODELS:
        prove(model)


def prove(model: Model) -> None:
    """Score both ends of the model's range, with points, and compare."""
    ring = ring_of(model.parameters)
    slots, keys, bench = ring.parameters.slots, Keys(ring), Workbench()
    rows = [[low for low, _ in model.domains], [high for _, high in model.domains], [0] * len(model.domains)]
    columns = [list(islice(cycle(column), slots)) for column in zip(*rows, strict=True)]
    points = list(islice(cycle((5, -7)), slots))
    request = keys.public + b"".join(keys.encrypt(column) for column in columns) + struct.pack(f"<{slots}q", *points)
    try:
        answer = score(model, slots, request, bench)
        scores = keys.open(answer, bench)
        budget = keys.budget(ring.read_answer(answer, bench))
    except Refused:
        raise Failed("scoring.parameters") from None
    finally:
        bench.close()
    if ring.is_bfv and budget < MIN_BUDGET:
        raise Failed("scoring.budget")
    expected = [model.computed(row) for row in rows]
    allowed = 0.0 if ring.is_bfv else MAX_ERROR
    unit = 1 if ring.is_bfv else model.unit
    pairs = zip(scores, cycle(expected), points, strict=False)
    if any(abs(got - (want + added) / unit) > allowed for got, want, added in pairs):
        raise Failed("scoring.error")
