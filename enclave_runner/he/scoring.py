"""One call scored, in a process that is gone afterwards: read strictly, weigh, add the points, answer.

The points are a secret, and this module cannot multiply. What a business learns is the sum; it knows its features and
the weights, so it learns the points, which are what it buys, and nothing besides: all that it sees is made of its own
message, public weights, randomness under its own key, and that sum.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import tenseal.sealapi as seal
from numpy.typing import NDArray

from enclave_runner.contract.ciphertext import Ring, Workbench, ring_of
from enclave_runner.contract.encryption import ParameterSet
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.scoring import Model
from enclave_runner.he.circuit import evaluate
from enclave_runner.he.tasks import Scored, Scoring
from enclave_runner.kinds.tasks import Declined

POINT_BYTES = 8


def run(task: Scoring, descriptors: list[int]) -> Scored | Declined:
    """Score the request of descriptor 0 into descriptor 1."""
    request = os.pread(descriptors[0], os.fstat(descriptors[0]).st_size, 0)
    bench = Workbench(descriptors[2])
    try:
        answer = score(task.model, task.subjects, request, bench)
    except Refused as refusal:
        return Declined(rule=refusal.rule, facts={})
    finally:
        bench.close()
    at = 0
    while at < len(answer):
        at += os.pwrite(descriptors[1], answer[at:], at)
    return Scored()


def score(model: Model, subjects: int, request: bytes, bench: Workbench) -> bytes:
    """The answer to one request, in the forms of `Scoring`.

    Raises:
        Refused: `scoring.length`, `scoring.ciphertext`.
    """
    ring = ring_of(model.parameters)
    batches, slots = ring.parameters.batches(subjects), ring.parameters.slots
    parts = Request(request, ring.parameters, len(model.names), subjects)
    key = ring.read_key(parts.key, bench)
    points = np.full(batches * slots, model.intercept, dtype=np.int64)
    points[:subjects] += np.frombuffer(parts.points, dtype="<i8")
    answers = []
    for batch in range(batches):
        features = [ring.read_question(data, bench) for data in parts.batch(batch)]
        total = _evaluated(ring, model, features)
        numbers = points[batch * slots : (batch + 1) * slots]
        settle(ring, total, key, numbers if ring.is_bfv else numbers / model.unit)
        answers.append(ring.write(total, ring.parameters.primes[: ring.parameters.answer_primes]))
    return b"".join(answers)


def _evaluated(ring: Ring, model: Model, features: list[Any]) -> Any:
    """The circuit's result. It holds no secret: that SEAL refuses it depends on the request and the weights alone."""
    try:
        return evaluate(ring, model, features)
    except (RuntimeError, ValueError):
        raise Refused("scoring.ciphertext") from None


def settle(ring: Ring, total: Any, key: Any, points: NDArray[Any]) -> None:
    """Add the points and a fresh encryption of nothing, and go down to the level of the answer.

    The encryption of nothing is added whatever the points are: SEAL refuses a result that shows its plaintext, and
    whether it did must not depend on them.
    """
    evaluator, zero = seal.Evaluator(ring.context), seal.Ciphertext()
    seal.Encryptor(ring.context, key).encrypt_zero(total.parms_id(), zero)
    zero.scale = total.scale
    evaluator.add_inplace(total, zero)
    evaluator.add_plain_inplace(total, ring.plain(points, total))
    if ring.is_bfv:
        evaluator.mod_switch_to_next_inplace(total)


class Request:
    """The bytes of a request, taken apart by lengths that the model fixes.

    Raises:
        Refused: `scoring.length`.
    """

    def __init__(self, data: bytes, parameters: ParameterSet, features: int, subjects: int) -> None:
        self._batches, self._each = parameters.batches(subjects), parameters.ciphertext_bytes
        ends = [parameters.key_bytes, features * self._batches * self._each, subjects * POINT_BYTES]
        if len(data) != sum(ends):
            raise Refused("scoring.length", what="request", length=len(data), expected=sum(ends))
        view = memoryview(data)
        self.key, rest = view[: ends[0]], view[ends[0] :]
        self._features, self.points = rest[: ends[1]], rest[ends[1] :]

    def batch(self, number: int) -> list[memoryview]:
        """The ciphertexts of one batch, feature by feature."""
        starts = range(number * self._each, len(self._features), self._batches * self._each)
        return [self._features[start : start + self._each] for start in starts]
