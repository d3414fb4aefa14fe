"""The business's half of encrypted scoring (P5): its features leave encrypted, its key does not leave at all.

Needs the extra `he`. Every question has a key pair of its own, which opens one answer and is forgotten with it: an
answer that was made to probe the key has nothing left to probe. What `read` says, refusals included, must not go back
to the platform (Li and Micciancio, Eurocrypt 2021: decrypted CKKS values tell about the key).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from enclave_runner.contract.call import MAX_ASKED, ScoreAnswer, ScoreAsk
from enclave_runner.contract.ciphertext import Keys, Workbench, ring_of
from enclave_runner.contract.encryption import require_length
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.scoring import Link, ScoreCheck

TOLERANCE = 1e-3  # of a CKKS score: ten times the error that its model may have


@dataclass(frozen=True)
class Score:
    """The score of one subject: whole where points are, and its probability under a logistic model.

    `points` are the platform's share, in points; 0 and not `known` for a subject that it has nothing about.
    """

    subject: str
    score: float
    points: float
    known: bool
    probability: float | None


def most_subjects(check: ScoreCheck) -> int:
    """How many subjects one call can ask about."""
    return min(MAX_ASKED, check.model.parameters.most_subjects(len(check.model.names)))


class ScoreQuestion:
    """One call: its encrypted features under a key made for it, and the key to its answer.

    Args:
        features: for each feature of the model one number for each subject, in the order of `subjects`.

    Raises:
        Refused: `scoring.batch` for no subject or too many, `scoring.features` when a column is missing, unknown, or of
            another length, `scoring.range` for a number that the model does not declare (it would wrap in silence), or
            that is not whole where the model counts in whole numbers.
        Failed: `scoring.parameters` when the installed SEAL is another one.
    """

    def __init__(self, check: ScoreCheck, subjects: Sequence[str], features: Mapping[str, Sequence[float]]) -> None:
        if not 0 < len(subjects) <= most_subjects(check):
            raise Refused("scoring.batch", count=len(subjects), most=most_subjects(check))
        self._check, self._subjects = check, tuple(subjects)
        columns = check_features(check, len(subjects), features)
        self._rows = list(zip(*columns, strict=True))
        self._ring = ring_of(check.model.parameters)
        self._keys = Keys(self._ring)
        self.ask = ScoreAsk(
            subjects=self._subjects, key=self._keys.public, features=tuple(map(self._encrypted, columns))
        )

    def read(self, answer: ScoreAnswer) -> tuple[Score, ...]:
        """Decrypt the answer to this question. Only what an honest platform can answer is given.

        Raises:
            Refused: `scoring.answer` for another length, for noise in place of a score, and for a score that these
                features and the platform's terms cannot make together.
        """
        bench = Workbench()
        try:
            opened = self._opened(answer, bench)
        except Refused:
            raise Refused("scoring.answer") from None
        finally:
            bench.close()
        count, model = len(self._subjects), self._check.model
        spare = len(opened) - count
        self._points(opened[count:], [model.computed([0] * len(model.names))] * spare, [False] * spare)
        points = self._points(opened[:count], list(map(model.computed, self._rows)), answer.known)
        numbered = zip(self._subjects, opened, points, answer.known, strict=False)
        return tuple(self._score(subject, score, added, known) for subject, score, added, known in numbered)

    def _encrypted(self, column: Sequence[float]) -> bytes:
        slots = self._ring.parameters.slots
        batches = [column[start : start + slots] for start in range(0, len(column), slots)]
        return b"".join(self._keys.encrypt([*batch, *[0] * (slots - len(batch))]) for batch in batches)

    def _opened(self, answer: ScoreAnswer, bench: Workbench) -> list[float]:
        """The number in every slot, unused ones too."""
        parameters = self._ring.parameters
        each, batches = parameters.answer_bytes, parameters.batches(len(self._subjects))
        require_length("scores", len(answer.scores), batches * each)
        require_length("known", len(answer.known), len(self._subjects))
        parts = [answer.scores[start : start + each] for start in range(0, len(answer.scores), each)]
        return [number for part in parts for number in self._keys.open(part, bench)]

    def _points(self, scores: Sequence[float], own: Sequence[float], known: Sequence[bool]) -> list[float]:
        """The platform's share of each score, which must lie in the range of its terms; none of an unknown subject."""
        (low, high), unit, is_exact = self._check.points, self._check.model.unit, self._ring.is_bfv
        slack, factor, points = (0.0, 1, []) if is_exact else (TOLERANCE * unit, unit, [])
        for score, mine, is_known in zip(scores, own, known, strict=True):
            added = score * factor - mine
            least, most = (low, high) if is_known else (0, 0)
            if not least - slack <= added <= most + slack:
                raise Refused("scoring.answer")
            points.append(added)
        return points

    def _score(self, subject: str, opened: float, points: float, known: bool) -> Score:
        model = self._check.model
        score = opened / model.unit if self._ring.is_bfv and model.unit > 1 else opened
        return Score(
            subject=subject,
            score=score,
            points=points,
            known=known,
            probability=_logistic(score) if model.link is Link.LOGISTIC else None,
        )


def check_features(check: ScoreCheck, count: int, features: Mapping[str, Sequence[float]]) -> list[Sequence[float]]:
    """The columns in the model's order; raises as `ScoreQuestion`, for any number of subjects."""
    names = check.model.names
    if set(features) != set(names) or any(len(column) != count for column in features.values()):
        raise Refused("scoring.features", names=", ".join(names), count=count)
    whole = check.model.parameters.plain_modulus > 0
    for name, (low, high) in zip(names, check.model.domains, strict=True):
        if not all(low <= number <= high and (not whole or number == int(number)) for number in features[name]):
            raise Refused("scoring.range", feature=name, low=low, high=high)
    return [list(map(int, features[name])) if whole else list(features[name]) for name in names]


def _logistic(score: float) -> float:
    """1 / (1 + exp(-score)), without overflow."""
    if score >= 0:
        return 1 / (1 + math.exp(-score))
    odds = math.exp(score)
    return odds / (1 + odds)
