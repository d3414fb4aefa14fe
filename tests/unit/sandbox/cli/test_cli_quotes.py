from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest
from rich.console import Console

from enclave_runner.contract.grant import Grant, Mode, Purpose, Scope
from enclave_runner.contract.privacy import RHO_UNIT, Budget, PrivacyLoss
from enclave_runner.contract.receipt import Measure
from enclave_runner.contract.ticket import Charge
from enclave_runner.contract.wire import GrantReading, Quote, Reading
from sandbox.cli.charts import ASCII, UNICODE
from sandbox.cli.quotes import Share, draw_quote, is_blurred, share_line, shares_of
from sandbox.workflow.budget import Budgets
from sandbox.workflow.quote import JobQuote
from tests.support.deployment import spec
from tests.support.released_tables import LOSS

MEASURES = (
    Measure(name="people", unit="rows", half_width="9.0"),
    Measure(name="pay", unit="income", half_width=""),
)
OFFERED = JobQuote(
    Quote(
        datasets={"people": ("district", "income")},
        losses=(LOSS,),
        cells=2,
        measures=MEASURES,
        budget=Budget(epsilon="1"),
        noise="laplace",
    ),
    Charge(tariff_id="query-industry", unit_price_fen=1250, legal_basis="第三十五条"),
)
SHARES = (
    Share("resident", "grant", RHO_UNIT // 4, RHO_UNIT // 10, RHO_UNIT),
    Share("resident", "lifetime", 3 * RHO_UNIT, RHO_UNIT // 10, 8 * RHO_UNIT),
)


def grant(*budgets: PrivacyLoss) -> Grant:
    return Grant(
        grant_id="grant-free",
        operator_id="op-city-data",
        operator_code="91590100MA2F5C9T9W",
        scenario_id="scenario-free",
        purpose=Purpose.PUBLIC_INTEREST,
        modes=(Mode.QUERY,),
        scopes=(Scope(dataset_id="people", columns=("district", "income")),),
        not_before=datetime(2026, 1, 1, tzinfo=UTC),
        deadline=datetime(2027, 1, 1, tzinfo=UTC),
        budgets=budgets,
        max_uses=10,
    )


def loss(entity_set: str, pico_rho: int) -> PrivacyLoss:
    return PrivacyLoss(entity_set=entity_set, pico_rho=pico_rho)


def test_the_share_of_the_grant_and_of_the_lifetime_for_every_entity_set() -> None:
    budgets = Budgets(
        readings=(Reading(entity_set="resident", spent=500, reserved=70, lifetime=8000),),
        grants=(
            GrantReading(grant_id="grant-other", uses=3, losses=(loss("resident", 400),)),
            GrantReading(grant_id="grant-free", uses=1, losses=(loss("resident", 100), loss("household", 30))),
        ),
    )
    granted = grant(loss("resident", 1000), loss("household", 200))
    assert shares_of((loss("resident", 20), loss("household", 10)), granted, budgets) == (
        Share("resident", "grant", 100, 20, 1000),
        Share("resident", "lifetime", 570, 20, 8000),
        Share("household", "grant", 30, 10, 200),
    )
    assert shares_of((loss("enterprise", 5),), granted, budgets) == (Share("enterprise", "grant", 0, 5, 0),)


def test_a_share_is_a_bar_and_numbers() -> None:
    line = share_line(SHARES[0], UNICODE)
    assert "████████▒▒▒" in line
    assert "25.0 % 已用 / spent + 10.0 % 本次 / now, of ρ = 1" in line
    assert "超出" not in line
    assert "超出 / more than is left" in share_line(Share("resident", "grant", 90, 20, 100), ASCII)
    assert "超出 / more than is left" in share_line(Share("resident", "grant", 0, 5, 0), ASCII)


@pytest.mark.parametrize(
    ("unit", "half_width", "cells", "blurred"),
    [
        ("rows", "50000", 2, False),
        ("rows", "50000.1", 2, True),
        ("rows", "", 2, False),
        ("income", "5000000000", 2, False),  # 50 000 people of at most 100 000.00
        ("income", "5000000001", 2, True),
        ("rows", "11", 10_000, True),
        ("rows", "9", 10_000, False),
    ],
)
def test_noise_larger_than_an_average_cell_can_be_is_said(
    unit: str, half_width: str, cells: int, blurred: bool
) -> None:
    assert is_blurred(Measure(name="m", unit=unit, half_width=half_width), [spec()], cells) is blurred


def test_a_quote_shows_loss_shares_accuracy_columns_and_price() -> None:
    out = io.StringIO()
    draw_quote(Console(file=out, width=140, markup=False), OFFERED, SHARES, ("people",))
    text = out.getvalue()
    for part in (
        "resident ρ=0.02435; ε ≤ 1, δ = 1e-6",
        "discrete Laplace",
        "本授权 / grant",
        "终身 / lifetime",
        "± 9.0",
        "differs by cell",
        "cells 2",
        "people(district, income)",
        "¥12.50",
        "第三十五条",
        "nothing was spent",
        "the noise is larger than an average cell can be",
    ):
        assert part in text
    quiet = io.StringIO()
    draw_quote(Console(file=quiet, width=140, markup=False), OFFERED, SHARES, ())
    assert "注意" not in quiet.getvalue()
