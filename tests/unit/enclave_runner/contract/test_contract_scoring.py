"""A scoring model exists only with the proof that its scores stay in range and its error stays small."""

from __future__ import annotations

import math

import pytest

from enclave_runner.contract.call import ScoreAsk
from enclave_runner.contract.codec import decode, encode
from enclave_runner.contract.encryption import LINEAR, MAX_FEATURE_BYTES, MAX_KEY_BYTES, NETWORK, SCORECARD
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

X = Feature(name="x", weight=3, low=-2, high=5)
TERM = Term(column="paid", weight=2, low=0, high=10)
NEURON = Neuron(weights=(MILLION, -2 * MILLION), bias=MILLION, output=-MILLION // 2)
INPUTS = (Input(name="a", low=-1, high=1), Input(name="b", low=0, high=2))


def card(*features: Feature, **more: int) -> Scorecard:
    return Scorecard(features=features or (X,), **more)


def linear(weight: int = MILLION, low: int = -1, high: int = 1, **more: object) -> Linear:
    return Linear(features=(Feature(name="x", weight=weight, low=low, high=high),), **more)  # type: ignore[arg-type]


def network(*neurons: Neuron, **more: object) -> Network:
    return Network(features=INPUTS, neurons=neurons or (NEURON,), **more)  # type: ignore[arg-type]


def test_the_models_survive_the_wire_and_have_a_digest_each() -> None:
    models: tuple[Model, ...] = (card(), card(scale=2, link=Link.LOGISTIC), linear(), network())
    checks = [ScoreCheck(dataset_id="tax", model=model, terms=(TERM,)) for model in models]
    assert [decode(encode(check), ScoreCheck) for check in checks] == checks
    assert len({check.model_sha256 for check in checks}) == len(checks)
    assert ScoreCheck(dataset_id="vat", model=card(), terms=(TERM,)).model_sha256 == checks[0].model_sha256


def test_what_a_scorecard_computes() -> None:
    model = card(X, Feature(name="y", weight=-1, low=0, high=1), intercept=100)
    assert (model.names, model.domains, model.unit) == (("x", "y"), ((-2, 5), (0, 1)), 1)
    assert model.range == (100 - 6 - 1, 100 + 15)
    assert model.computed([5, 1]) == 114
    assert card(scale=3).unit == 1000


def test_what_a_network_computes() -> None:
    model = network(NEURON, Neuron(weights=(MILLION, MILLION), bias=0, output=3 * MILLION), intercept=5)
    assert model.computed([1, 2]) == 5 - 500_000 * (1 + 1 - 4) ** 2 + 3_000_000 * (1 + 2) ** 2
    # 1 + a - 2b from -4 to 2, a + b from -1 to 3
    assert model.range == (5 - 500_000 * 16, 5 + 3_000_000 * 9)


@pytest.mark.parametrize("row", [(low, high) for low in (-1, 0, 1) for high in (0, 1, 2)])
def test_no_score_of_a_network_leaves_its_range(row: tuple[int, int]) -> None:
    model = network(NEURON, Neuron(weights=(MILLION, MILLION), bias=-MILLION, output=3 * MILLION), intercept=-7)
    assert model.range[0] <= model.computed(row) <= model.range[1]


def test_a_score_beyond_half_the_modulus_cannot_be_declared() -> None:
    most = SCORECARD.reach
    assert card(Feature(name="x", weight=1, low=-most, high=most)).range == (-most, most)
    for bad in (
        {"low": -most, "high": most + 1, "weight": 1},
        {"low": -most - 1, "high": most, "weight": 1},
        {"low": 0, "high": most // 2 + 1, "weight": -2},
    ):
        with pytest.raises(ValueError, match="scores of at most"):
            card(Feature(name="x", **bad))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="scores of at most"):
        card(Feature(name="x", weight=1, low=0, high=most), intercept=1)


def test_the_platforms_points_count_into_the_range() -> None:
    model = card(Feature(name="x", weight=1, low=0, high=SCORECARD.reach - 20))
    assert ScoreCheck(dataset_id="tax", model=model, terms=(TERM,)).points == (0, 20)
    with pytest.raises(ValueError, match="scores of at most"):
        ScoreCheck(dataset_id="tax", model=model, terms=(TERM, Term(column="due", weight=1, low=0, high=1)))


def test_a_negative_term_lowers_the_range_and_an_empty_cell_is_zero_points() -> None:
    check = ScoreCheck(dataset_id="tax", model=card(), terms=(Term(column="due", weight=-3, low=2, high=5), TERM))
    assert check.points == (-15, 20)


def test_outcomes_are_the_sums_or_the_combinations_whichever_are_fewer() -> None:
    def outcomes(*terms: Term) -> int:
        return ScoreCheck(dataset_id="tax", model=card(), terms=terms).outcomes

    assert outcomes(TERM) == 12 + 1  # eleven cells, an empty one; nobody on record
    assert outcomes(TERM, Term(column="due", weight=1, low=0, high=100)) == 121 + 1
    packed = (Term(column="a", weight=1, low=0, high=9), Term(column="b", weight=1000, low=0, high=9))
    coarse = Term(column="a", weight=1, low=0, high=99, step=10)
    assert (outcomes(coarse), coarse.points(57), coarse.points(-3), coarse.points(500)) == (10 + 1, 5, 0, 9)
    assert outcomes(*packed) == 11 * 11 + 1  # packing cells into one number shows all of them: it is counted so


@pytest.mark.parametrize(
    ("model", "what"),
    [
        (lambda: card(X, X), "each once"),
        (lambda: Scorecard(features=()), "each once"),
        (lambda: card(*(Feature(name=f"x{i}", weight=1, low=0, high=1) for i in range(65))), "1 to 64"),
        (lambda: Feature(name="x", weight=0, low=0, high=1), "a feature"),
        (lambda: Feature(name="", weight=1, low=0, high=1), "a feature"),
        (lambda: Feature(name="x", weight=1, low=2, high=1), "a feature"),
        (lambda: Term(column="x", weight=0, low=0, high=1), "a term"),
        (lambda: card(Feature(name="x", weight=65_537, low=0, high=0)), "65536"),
        (lambda: card(scale=7), "scale"),
        (lambda: card(scale=-1), "scale"),
        (lambda: linear(high=10_001), "inputs"),
        (lambda: linear(weight=200_000 * MILLION), "scores"),
        (lambda: Linear(features=(Feature(name="x", weight=9000 * MILLION, low=0, high=0),)), "error"),
        (lambda: Linear(features=tuple(Feature(name=f"x{i}", weight=1, low=0, high=1) for i in range(43))), "1 to 42"),
        (lambda: network(Neuron(weights=(MILLION,), bias=0, output=1)), "a weight for each"),
        (lambda: Network(features=INPUTS, neurons=()), "neurons"),
        (lambda: network(*[NEURON] * 33), "neurons"),
        (lambda: Neuron(weights=(1, 0), bias=0, output=1), "not zero"),
        (lambda: Neuron(weights=(1,), bias=0, output=0), "not zero"),
        (lambda: network(Neuron(weights=(90 * MILLION, MILLION), bias=0, output=MILLION)), "scores"),
        (lambda: Input(name="x", low=2, high=1), "an input"),
        (lambda: ScoreCheck(dataset_id="tax", model=card(), terms=()), "terms"),
        (lambda: ScoreCheck(dataset_id="tax", model=card(), terms=(TERM, TERM)), "terms"),
        (lambda: ScoreCheck(dataset_id="No such", model=card(), terms=(TERM,)), "dataset"),
    ],
)
def test_what_no_model_may_be(model: object, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        model()  # type: ignore[operator]


def test_a_registered_model_cannot_arrive_unproved() -> None:
    """The proof runs on every decoded message, not only where a model is typed in."""
    forged = encode(card()).replace(b'"high":5', b'"high":9000000')
    with pytest.raises(Refused, match=r"wire\.malformed"):
        decode(forged, Scorecard)


def test_the_error_of_a_model_grows_with_its_weights_and_stays_below_its_limit() -> None:
    assert linear(weight=MILLION).error < linear(weight=1000 * MILLION).error <= 1e-4
    assert 0 < network().error <= 1e-4
    assert math.isclose(linear().error, (1700 + 150_000) / 2**36 + 1 / 2**41)


def test_a_call_of_every_set_fits_the_wire() -> None:
    for parameters, features in ((SCORECARD, 64), (LINEAR, 42), (NETWORK, 30)):
        assert min(64, parameters.most_features) == features
        assert features * parameters.ciphertext_bytes <= MAX_FEATURE_BYTES
        assert parameters.key_bytes <= MAX_KEY_BYTES
        assert parameters.most_subjects(features) >= parameters.slots
    assert SCORECARD.most_subjects(20) == 5 * 4096
    assert [SCORECARD.batches(count) for count in (1, 4096, 4097, 10_000)] == [1, 1, 2, 3]


def test_a_question_larger_than_a_message_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="8 MiB"):
        ScoreAsk(subjects=("s",), key=b"", features=(bytes(MAX_FEATURE_BYTES), b"x"))
