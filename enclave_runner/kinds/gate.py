"""The output gate: a second jail, without data, that reads what a worker said and says it again in canonical form.

The first worker may have been taken over, by a model or by a defect in an engine. Its bytes are parsed here and nowhere
else; what comes out is one of a few closed types, with numbers and names inside their limits, or nothing.
"""

from __future__ import annotations

import os

from enclave_runner.contract.codec import decode
from enclave_runner.kinds.tasks import MAX_FACT, Declined, IntakeAnswer, ProbeReport, TaskAnswer, Vectors

MAX_INTEGER = 1 << 62
MAX_VECTORS, MAX_CELLS = 64, 1 << 20
MAX_REJECTIONS, MAX_NAME, MAX_FACTS = 1000, 128, 8


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


def _is_name(text: str) -> bool:
    return len(text) <= MAX_NAME and text.isprintable()


def _is_fact(text: str) -> bool:
    return len(text) <= MAX_FACT and text.isprintable()


def _require(holds: bool) -> None:
    if not holds:
        raise ImproperAnswerError
