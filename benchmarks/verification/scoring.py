"""Encrypted scoring beside the same sum in the clear, and beside the truth.

Every question is the client library's own, every answer the worker's own function; nothing is left out but the jail,
whose cost stands in the note.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from time import perf_counter, process_time

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import Check, interleaved
from enclave_runner.contract.call import ScoreAnswer
from enclave_runner.contract.ciphertext import Workbench
from enclave_runner.contract.scoring import (
    MILLION,
    Feature,
    Input,
    Linear,
    Link,
    Model,
    Network,
    Neuron,
    Scorecard,
    ScoreCheck,
    Term,
)
from enclave_runner.he import call
from enclave_runner.he.scoring import score
from enclave_runner.jail.launcher import Zygote
from sandbox.client.scoring import ScoreQuestion

FEATURES, BATCH, HIDDEN = 20, 4096, 8
TERMS = (Term(column="tax", weight=3, low=0, high=200), Term(column="late", weight=-25, low=0, high=12))


def scoring_checks(quick: bool = False) -> list[Check]:
    """The scorecard's cost, its exactness on a million scores, and the errors of the CKKS models."""
    rng, bench = np.random.default_rng(5), Workbench()
    try:
        return [
            _cost(rng, bench, 11 if quick else 51),
            _exactness(rng, bench, 2 if quick else 245),
            _error("P5 linear error", _linear(rng), rng, bench, 1 if quick else 5),
            _error("P5 network error", _network(rng), rng, bench, 1 if quick else 5),
        ]
    finally:
        bench.close()


def _cost(rng: np.random.Generator, bench: Workbench, rounds: int) -> Check:
    check, columns = _product(_scorecard(rng)), rng.integers(0, 100, (FEATURES, BATCH))
    points = rng.integers(*check.points, BATCH)
    began = perf_counter()
    question = _question(check, columns)
    asked = perf_counter() - began
    request = _request(question, points)
    weights = np.array([feature.weight for feature in check.model.features if isinstance(feature, Feature)])
    clear, encrypted = _processor_seconds(
        rounds, lambda: weights @ columns + points, lambda: score(check.model, BATCH, request, bench)
    )
    up, down = len(request) // BATCH, check.model.parameters.answer_bytes // BATCH
    note = (
        f"processor time; {encrypted * 1e3:.1f} ms for {BATCH} customers of {FEATURES} features, a call in its jail "
        f"{_jailed(check, question, points, rounds) * 1e3:.0f} ms, the client before it {asked * 1e3:.0f} ms; "
        f"{up} B up and {down} B down for each customer"
    )
    return Check("P5 scorecard", encrypted / clear, "×", "<= 120", "numpy's int64 product", note)


def _processor_seconds(rounds: int, *actions: Callable[[], object]) -> list[float]:
    """Median processor seconds of each action, in turn: neither waits, and whoever else is busy counts for neither."""
    times: list[list[float]] = [[] for _ in actions]
    for _ in range(rounds):
        for action, seconds in zip(actions, times, strict=True):
            start = process_time()
            action()
            seconds.append(process_time() - start)
    return [median(seconds) for seconds in times]


def _jailed(check: ScoreCheck, question: ScoreQuestion, points: NDArray[np.int64], rounds: int) -> float:
    with Zygote("enclave_runner.private") as zygote:
        packed = points.astype("<i8").tobytes()
        return interleaved(rounds, lambda: call.score(zygote, call.PROFILE, check, question.ask, packed))[0]


def _exactness(rng: np.random.Generator, bench: Workbench, batches: int) -> Check:
    """Random models, features and points: as many wrong scores as there are."""
    wrong = 0
    for _ in range(batches):
        check, columns = _product(_scorecard(rng)), rng.integers(0, 100, (FEATURES, BATCH))
        points = rng.integers(*check.points, BATCH)
        scores = _asked(check, columns, points, bench)
        weights = np.array([feature.weight for feature in check.model.features if isinstance(feature, Feature)])
        wrong += int(np.sum(scores != weights @ columns + points + check.model.intercept))
    note = f"of {batches * BATCH} random scores"
    return Check("P5 wrong scores", float(wrong), "", "<= 0", "numpy's int64 product", note)


def _error(name: str, model: Linear | Network, rng: np.random.Generator, bench: Workbench, batches: int) -> Check:
    check, worst = _product(model), 0.0
    for _ in range(batches):
        columns = rng.uniform(-3, 3, (FEATURES, BATCH))
        points = rng.integers(*check.points, BATCH)
        true = np.array([model.computed(row) for row in columns.T]) / MILLION + points / MILLION
        worst = max(worst, float(np.max(np.abs(_asked(check, columns, points, bench) - true))))
    note = f"largest of {batches * BATCH} scores; {model.error:.1e} is what the model promises"
    return Check(name, worst, "", "<= 1e-4", "float64", note)


def _asked(check: ScoreCheck, columns: NDArray, points: NDArray, bench: Workbench) -> NDArray:  # type: ignore[type-arg]
    """One whole exchange: the decrypted scores."""
    question = _question(check, columns)
    scores = score(check.model, BATCH, _request(question, points), bench)
    return np.array([read.score for read in question.read(ScoreAnswer(scores=scores, known=(True,) * BATCH))])


def _question(check: ScoreCheck, columns: NDArray) -> ScoreQuestion:  # type: ignore[type-arg]
    features = {name: column.tolist() for name, column in zip(check.model.names, columns, strict=True)}
    return ScoreQuestion(check, [f"s{number}" for number in range(BATCH)], features)


def _request(question: ScoreQuestion, points: NDArray[np.int64]) -> bytes:
    return b"".join((question.ask.key, *question.ask.features, points.astype("<i8").tobytes()))


def _product(model: Model) -> ScoreCheck:
    return ScoreCheck(dataset_id="tax", model=model, terms=TERMS)


def _signed(rng: np.random.Generator, most: int) -> int:
    return int(rng.integers(1, most + 1) * rng.choice((-1, 1)))


def _scorecard(rng: np.random.Generator) -> Scorecard:
    features = tuple(Feature(name=f"x{i}", weight=_signed(rng, 200), low=0, high=99) for i in range(FEATURES))
    return Scorecard(features=features, intercept=600)


def _linear(rng: np.random.Generator) -> Linear:
    features = tuple(Feature(name=f"x{i}", weight=_signed(rng, 2 * MILLION), low=-3, high=3) for i in range(FEATURES))
    return Linear(features=features, intercept=-MILLION, link=Link.LOGISTIC)


def _network(rng: np.random.Generator) -> Network:
    neurons = tuple(
        Neuron(
            weights=tuple(_signed(rng, MILLION // 4) for _ in range(FEATURES)),
            bias=_signed(rng, MILLION),
            output=_signed(rng, MILLION // 4),
        )
        for _ in range(HIDDEN)
    )
    return Network(features=tuple(Input(name=f"x{i}", low=-3, high=3) for i in range(FEATURES)), neurons=neurons)
