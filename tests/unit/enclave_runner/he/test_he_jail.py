"""Scoring in its one-shot jail: whatever a request does to its worker costs that request and nothing else."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

import msgspec
import pytest

from enclave_runner.contract.call import ScoreAnswer, ScoreAsk
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.scoring import Feature, Scorecard, ScoreCheck, Term
from enclave_runner.he import call
from sandbox.client.scoring import ScoreQuestion
from tests.support.descriptors import open_kinds
from tests.support.scoring_zygote import PROBES, ScoringZygote

CHECK = ScoreCheck(
    dataset_id="tax",
    model=Scorecard(features=tuple(Feature(name=f"x{i}", weight=3 * i - 10, low=0, high=99) for i in range(5))),
    terms=(Term(column="paid", weight=2, low=0, high=1000),),
)
SUBJECTS = tuple(f"s{i}" for i in range(40))
POINTS = struct.pack("<40q", *range(40))


@pytest.fixture(scope="module")
def zygote() -> Iterator[ScoringZygote]:
    with ScoringZygote() as zygote:
        yield zygote


@pytest.fixture(scope="module")
def question() -> ScoreQuestion:
    columns = {name: [random.Random(name).randint(0, 99) for _ in SUBJECTS] for name in CHECK.model.names}
    return ScoreQuestion(CHECK, SUBJECTS, columns)


def answered(zygote: ScoringZygote, question: ScoreQuestion) -> list[float]:
    scores = call.score(zygote, call.PROFILE, CHECK, question.ask, POINTS)
    read = question.read(ScoreAnswer(scores=scores, known=(True,) * len(SUBJECTS)))
    return [score.points for score in read]


def test_a_call_is_scored_in_its_jail(zygote: ScoringZygote, question: ScoreQuestion) -> None:
    assert answered(zygote, question) == list(range(40))


def test_the_control_of_the_probes_ends_nothing(zygote: ScoringZygote) -> None:
    assert zygote.run(b"nothing", [], call.PROFILE) == b"survived"


@pytest.mark.parametrize("probe", sorted(set(PROBES) - {"nothing", "endless_time"}))
def test_a_crash_costs_one_request(zygote: ScoringZygote, question: ScoreQuestion, probe: str) -> None:
    with pytest.raises(Failed, match=r"job\.limit"):  # by a signal, or by the memory that it may have
        zygote.run(probe.encode(), [], call.PROFILE)
    assert answered(zygote, question) == list(range(40))


def test_a_request_that_does_not_end_is_ended(zygote: ScoringZygote, question: ScoreQuestion) -> None:
    with pytest.raises(Failed, match=r"job\.deadline"):
        zygote.run(b"endless_time", [], call.PROFILE, wall_seconds=0.3)
    assert answered(zygote, question) == list(range(40))


def spoilt(ask: ScoreAsk, **changes: object) -> ScoreAsk:
    return msgspec.structs.replace(ask, **changes)


def test_garbage_of_the_right_length_is_refused(zygote: ScoringZygote, question: ScoreQuestion) -> None:
    ask = question.ask
    for changes in (
        {"key": b"\xff" * len(ask.key)},
        {"key": bytes(len(ask.key))},
        {"features": (b"\xff" * len(ask.features[0]), *ask.features[1:])},
        {"features": (bytes(len(ask.features[0])), *ask.features[1:])},
    ):
        with pytest.raises(Refused, match=r"scoring\.ciphertext"):
            call.score(zygote, call.PROFILE, CHECK, spoilt(ask, **changes), POINTS)


def test_another_length_is_refused_before_any_worker(question: ScoreQuestion) -> None:
    class Untouched(ScoringZygote):
        def __init__(self) -> None:
            pass

        def run(self, *_: object, **__: object) -> bytes:
            raise AssertionError("a worker was asked")

    ask = question.ask
    for changes in (
        {"key": ask.key[:-1]},
        {"key": b""},
        {"features": ask.features[:-1]},
        {"features": (*ask.features, ask.features[0])},
        {"features": (ask.features[0] + b"x", *ask.features[1:])},
        {"features": (ask.features[0] * 2, *ask.features[1:])},
        {"features": (b"", *ask.features[1:])},
        {"subjects": tuple(f"s{i}" for i in range(4097))},
    ):
        wrong = spoilt(ask, **changes)
        with pytest.raises(Refused, match=r"scoring\.length"):
            call.check_lengths(CHECK.model, len(wrong.subjects), wrong.key, wrong.features)
        with pytest.raises(Refused, match=r"scoring\.length"):
            call.score(Untouched(), call.PROFILE, CHECK, wrong, POINTS)


@pytest.mark.parametrize("points", [b"", POINTS[:-8], POINTS + bytes(8), struct.pack("<40q", -1, *range(39))])
def test_points_that_no_honest_worker_gives_are_a_fault(question: ScoreQuestion, points: bytes) -> None:
    with pytest.raises(Failed, match=r"serving\.answer"):
        call.score(ScoringZygote.__new__(ScoringZygote), call.PROFILE, CHECK, question.ask, points)


class Lying(ScoringZygote):
    """A worker that was taken over: it says what it likes and leaves what it likes."""

    def __init__(self, said: bytes, left: int) -> None:
        self._said, self._left = said, left

    def run(self, task: bytes, descriptors: list[int], *_: object, **__: object) -> bytes:
        with open(descriptors[1], "wb", closefd=False) as file:
            file.write(bytes(self._left))
        return self._said


@pytest.mark.parametrize(
    ("said", "left"),
    [
        (call.SCORED, 0),
        (call.SCORED, 40959),
        (call.SCORED, 40961),
        (call.SCORED + b" ", 40960),
        (b"", 40960),
        (b'{"type":"declined","rule":"call.limit","facts":{}}', 0),
        (b'{"type":"declined","rule":"scoring.ciphertext","facts":{"raw":"1"}}', 0),
        (b"[" * 1000, 40960),
    ],
)
def test_a_worker_that_lies_is_a_fault(question: ScoreQuestion, said: bytes, left: int) -> None:
    with pytest.raises(Failed, match=r"serving\.answer"):
        call.score(Lying(said, left), call.PROFILE, CHECK, question.ask, POINTS)


def test_a_worker_may_decline_by_its_rule(question: ScoreQuestion) -> None:
    for said, rule in call.DECLINED.items():
        with pytest.raises(Refused) as refusal:
            call.score(Lying(said, 0), call.PROFILE, CHECK, question.ask, POINTS)
        assert refusal.value.rule == rule


def test_workers_of_one_zygote_draw_different_randomness(zygote: ScoringZygote, question: ScoreQuestion) -> None:
    """Forked from the same memory, each must still hide the ciphertexts that it was given in a fresh one."""
    answers = {call.score(zygote, call.PROFILE, CHECK, question.ask, POINTS) for _ in range(4)}
    assert len(answers) == 4


def test_the_supervisor_leaves_no_descriptor_open(zygote: ScoringZygote, question: ScoreQuestion) -> None:
    answered(zygote, question)
    before = open_kinds()
    answered(zygote, question)
    with pytest.raises(Refused):
        call.score(zygote, call.PROFILE, CHECK, spoilt(question.ask, key=bytes(len(question.ask.key))), POINTS)
    assert open_kinds() == before
