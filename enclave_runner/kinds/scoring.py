"""An ONNX model beside the data: one row at a time, so that no row's score can depend on another row.

Only the weighted histogram of scores leaves the worker. A row that the model fails on is dropped, silently: an error
would be an answer about it. Models come as bytes, with no file in sight that external data could name.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from datetime import date

import numpy as np
import onnxruntime

from enclave_runner.contract.dataset import ColumnType
from enclave_runner.kinds import rehearsal
from enclave_runner.kinds.engine import engine, load_extract
from enclave_runner.kinds.onnx_graph import UnreadableModelError, check_model
from enclave_runner.kinds.sql_gate import checked
from enclave_runner.kinds.tasks import Declined, Scoring, Trial, Vectors

Feature = tuple[str, ColumnType, int]
Cell = int | float | str | bool | date | None
Scorer = Callable[[tuple[Cell, ...]], float]
EPOCH = date(1970, 1, 1)


def try_model(task: Trial, descriptors: list[int]) -> Vectors | Declined:
    """Rehearse the SQL of its features, load the model and score one made-up row.

    Returns:
        An empty answer when it works; otherwise a refusal by `sql.engine` or `model.malformed`.
    """
    rehearsed = rehearsal.run(task.rehearsal, [])
    if isinstance(rehearsed, Declined):
        return rehearsed
    try:
        scorer = _scorer(_bytes_of(descriptors[0]), task.features, task.output)
        neutral = tuple("" if kind is ColumnType.TEXT else 0 for _, kind, _ in task.features)
        scorer(neutral)
    except UnreadableModelError as error:
        return Declined(rule="model.malformed", facts={"what": error.what})
    except Exception:
        return Declined(rule="model.malformed", facts={"what": "it does not score a row of these features"})
    return Vectors(vectors=())


def run(task: Scoring, descriptors: list[int]) -> Vectors:
    """The weighted histogram: `bins` equal bins over [low, high] thousandths, scores outside clipped into it."""
    scorer = _scorer(_bytes_of(descriptors[1]), task.features, task.output)
    low, width = task.low / 1000, (task.high - task.low) / 1000 / task.bins
    histogram = [0] * task.bins
    with engine() as connection:
        load_extract(connection, descriptors[0])
        cursor = connection.execute(checked(connection, task.sql))
        while rows := cursor.fetchmany(2048):
            for *cells, weight in rows:
                score = _score(scorer, tuple(cells))
                if score is not None:
                    position = math.floor((score - low) / width)
                    histogram[min(max(position, 0), task.bins - 1)] += weight
    return Vectors(vectors=(tuple(histogram),))


def _score(scorer: Scorer, cells: tuple[Cell, ...]) -> float | None:
    try:
        score = scorer(cells)
    except Exception:
        return None
    # An infinite score times nothing is no bin; 1e9 is far outside any range that a job can name.
    return min(max(score, -1e9), 1e9) if math.isfinite(score) else None


def _scorer(model: bytes, features: tuple[Feature, ...], output: str) -> Scorer:
    check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # Numbers below 1e-38 cost a processor twenty times the work: how long a row takes would follow from its values.
    # Of a process's sessions the first one's word counts, for the thread that made it; a worker has one of each.
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception:
        raise UnreadableModelError("it does not load") from None
    if output not in {item.name for item in session.get_outputs()}:
        raise UnreadableModelError(f"it has no output {output}")
    feed = _feed(session, features)

    def score(cells: tuple[Cell, ...]) -> float:
        value = np.asarray(session.run([output], feed(cells))[0], dtype=np.float64)
        return float(value.reshape(-1)[-1])  # of class probabilities, the last: the positive class

    return score


def _feed(
    session: onnxruntime.InferenceSession, features: tuple[Feature, ...]
) -> Callable[[tuple[Cell, ...]], dict[str, np.ndarray]]:
    """How one row becomes the model's inputs: one float tensor of all features, or one input per feature by name."""
    inputs = {item.name: item.type for item in session.get_inputs()}
    names = [name for name, _, _ in features]
    if len(inputs) == 1 and "tensor(float)" in inputs.values():
        (single,) = inputs
        return lambda cells: {
            single: np.array([[_number(c, f) for c, f in zip(cells, features, strict=True)]], dtype=np.float32)
        }
    if set(inputs) != set(names):
        raise UnreadableModelError("its inputs are not the selected columns")

    def by_name(cells: tuple[Cell, ...]) -> dict[str, np.ndarray]:
        return {
            feature[0]: _tensor(cell, feature, inputs[feature[0]])
            for cell, feature in zip(cells, features, strict=True)
        }

    return by_name


def _tensor(cell: Cell, feature: Feature, kind: str) -> np.ndarray:
    if kind == "tensor(string)":
        return np.array([["" if cell is None else str(cell)]], dtype=object)
    if kind == "tensor(int64)":
        return np.array([[int(_number(cell, feature))]], dtype=np.int64)
    return np.array([[_number(cell, feature)]], dtype=np.float64 if kind == "tensor(double)" else np.float32)


def _number(cell: Cell, feature: Feature) -> float:
    """A cell as the model sees it: numbers in their unit, dates in days, missing as NaN."""
    _, kind, scale = feature
    if cell is None:
        return math.nan
    if isinstance(cell, date):
        return float((cell - EPOCH).days)
    return float(cell) / 10**scale if kind is ColumnType.DECIMAL else float(cell)


def _bytes_of(descriptor: int) -> bytes:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)
