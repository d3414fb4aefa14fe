from __future__ import annotations

import pytest
import typer

from enclave_runner.contract.grant import Scope
from enclave_runner.contract.privacy import MAX_PICO_RHO, PrivacyLoss
from sandbox.cli.grants import parse_budget, parse_scope, with_deltas


@pytest.mark.parametrize("text", ["adult:age,sex", "adult: age , sex", "adult:age,,sex,"])
def test_a_scope_is_a_dataset_and_its_columns(text: str) -> None:
    assert parse_scope(text) == Scope(dataset_id="adult", columns=("age", "sex"))


@pytest.mark.parametrize("text", ["", "adult", "adult:", "adult: , ", "adult;age", "adult:age,age"])
def test_anything_else_is_no_scope(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse_scope(text)


@pytest.mark.parametrize(
    ("text", "pico_rho"),
    [
        ("resident=0.5", 5 * 10**11),
        ("resident=0", 0),
        ("resident=1e-12", 1),
        ("resident=1e-13", 1),  # rounded up: a ledger never shows less
        ("resident=1000000", MAX_PICO_RHO),
    ],
)
def test_a_budget_is_an_entity_set_and_an_exact_number(text: str, pico_rho: int) -> None:
    assert parse_budget(text) == PrivacyLoss(entity_set="resident", pico_rho=pico_rho)


@pytest.mark.parametrize(
    "value", ["", "-0.1", "-1e-9", "NaN", "sNaN", "inf", "-Infinity", "1e7", "1e30", "half", "0.5=1"]
)
def test_anything_else_is_no_budget(value: str) -> None:
    with pytest.raises(typer.BadParameter, match="--rho"):
        parse_budget(f"resident={value}")


@pytest.mark.parametrize("text", ["", "0.5", "=0.5", "resident"])
def test_a_budget_names_its_entity_set(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="--rho"):
        parse_budget(text)


def budget(entity_set: str, atto_delta: int = 0) -> PrivacyLoss:
    return PrivacyLoss(entity_set=entity_set, pico_rho=10**12, atto_delta=atto_delta)


@pytest.mark.parametrize(
    ("text", "atto_delta"),
    [("resident=1e-6", 10**12), ("resident=0", 0), ("resident=1e-19", 1), ("resident=0.5", 5 * 10**17)],
)
def test_a_delta_is_added_to_the_budget_of_its_set(text: str, atto_delta: int) -> None:
    budgets = (budget("resident"), budget("enterprise"))
    assert with_deltas(budgets, [text]) == (budget("resident", atto_delta), budget("enterprise"))
    assert with_deltas(budgets, []) == budgets


@pytest.mark.parametrize(
    "texts",
    [
        ["enterprise=1e-6"],
        ["resident=1"],
        ["resident=-1e-9"],
        ["resident=NaN"],
        ["resident"],
        ["=1e-6"],
        [""],
        ["resident=1e-6", "resident=1e-7"],
    ],
)
def test_anything_else_is_no_delta(texts: list[str]) -> None:
    with pytest.raises(typer.BadParameter, match="--delta"):
        with_deltas((budget("resident"),), texts)
