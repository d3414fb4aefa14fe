"""The output gate of this zygote: reads another worker's answer, which may be hostile, and says it again or not at
all."""

from __future__ import annotations

import os

from enclave_runner.contract.codec import decode
from enclave_runner.contract.protocols.lattice import MAX_COLUMNS
from enclave_runner.kinds.gate import MAX_FACTS, MAX_NAME, ImproperAnswerError
from enclave_runner.kinds.tasks import MAX_FACT, Declined, ProbeReport
from enclave_runner.private.tasks import Assembled, Tabulated, TaskAnswer

MAX_ROWS, MAX_HEIGHT = 1 << 40, 1 << 16


def run(descriptors: list[int]) -> TaskAnswer:
    """The vetted answer.

    Raises:
        ImproperAnswerError, Refused: it is none that an honest worker gives.
    """
    size = os.fstat(descriptors[0]).st_size
    answer: TaskAnswer = decode(os.pread(descriptors[0], size, 0), TaskAnswer)  # type: ignore[arg-type]
    match answer:
        case Tabulated():
            _require(0 <= answer.records <= answer.rows <= MAX_ROWS)
        case Assembled():
            _require(0 < answer.height <= MAX_HEIGHT and 0 < answer.bucket_columns <= answer.columns <= MAX_COLUMNS)
            _require(answer.columns % answer.bucket_columns == 0 and 0 <= answer.k <= MAX_ROWS)
        case Declined():
            _require(_is_text(answer.rule, MAX_NAME) and len(answer.facts) <= MAX_FACTS)
            _require(all(_is_text(k, MAX_NAME) and _is_text(v, MAX_FACT) for k, v in answer.facts.items()))
        case ProbeReport():
            raise ImproperAnswerError  # full of texts, and only the self-test asks for one, of a worker without data
    return answer


def _is_text(text: str, length: int) -> bool:
    return len(text) <= length and text.isprintable()


def _require(holds: bool) -> None:
    if not holds:
        raise ImproperAnswerError
