from __future__ import annotations

import io

import pytest
import typer
from rich.console import Console

from enclave_runner.contract.privacy import PrivacyLoss
from enclave_runner.contract.receipt import DPTable, Measure
from sandbox.cli.jobs import dp_table, query_job
from tests.support.refusals import refused_by


def test_a_query_carries_its_text_and_budget_unchanged() -> None:
    job = query_job("SELECT 1", "0.10", "1e-7")
    assert (job.sql, job.budget.epsilon, job.budget.delta) == ("SELECT 1", "0.10", "1e-7")


@pytest.mark.parametrize("sql", ["", "x" * 20_001])
def test_a_text_that_is_no_query_is_wrong_usage(sql: str) -> None:
    with pytest.raises(typer.BadParameter, match="SQL text"):
        query_job(sql, "1", "1e-6")


@pytest.mark.parametrize(("epsilon", "delta"), [("0", "1e-6"), ("nan", "1e-6"), ("1", "0"), ("1", "inf"), ("1", "0.1")])
def test_a_budget_that_is_none_is_refused(epsilon: str, delta: str) -> None:
    with refused_by("budget.malformed"):
        query_job("SELECT 1", epsilon, delta)


def test_a_released_table_shows_numbers_with_their_intervals_and_no_markup() -> None:
    release = DPTable(
        keys=("district",),
        measures=(Measure(name="people", unit="rows", half_width="3.5"),),
        rows=(("[north]", "40"), ("south", "-2")),
        loss=PrivacyLoss(entity_set="resident", pico_rho=1),
        epsilon="0.1",
        delta="1e-6",
    )
    out = io.StringIO()
    Console(file=out, width=120, markup=False).print(dp_table(release))
    text = out.getvalue()
    assert all(part in text for part in ("district", "people", "± 3.5", "[north]", "40", "-2", "ε = 0.1", "δ = 1e-6"))
