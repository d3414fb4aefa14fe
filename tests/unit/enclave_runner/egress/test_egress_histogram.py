"""The histogram of a model's scores: fixed shape or nothing, bins with names, the loss of one vector."""

from __future__ import annotations

import pytest

from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.privacy import Budget
from enclave_runner.dp.conversion import pico_rho_of
from enclave_runner.egress.histogram import MAX_CELL, histogram_loss, histogram_measure, release_histogram
from enclave_runner.plan.bind import bind_features
from enclave_runner.plan.bound import WEIGHT_SCALE, BoundFeatures
from enclave_runner.plan.parse import parse_features
from tests.support.bound_plans import HOMES, VISITS, granted

BUDGET = Budget(epsilon="1", delta="1e-6")
CATALOGUE = {"visits": granted(VISITS), "homes": granted(HOMES)}
MANY: BoundFeatures = bind_features(parse_features("SELECT amount FROM visits"), CATALOGUE)
ONE: BoundFeatures = bind_features(parse_features("SELECT age FROM homes"), CATALOGUE)


def test_bins_are_named_by_their_edges_in_the_unit_of_the_score() -> None:
    table = release_histogram(ONE, BUDGET, ((1, 2, 3, 4),), low=-500, high=1500, bins=4)
    assert [row[0] for row in table.rows] == ["-0.5–0", "0–0.5", "0.5–1", "1–1.5"]
    assert (table.keys, table.measures) == (("score",), (histogram_measure(ONE, BUDGET),))
    assert table.half_widths == ((table.measures[0].half_width,),) * 4
    assert (table.loss.entity_set, table.loss.pico_rho) == ("resident", pico_rho_of(BUDGET))


def test_weighted_scores_are_in_entities_and_within_the_noise() -> None:
    """Twenty standard deviations: the false-alarm rate is far below 1e-9."""
    table = release_histogram(MANY, BUDGET, ((10_000 * WEIGHT_SCALE, 0),), low=0, high=1000, bins=2)
    width = float(table.measures[0].half_width)
    for row, truth in zip(table.rows, (10_000, 0), strict=True):
        assert abs(float(str(row[1])) - truth) < 10 * width
    single = float(histogram_measure(ONE, BUDGET).half_width)
    assert width == pytest.approx(4 * single, rel=0.2)  # the clip of four rows


@pytest.mark.parametrize("exact", [(), ((0, 0),), ((0,) * 4,) * 2, ((0, 0, 0, -1),), ((0, 0, 0, MAX_CELL),)])
def test_a_vector_of_another_shape_or_size_is_not_released(exact: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(Failed) as caught:
        release_histogram(ONE, BUDGET, exact, low=0, high=1000, bins=4)
    assert caught.value.code == "egress.shape"


def test_a_budget_that_is_too_small_is_refused() -> None:
    with pytest.raises(Refused) as caught:
        histogram_loss(Budget(epsilon="1e-9", delta="1e-15"))
    assert caught.value.rule == "budget.malformed"
