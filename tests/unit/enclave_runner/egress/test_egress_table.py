"""The gate: fixed shape or nothing, every public group in order, text that is exact, loss that adds up."""

from __future__ import annotations

from decimal import Decimal
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave_runner.contract.dataset import ColumnType
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.grant import Scope
from enclave_runner.contract.privacy import Budget
from enclave_runner.dp.conversion import epsilon_of, pico_rho_of
from enclave_runner.egress import table
from enclave_runner.egress.table import expected_measures, histogram_measure, release_histogram, release_table, share_of
from enclave_runner.plan.bind import BoundTable, bind_features
from enclave_runner.plan.parse import parse_features
from tests.support.enclave_home import BUDGET, PEOPLE, changed, column
from tests.support.plan_interpreter import bound

PLAN = bound("SELECT sex, active, COUNT(*) AS n, SUM(income) AS money FROM people GROUP BY sex, active", PEOPLE)
MANY = changed(PEOPLE, unique=False, rows_per_entity=4)


def failed_code(plan: BoundTable, exact: tuple[tuple[int, ...], ...]) -> str:
    with pytest.raises(Failed) as caught:
        release_table(plan, BUDGET, exact)
    return caught.value.code


@pytest.mark.parametrize(
    "exact",
    [
        (),
        ((0,) * 6,),
        ((0,) * 6,) * 3,
        ((0,) * 6, (0,) * 5),
        ((0,) * 7, (0,) * 6),
        ((0,) * 6, (0, 0, 0, 0, 0, 1 << 62)),
        ((0,) * 6, (0, 0, 0, 0, 0, -(1 << 62))),
    ],
)
def test_a_vector_of_another_shape_or_size_is_not_released(exact: tuple[tuple[int, ...], ...]) -> None:
    assert failed_code(PLAN, exact) == "egress.shape"


def test_every_public_group_is_there_in_catalogue_order_whatever_the_data() -> None:
    expected = list(product(("男", "女", "未知"), ("false", "true")))
    for exact in ((tuple(range(6)),) * 2, ((0,) * 6,) * 2):
        released = release_table(PLAN, BUDGET, exact)
        assert [row[:2] for row in released.rows] == expected
        assert released.keys == ("sex", "active")
        assert [item.name for item in released.measures] == ["n", "money"]


def test_the_loss_is_shared_and_never_above_the_budget() -> None:
    released = release_table(PLAN, BUDGET, ((0,) * 6,) * 2)
    assert released.loss.entity_set == "resident"
    assert pico_rho_of(BUDGET) - 2 < released.loss.pico_rho <= pico_rho_of(BUDGET)
    assert float(released.epsilon) == pytest.approx(epsilon_of(released.loss.pico_rho, 1e-6), abs=1e-4)
    assert released.delta == BUDGET.delta


@given(st.integers(1, 20))
def test_shares_are_rounded_down(parts: int) -> None:
    assert share_of(BUDGET, parts) * parts <= pico_rho_of(BUDGET) < (share_of(BUDGET, parts) + 1) * parts


def test_a_budget_that_cannot_be_shared_is_refused() -> None:
    for budget, parts in ((Budget(epsilon="1e-9", delta="1e-15"), 1), (BUDGET, 10**13)):
        with pytest.raises(Refused) as caught:
            share_of(budget, parts)
        assert caught.value.rule == "budget.malformed"


def released_with(monkeypatch: pytest.MonkeyPatch, plan: BoundTable, cells: list[int]) -> list[str]:
    """The rendered column when the noise is known."""
    monkeypatch.setattr(table, "add_noise", lambda vector, sensitivity, loss: cells)
    return [row[-1] for row in release_table(plan, BUDGET, (tuple([0] * len(cells)),)).rows]


def test_counts_of_unique_entities_are_whole_and_may_be_negative(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = bound("SELECT sex, COUNT(*) FROM people GROUP BY sex", PEOPLE)
    assert released_with(monkeypatch, plan, [5, 0, -3]) == ["5", "0", "-3"]


def test_sums_are_in_the_unit_of_the_column(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = bound("SELECT sex, SUM(income) FROM people GROUP BY sex", PEOPLE)
    assert released_with(monkeypatch, plan, [12345, -5, 0]) == ["123.45", "-0.05", "0.00"]


def test_weighted_cells_are_divided_by_the_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = bound("SELECT sex, COUNT(*) FROM people GROUP BY sex", MANY)
    scale = plan.weight_scale
    assert released_with(monkeypatch, plan, [scale, 3 * scale // 2, -1]) == ["1.00", "1.50", "0.00"]


def test_a_coarsened_cell_is_multiplied_back_with_all_its_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = changed(
        MANY,
        columns=(column("id", ColumnType.TEXT), column("x", ColumnType.INTEGER, bounds=(-(10**15), 10**15))),
        population_cap=2 * 10**9,
        rows_per_entity=10**6,
    )
    plan = bound("SELECT SUM(x) FROM people", wide)
    (item,) = plan.aggregates
    (text,) = released_with(monkeypatch, plan, [(1 << 58) - 1])
    assert Decimal(text) == Decimal(((1 << 58) - 1) * item.coarsening // plan.weight_scale)
    assert expected_measures(plan, Budget(epsilon="0.00001"))


@given(st.integers(-(10**12), 10**12))
@settings(max_examples=50)
def test_a_released_text_never_has_an_exponent_or_a_negative_zero(cell: int) -> None:
    text = table._ratio(Decimal(cell), 3, 2)
    assert "E" not in text
    assert text != "-0.00"


def test_accuracy_is_told_from_bounds_alone() -> None:
    count, money = expected_measures(PLAN, BUDGET)
    assert (count.name, count.unit, money.name, money.unit) == ("n", "rows", "money", "income")
    assert 2 < float(count.half_width) < 20
    assert float(money.half_width) == pytest.approx(float(count.half_width) * 1000, rel=0.1)
    assert release_table(PLAN, BUDGET, ((0,) * 6,) * 2).measures == (count, money)


def test_a_histogram_names_its_bins() -> None:
    scope = Scope(dataset_id="people", columns=("age",))
    plan = bind_features(parse_features("SELECT age FROM people"), PEOPLE, scope)
    released = release_histogram(plan, BUDGET, ((1, 2, 3, 4),), low=-500, high=1500, bins=4)
    assert [row[0] for row in released.rows] == ["-0.5–0", "0–0.5", "0.5–1", "1–1.5"]
    assert released.measures == (histogram_measure(plan, BUDGET),)
    assert released.loss.pico_rho == share_of(BUDGET, 1)
    with pytest.raises(Failed):
        release_histogram(plan, BUDGET, ((1, 2, 3),), low=0, high=1, bins=4)
