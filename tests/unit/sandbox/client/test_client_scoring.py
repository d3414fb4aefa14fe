"""The business's half of encrypted scoring: what it sends is checked first, and no answer but an honest one is read."""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence

import pytest

from enclave_runner.contract.call import ScoreAnswer, ScoreAsk
from enclave_runner.contract.ciphertext import Keys, Workbench, ring_of
from enclave_runner.contract.codec import MAX_MESSAGE_BYTES, decode, encode
from enclave_runner.contract.errors import Refused
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
from enclave_runner.he.scoring import score
from sandbox.client.scoring import ScoreQuestion, most_subjects
from tests.support.descriptors import open_kinds

TERMS = (Term(column="paid", weight=3, low=0, high=20), Term(column="late", weight=-5, low=0, high=4))
CARD = Scorecard(
    features=(Feature(name="age", weight=2, low=18, high=99), Feature(name="staff", weight=-1, low=0, high=5000)),
    intercept=40,
)
LOGISTIC = Linear(
    features=(Feature(name="age", weight=MILLION // 50, low=18, high=99),), intercept=-MILLION, link=Link.LOGISTIC
)
NETWORK = Network(
    features=(Input(name="age", low=18, high=99), Input(name="ratio", low=-1, high=1)),
    neurons=(Neuron(weights=(MILLION // 100, MILLION), bias=MILLION, output=MILLION),),
)
SUBJECTS = ("甲", "乙", "丙")


def check_of(model: Model) -> ScoreCheck:
    return ScoreCheck(dataset_id="tax", model=model, terms=TERMS)


@pytest.fixture
def bench() -> Iterator[Workbench]:
    bench = Workbench()
    yield bench
    bench.close()


def platform(model: Model, ask: ScoreAsk, points: Sequence[int], bench: Workbench) -> bytes:
    packed = struct.pack(f"<{len(points)}q", *points)
    return score(model, len(ask.subjects), b"".join((ask.key, *ask.features, packed)), bench)


def test_a_scorecard_is_read_exactly(bench: Workbench) -> None:
    question = ScoreQuestion(check_of(CARD), SUBJECTS, {"staff": [10, 0, 5000], "age": [18, 99, 50]})
    assert question.ask.subjects == SUBJECTS
    scores = platform(CARD, question.ask, [60, -20, 0], bench)
    read = question.read(ScoreAnswer(scores=scores, known=(True, True, False)))
    assert [(s.subject, s.score, s.points, s.known, s.probability) for s in read] == [
        ("甲", 40 + 36 - 10 + 60, 60, True, None),
        ("乙", 40 + 198 - 20, -20, True, None),
        ("丙", 40 + 100 - 5000, 0, False, None),
    ]
    assert all(isinstance(s.score, int) for s in read)


def test_a_logistic_model_says_a_probability(bench: Workbench) -> None:
    question = ScoreQuestion(check_of(LOGISTIC), SUBJECTS, {"age": [20.5, 50, 99]})
    scores = platform(LOGISTIC, question.ask, [0, 7, -20], bench)
    for read, age, points in zip(
        question.read(ScoreAnswer(scores=scores, known=(True,) * 3)), (20.5, 50, 99), (0, 7, -20), strict=True
    ):
        logit = -1 + age / 50 + points / MILLION
        assert abs(read.score - logit) < 1e-4
        assert read.probability is not None
        assert abs(read.probability - 1 / (1 + math.exp(-logit))) < 1e-4


def test_a_logistic_scorecard_counts_in_its_own_digits(bench: Workbench) -> None:
    model = Scorecard(features=(Feature(name="age", weight=25, low=18, high=99),), scale=3, link=Link.LOGISTIC)
    question = ScoreQuestion(check_of(model), SUBJECTS, {"age": [18, 40, 99]})
    read = question.read(ScoreAnswer(scores=platform(model, question.ask, [60, 0, -20], bench), known=(True,) * 3))
    assert [s.score for s in read] == [0.51, 1.0, 2.455]
    assert read[1].probability == 1 / (1 + math.exp(-1))


def test_a_probability_does_not_overflow(bench: Workbench) -> None:
    model = Linear(features=(Feature(name="x", weight=MILLION, low=-10_000, high=10_000),), link=Link.LOGISTIC)
    question = ScoreQuestion(check_of(model), SUBJECTS, {"x": [-10_000, 0, 10_000]})
    read = question.read(ScoreAnswer(scores=platform(model, question.ask, [0] * 3, bench), known=(True,) * 3))
    assert [round(s.probability or 0, 6) for s in read] == [0, 0.5, 1]


def test_a_network_is_read_closely(bench: Workbench) -> None:
    question = ScoreQuestion(check_of(NETWORK), SUBJECTS, {"age": [20, 30, 40], "ratio": [0.5, -1, 0.25]})
    read = question.read(ScoreAnswer(scores=platform(NETWORK, question.ask, [0, 1, 2], bench), known=(True,) * 3))
    for got, age, ratio in zip(read, (20, 30, 40), (0.5, -1, 0.25), strict=True):
        assert abs(got.score - (1 + age / 100 + ratio) ** 2) < 1e-4


def test_ten_thousand_subjects_go_in_one_call(bench: Workbench) -> None:
    count = 10_000
    assert most_subjects(check_of(CARD)) == count
    rng = random.Random(1)
    columns = {
        "age": [rng.randint(18, 99) for _ in range(count)],
        "staff": [rng.randint(0, 5000) for _ in range(count)],
    }
    question = ScoreQuestion(check_of(CARD), [f"s{i}" for i in range(count)], columns)
    assert len(encode(question.ask)) < MAX_MESSAGE_BYTES
    assert decode(encode(question.ask), ScoreAsk) == question.ask
    points = [rng.randint(-20, 60) for _ in range(count)]
    read = question.read(ScoreAnswer(scores=platform(CARD, question.ask, points, bench), known=(True,) * count))
    assert [s.points for s in read] == points


@pytest.mark.parametrize(
    ("features", "rule"),
    [
        ({"age": [20] * 3}, "scoring.features"),
        ({"age": [20] * 3, "staff": [1] * 3, "more": [1] * 3}, "scoring.features"),
        ({"age": [20] * 3, "staff": [1] * 2}, "scoring.features"),
        ({"age": [20] * 3, "staff": [1] * 4}, "scoring.features"),
        ({"age": [20, 20, 17], "staff": [1] * 3}, "scoring.range"),
        ({"age": [20, 20, 100], "staff": [1] * 3}, "scoring.range"),
        ({"age": [20, 20, 10**30], "staff": [1] * 3}, "scoring.range"),
        ({"age": [20, 20, 20.5], "staff": [1] * 3}, "scoring.range"),
        ({"age": [20, 20, math.nan], "staff": [1] * 3}, "scoring.range"),
        ({"age": [20, 20, math.inf], "staff": [1] * 3}, "scoring.range"),
    ],
)
def test_what_would_wrap_or_truncate_is_refused_before_it_is_encoded(
    features: Mapping[str, Sequence[float]], rule: str
) -> None:
    with pytest.raises(Refused) as refusal:
        ScoreQuestion(check_of(CARD), SUBJECTS, features)
    assert refusal.value.rule == rule


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 99.1, 17.9])
def test_numbers_of_a_real_model_are_checked_too(bad: float) -> None:
    with pytest.raises(Refused, match=r"scoring\.range"):
        ScoreQuestion(check_of(LOGISTIC), SUBJECTS, {"age": [20, bad, 20]})


@pytest.mark.parametrize("count", [0, 10_001])
def test_too_many_subjects_and_none_are_refused(count: int) -> None:
    columns = {"age": [20] * count, "staff": [1] * count}
    with pytest.raises(Refused, match=r"scoring\.batch"):
        ScoreQuestion(check_of(CARD), [f"s{i}" for i in range(count)], columns)


@pytest.fixture(scope="module")
def exchange() -> tuple[ScoreQuestion, ScoreAnswer]:
    question = ScoreQuestion(check_of(CARD), SUBJECTS, {"staff": [10, 0, 5000], "age": [18, 99, 50]})
    scores = platform(CARD, question.ask, [60, -20, 0], Workbench())
    return question, ScoreAnswer(scores=scores, known=(True, True, False))


def flipped(data: bytes, byte: int, bit: int) -> bytes:
    return data[:byte] + bytes([data[byte] ^ 1 << bit]) + data[byte + 1 :]


HOSTILE: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda data: b"",
    "one byte less": lambda data: data[:-1],
    "one byte more": lambda data: data + b"\0",
    "twice": lambda data: data * 2,
    "zeros": lambda data: bytes(len(data)),
    "ones": lambda data: b"\xff" * len(data),
    "noise": lambda data: random.Random(1).randbytes(len(data)),
    "its second half twice": lambda data: data[len(data) // 2 :] * 2,
    "transparent": lambda data: data[: len(data) // 2] + bytes(len(data) // 2),
    "a foreign key": lambda data: foreign(),
    "a SEAL header": lambda data: struct.pack("<HBBBBHQ", 0xA15E, 16, 4, 3, 2, 0, len(data)) + data[16:],
}


def foreign() -> bytes:
    """A well-formed answer to somebody else."""
    question = ScoreQuestion(check_of(CARD), SUBJECTS, {"staff": [10, 0, 5000], "age": [18, 99, 50]})
    return platform(CARD, question.ask, [60, -20, 0], Workbench())


@pytest.mark.parametrize("name", HOSTILE)
def test_an_answer_that_is_none_is_refused(exchange: tuple[ScoreQuestion, ScoreAnswer], name: str) -> None:
    question, answer = exchange
    with pytest.raises(Refused) as refusal:
        question.read(ScoreAnswer(scores=HOSTILE[name](answer.scores), known=answer.known))
    assert (refusal.value.rule, refusal.value.facts) == ("scoring.answer", {})
    assert [s.points for s in question.read(answer)] == [60, -20, 0]


def test_a_flipped_bit_is_an_error_and_never_a_score(exchange: tuple[ScoreQuestion, ScoreAnswer]) -> None:
    """But for bits so low that they vanish in the noise: those change nothing."""
    question, answer = exchange
    rng, refused = random.Random(5), 0
    for _ in range(60):
        scores = flipped(answer.scores, rng.randrange(len(answer.scores)), rng.randrange(8))
        try:
            read = question.read(ScoreAnswer(scores=scores, known=answer.known))
        except Refused as refusal:
            assert refusal.rule == "scoring.answer"
            refused += 1
            continue
        assert [s.points for s in read] == [60, -20, 0]
    assert refused > 40


@pytest.mark.parametrize("known", [(), (True,), (True, True, False, False), (True, True, True, True)])
def test_as_many_words_as_subjects(exchange: tuple[ScoreQuestion, ScoreAnswer], known: tuple[bool, ...]) -> None:
    question, answer = exchange
    with pytest.raises(Refused, match=r"scoring\.answer"):
        question.read(ScoreAnswer(scores=answer.scores, known=known))


@pytest.mark.parametrize("points", [[61, 0, 0], [-21, 0, 0], [0, 0, 1], [0, 0, -1], [100_000, 0, 0]])
def test_points_that_the_products_terms_cannot_make_are_refused(points: list[int], bench: Workbench) -> None:
    """The third subject is unknown: it has no points."""
    question = ScoreQuestion(check_of(CARD), SUBJECTS, {"staff": [10, 0, 5000], "age": [18, 99, 50]})
    scores = platform(CARD, question.ask, points, bench)
    with pytest.raises(Refused, match=r"scoring\.answer"):
        question.read(ScoreAnswer(scores=scores, known=(True, True, False)))


def test_something_in_an_unused_slot_is_refused(bench: Workbench) -> None:
    """The unused slots are a checksum: a platform that scores something else than was sent shows there."""
    question = ScoreQuestion(check_of(CARD), SUBJECTS, {"staff": [10, 0, 5000], "age": [18, 99, 50]})
    packed = struct.pack("<4q", 60, -20, 0, 1)
    scores = score(CARD, 4, b"".join((question.ask.key, *question.ask.features, packed)), bench)
    with pytest.raises(Refused, match=r"scoring\.answer"):
        question.read(ScoreAnswer(scores=scores, known=(True, True, False)))


def test_every_question_has_a_key_of_its_own() -> None:
    features = {"staff": [10, 0, 5000], "age": [18, 99, 50]}
    one, other = (ScoreQuestion(check_of(CARD), SUBJECTS, features).ask for _ in range(2))
    assert one.key != other.key
    assert one.features != other.features


def test_what_is_sent_shows_no_feature(bench: Workbench) -> None:
    """The ciphertext of another row has the same length, and the key of the question alone opens it."""
    low = ScoreQuestion(check_of(CARD), SUBJECTS, {"staff": [0] * 3, "age": [18] * 3}).ask
    high = ScoreQuestion(check_of(CARD), SUBJECTS, {"staff": [5000] * 3, "age": [99] * 3}).ask
    assert [len(data) for data in low.features] == [len(data) for data in high.features]
    stranger = Keys(ring_of(CARD.parameters))
    with pytest.raises(Refused):
        stranger.open(platform(CARD, high, [0] * 3, bench), bench)


def test_nothing_stays_open(bench: Workbench) -> None:
    before = open_kinds()
    question = ScoreQuestion(check_of(CARD), SUBJECTS, {"staff": [10, 0, 5000], "age": [18, 99, 50]})
    question.read(ScoreAnswer(scores=platform(CARD, question.ask, [0] * 3, bench), known=(True,) * 3))
    with pytest.raises(Refused):
        question.read(ScoreAnswer(scores=b"", known=(True,) * 3))
    assert open_kinds() == before
