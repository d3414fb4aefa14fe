"""Values that are valid by construction: budgets, losses, specs, grants, jobs, tickets."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_runner.contract.dataset import Column, ColumnType, KeyKind
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.grant import Mode, Purpose, Scope
from enclave_runner.contract.job import ModelJob, QueryJob, Question, VerificationJob
from enclave_runner.contract.privacy import MAX_PICO_RHO, Budget, PrivacyLoss, asked_budget, number, to_pico_rho
from enclave_runner.contract.ticket import Charge
from tests.support.enclave_home import BUDGET, PEOPLE, changed, column, make_grant, verification

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "epsilon",
    [
        "0",
        "-1",
        "-0",
        "NaN",
        "nan",
        "sNaN",
        "inf",
        "-inf",
        "Infinity",
        "1e3",
        "100.0001",
        "",
        "x",
        "1,5",
        "0x1",
        "1e999999",
    ],
)
def test_an_unusable_epsilon_is_refused(epsilon: str) -> None:
    with pytest.raises(ValueError, match=r"ε|number"):
        Budget(epsilon=epsilon)
    with pytest.raises(Refused) as caught:
        asked_budget(epsilon, "1e-6")
    assert (caught.value.rule, caught.value.facts) == ("budget.malformed", {})


@pytest.mark.parametrize("delta", ["0", "-1e-6", "1e-3", "1e-16", "NaN", "inf", "", "1"])
def test_an_unusable_delta_is_refused(delta: str) -> None:
    with pytest.raises(Refused) as caught:
        asked_budget("1", delta)
    assert caught.value.rule == "budget.malformed"


@pytest.mark.parametrize(("epsilon", "delta"), [("100", "1e-4"), ("1e-30", "1e-15"), ("0.10", "0.000001")])
def test_edges_of_a_usable_budget(epsilon: str, delta: str) -> None:
    assert asked_budget(epsilon, delta) == Budget(epsilon=epsilon, delta=delta)


@pytest.mark.parametrize("text", ["NaN", "-sNaN7", "Infinity", "1/2", "１０ m"])
def test_only_finite_decimals_are_numbers(text: str) -> None:
    with pytest.raises(ValueError, match="number"):
        number(text)


@pytest.mark.parametrize("loss", [-1, MAX_PICO_RHO + 1])
def test_a_loss_outside_its_range_cannot_be_made(loss: int) -> None:
    with pytest.raises(ValueError, match="privacy loss"):
        PrivacyLoss(entity_set="resident", pico_rho=loss)


@given(st.decimals(min_value=0, max_value=1000, allow_nan=False, places=20))
def test_a_loss_is_rounded_up_by_less_than_one_unit(rho: Decimal) -> None:
    units = to_pico_rho(rho)
    assert rho <= Decimal(units) / 10**12 < rho + Decimal("1e-12") or units == 0 == rho
    assert PrivacyLoss(entity_set="x", pico_rho=units).rho >= rho


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "Id"}, {"name": "1d"}, {"name": "_weight"}, {"name": "a" * 64}, {"name": "a b"}, {"name": ""},
        {"grade": 0}, {"grade": 5}, {"withheld": " "}, {"scale": 7}, {"scale": -1}, {"scale": 1},
        {"bounds": (0, 1)}, {"domain": ()}, {"domain": ("a", "a")}, {"domain": tuple(str(n) for n in range(10_001))},
    ],
)  # fmt: skip
def test_a_column_that_breaks_a_rule_cannot_be_made(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        Column(**{"name": "a", "title": "a", "type": ColumnType.TEXT, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize("bounds", [(1, 0), (-(10**15) - 1, 0), (0, 10**15 + 1)])
def test_bounds_are_ordered_and_bounded(bounds: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="bounds"):
        column("a", ColumnType.INTEGER, bounds=bounds)


@pytest.mark.parametrize("kind", [ColumnType.DATE, ColumnType.DECIMAL])
def test_a_domain_is_of_values_that_print_one_way(kind: ColumnType) -> None:
    with pytest.raises(ValueError, match="domain"):
        column("a", kind, domain=("1",))


@pytest.mark.parametrize(
    "fields",
    [
        {"dataset_id": "People"}, {"dataset_id": ""}, {"dataset_id": "a/b"}, {"dataset_id": "../x"}, {"columns": ()},
        {"columns": (*PEOPLE.columns, PEOPLE.columns[0])}, {"entity_set": "a b"}, {"entity_column": "nobody"},
        {"population_cap": 0}, {"population_cap": 2 * 10**9 + 1}, {"rows_per_entity": 0},
        {"rows_per_entity": 10**6 + 1},
        {"rows_per_entity": 2}, {"rows_per_entity": None}, {"max_rejected_permille": -1},
        {"max_rejected_permille": 1001}, {"key_kind": KeyKind.ROW},
        {"columns": tuple(column(f"c{n}", ColumnType.TEXT) for n in range(501)), "entity_column": "c1"},
    ],
)  # fmt: skip
def test_a_spec_that_breaks_a_rule_cannot_be_made(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        changed(PEOPLE, **fields)


def test_a_generated_key_is_no_column_and_always_unique() -> None:
    generated = {"entity_column": "row_id", "key_kind": KeyKind.ROW}
    assert changed(PEOPLE, **generated).unique
    with pytest.raises(ValueError, match="unique"):
        changed(PEOPLE, **generated, unique=False)
    assert PEOPLE.column("nobody") is None


@pytest.mark.parametrize(
    "fields",
    [
        {"modes": ()}, {"scopes": ()}, {"scopes": make_grant().scopes * 2}, {"max_uses": 0}, {"max_uses": 10**9 + 1},
        {"budgets": make_grant().budgets * 2}, {"not_before": NOW, "deadline": NOW},
        {"not_before": datetime(2026, 1, 1)}, {"deadline": datetime(2030, 1, 1)},
    ],
)  # fmt: skip
def test_a_grant_that_breaks_a_rule_cannot_be_made(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="grant"):
        make_grant(**fields)


def test_what_a_grant_does_not_name_is_nothing() -> None:
    grant = make_grant()
    assert grant.scope("other") is None
    assert grant.budget("enterprise") == 0
    assert [purpose.is_free for purpose in Purpose] == [True, True, False]
    for columns in ((), ("a", "a")):
        with pytest.raises(ValueError, match="scope"):
            Scope(dataset_id="people", columns=columns)


def test_each_job_needs_its_mode() -> None:
    model = ModelJob(sql="SELECT age FROM people", budget=BUDGET, model_sha256="", output="score")
    jobs = (QueryJob(sql="x", budget=BUDGET), verification("age"), model)
    assert [job.mode for job in jobs] == [Mode.QUERY, Mode.VERIFICATION, Mode.MODEL]
    assert isinstance(jobs[1], VerificationJob)


@pytest.mark.parametrize(
    "fields",
    [{"sql": ""}, {"sql": "x" * 20_001}, {"bins": 1}, {"bins": 1001}, {"low": 5, "high": 5}, {"low": 6, "high": 5}],
)
def test_a_model_job_that_breaks_a_rule_cannot_be_made(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="model job"):
        ModelJob(**{"sql": "x", "budget": BUDGET, "model_sha256": "", "output": "y", **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize("sql", ["", "x" * 20_001])
def test_sql_has_a_length(sql: str) -> None:
    with pytest.raises(ValueError, match="SQL"):
        QueryJob(sql=sql, budget=BUDGET)


@pytest.mark.parametrize(
    ("subject", "claim", "salt"),
    [("", "", "0" * 64), ("a" * 65, "", "0" * 64), ("a", "c" * 201, "0" * 64), ("a", "", "0")],
)
def test_a_question_is_short_and_salted(subject: str, claim: str, salt: str) -> None:
    with pytest.raises(ValueError, match="question"):
        Question(subject=subject, claim=claim, salt=salt)


@pytest.mark.parametrize("price", [-1, 10**12 + 1])
def test_a_price_is_not_negative(price: int) -> None:
    with pytest.raises(ValueError, match="price"):
        Charge(tariff_id="t", unit_price_fen=price, legal_basis="x")


def test_errors_carry_rule_and_facts_or_code_and_fault() -> None:
    refused = Refused("grant.uses", max=3)
    assert (refused.rule, refused.facts, str(refused)) == ("grant.uses", {"max": "3"}, "refused by grant.uses (max=3)")
    first, second = Failed("job.broken"), Failed("job.broken")
    assert first.fault != second.fault
    assert str(first) == f"failed at job.broken, fault {first.fault}"
