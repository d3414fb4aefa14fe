"""Whatever the model, the features and the points: a scorecard is exact, CKKS is as close as the model promises."""

from __future__ import annotations

import struct
from itertools import cycle, islice, product

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from enclave_runner.contract.ciphertext import Keys, Workbench, ring_of
from enclave_runner.contract.encryption import LINEAR, NETWORK, SCORECARD
from enclave_runner.contract.scoring import (
    MAX_WEIGHTS,
    MILLION,
    Feature,
    Input,
    Linear,
    Model,
    Network,
    Neuron,
    Scorecard,
    ScoreCheck,
    Term,
)
from enclave_runner.he.scoring import score

SLOW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
NONZERO = st.integers(-2000, 2000).filter(bool)


@st.composite
def scorecards(draw: st.DrawFn) -> Scorecard:
    count = draw(st.integers(1, 8))
    weights = draw(
        st.lists(st.integers(-MAX_WEIGHTS // 8, MAX_WEIGHTS // 8).filter(bool), min_size=count, max_size=count)
    )
    features = []
    for number, weight in enumerate(weights):
        most = min(SCORECARD.reach // count // abs(weight) - 1, 10**6)
        low = draw(st.integers(-most, most))
        features.append(Feature(name=f"x{number}", weight=weight, low=low, high=draw(st.integers(low, most))))
    return Scorecard(features=tuple(features))


@st.composite
def linears(draw: st.DrawFn) -> Linear:
    weights = draw(st.lists(st.integers(-500 * MILLION, 500 * MILLION).filter(bool), min_size=1, max_size=6))
    features = tuple(Feature(name=f"x{i}", weight=weight, low=-10, high=10) for i, weight in enumerate(weights))
    return Linear(features=features, intercept=draw(st.integers(-MILLION, MILLION)))


@st.composite
def networks(draw: st.DrawFn) -> Network:
    count = draw(st.integers(1, 4))
    weight = st.integers(-2 * MILLION, 2 * MILLION).filter(bool)
    neuron = st.builds(
        Neuron,
        weights=st.lists(weight, min_size=count, max_size=count).map(tuple),
        bias=st.integers(-3 * MILLION, 3 * MILLION),
        output=weight,
    )
    features = tuple(Input(name=f"x{i}", low=-2, high=2) for i in range(count))
    return Network(features=features, neurons=tuple(draw(st.lists(neuron, min_size=1, max_size=4))))


def scored(model: Model, rows: list[list[float]], points: list[int]) -> list[float]:
    """All slots in use: the rows again and again."""
    ring, slots = ring_of(model.parameters), model.parameters.slots
    keys, bench = Keys(ring), Workbench()
    try:
        columns = [keys.encrypt(list(islice(cycle(column), slots))) for column in zip(*rows, strict=True)]
        packed = struct.pack(f"<{slots}q", *islice(cycle(points), slots))
        return keys.open(score(model, slots, b"".join((keys.public, *columns, packed)), bench), bench)
    finally:
        bench.close()


@given(st.data())
@SLOW
def test_a_scorecard_is_exact(data: st.DataObject) -> None:
    model = data.draw(scorecards())
    row = st.tuples(*(st.integers(low, high) for low, high in model.domains)).map(list)
    rows = data.draw(st.lists(row, min_size=1, max_size=5))
    room = SCORECARD.reach - max(map(abs, model.range))
    points = data.draw(st.lists(st.integers(-room, room), min_size=len(rows), max_size=len(rows)))
    expected = [model.computed(row) + added for row, added in zip(rows, points, strict=True)]
    assert all(got == want for got, want in zip(scored(model, rows, points), cycle(expected), strict=False))


@pytest.mark.parametrize("models", [linears(), networks()], ids=["linear", "network"])
@given(data=st.data())
@SLOW
def test_ckks_is_as_close_as_the_model_promises(models: st.SearchStrategy[Model], data: st.DataObject) -> None:
    model = data.draw(models)
    row = st.tuples(*(st.floats(low, high, width=32) for low, high in model.domains)).map(list)
    rows = data.draw(st.lists(row, min_size=1, max_size=5))
    points = data.draw(st.lists(st.integers(-MILLION, MILLION), min_size=len(rows), max_size=len(rows)))
    expected = [(model.computed(row) + added) / MILLION for row, added in zip(rows, points, strict=True)]
    assert isinstance(model, Linear | Network)
    for got, want in zip(scored(model, rows, points), cycle(expected), strict=False):
        assert abs(got - want) <= model.error <= 1e-4


@given(scorecards())
def test_the_range_of_a_scorecard_is_that_of_its_corners(model: Scorecard) -> None:
    corners = [model.computed(row) for row in product(*model.domains)]
    assert model.range == (min(corners), max(corners))
    assert max(map(abs, corners)) <= SCORECARD.reach


TERMS = st.lists(
    st.tuples(NONZERO, st.integers(-3, 3), st.integers(0, 3), st.integers(1, 3)).map(
        lambda drawn: Term(column="c", weight=drawn[0], low=drawn[1], high=drawn[1] + drawn[2], step=drawn[3])
    ),
    min_size=1,
    max_size=3,
)


@given(TERMS)
def test_no_more_points_can_be_told_than_outcomes_are_counted(drawn: list[Term]) -> None:
    terms = tuple(msgspec.structs.replace(term, column=f"c{index}") for index, term in enumerate(drawn))
    card = Scorecard(features=(Feature(name="x", weight=1, low=0, high=1),))
    check = ScoreCheck(dataset_id="tax", model=card, terms=terms)
    cells = [[0, *map(term.points, range(term.low - 1, term.high + 2))] for term in terms]
    sums = {sum(chosen) for chosen in product(*cells)}
    assert len(sums) + 1 <= check.outcomes
    assert check.points[0] <= min(sums) <= max(sums) <= check.points[1]


def test_the_sets_are_those_that_were_tried() -> None:
    assert {LINEAR.reach, NETWORK.reach} == {2**17 - 1, 2**13 - 1}
