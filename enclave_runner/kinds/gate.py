"""The output gate: a second jail, without data, that reads what a worker said and says it again in canonical form.

The first worker may have been taken over, by a model or by a defect in an engine. Its bytes are parsed here and nowhere
else; what comes out is one of a few closed types, with numbers and names inside their limits, or nothing.
"""

from __future__ import annotations

import os

from enclave_runner.contract.codec import decode
from enclave_runner.kinds.tasks import (
    MAX_FACT,
    Declined,
    Finished,
    IntakeAnswer,
    KeyedVectors,
    ProbeReport,
    TaskAnswer,
    Vectors,
)

MAX_INTEGER = 1 << 62
MAX_VECTORS, MAX_CELLS = 64, 1 << 20
MAX_REJECTIONS, MAX_NAME, MAX_FACTS, MAX_KEY = 1000, 128, 8, 200


class ImproperAnswerError(Exception):
    """An answer that no honest worker gives."""


def run(descriptors: list[int]) -> TaskAnswer:
    """The vetted answer."""
    size = os.fstat(descriptors[0]).st_size
    answer: TaskAnswer = decode(os.pread(descriptors[0], size, 0), TaskAnswer)  # type: ignore[arg-type]
    match answer:
        case Vectors():
            _require(len(answer.vectors) <= MAX_VECTORS and sum(map(len, answer.vectors)) <= MAX_CELLS)
            _require(all(abs(cell) < MAX_INTEGER for vector in answer.vectors for cell in vector))
        case KeyedVectors():
            _check_keyed(answer)
        case Finished():
            _require(len(answer.rows) <= MAX_CELLS and len(answer.rows) == len(answer.computed))
            _require(all(0 <= row < MAX_CELLS for row in answer.rows) and len(set(map(len, answer.computed))) <= 1)
            _require(all(cell is None or _is_name(cell) for row in answer.computed for cell in row))
        case IntakeAnswer():
            _require(min(answer.accepted, answer.rejected, answer.entities) >= 0)
            _require(max(answer.accepted, answer.rejected, answer.entities) < MAX_INTEGER)
            _require(len(answer.rejections) <= min(MAX_REJECTIONS, answer.rejected))
            for item in answer.rejections:
                _require(0 < item.row < MAX_INTEGER and _is_name(item.column) and _is_name(item.rule))
        case Declined():
            _require(_is_name(answer.rule) and len(answer.facts) <= MAX_FACTS)
            _require(all(_is_name(name) and _is_fact(text) for name, text in answer.facts.items()))
        case ProbeReport():
            raise ImproperAnswerError  # full of texts, and only the self-test asks for one, of a worker without data
    return answer


def _check_keyed(answer: KeyedVectors) -> None:
    count = len(answer.keys)
    _require(len(answer.vectors) <= MAX_VECTORS and count * (len(answer.vectors) + 1) <= MAX_CELLS)
    _require(len(answer.units) == count and all(len(vector) == count for vector in answer.vectors))
    _require(all(0 <= cell < MAX_INTEGER for cell in answer.units))
    _require(all(abs(cell) < MAX_INTEGER for vector in answer.vectors for cell in vector))
    _require(len(set(answer.keys)) == count and len(set(map(len, answer.keys))) <= 1)
    _require(all(len(part) <= MAX_KEY and part.isprintable() for key in answer.keys for part in key))


def _is_name(text: str) -> bool:
    return len(text) <= MAX_NAME and text.isprintable()


def _is_fact(text: str) -> bool:
    return len(text) <= MAX_FACT and text.isprintable()


def _require(holds: bool) -> None:
    if not holds:
        raise ImproperAnswerError
