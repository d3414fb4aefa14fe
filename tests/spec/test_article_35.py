"""第三十五条：公共治理、公益事业有条件无偿使用，产业发展、行业发展有条件有偿使用；原始数据不出域、数据可用不可见。

用途由授权的应用场景决定，与调用方自称无关；结果须有取值范围与贡献上界方能加噪，缺者拒绝，绝不“不加噪”。
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest

from enclave_runner.contract.errors import Refused
from enclave_runner.contract.grant import Purpose, Scope
from enclave_runner.contract.privacy import asked_budget
from enclave_runner.plan.bind import bind_select
from enclave_runner.plan.bound import BoundSelect
from enclave_runner.plan.parse import parse_select
from enclave_runner.plan.tables import Granted
from sandbox.domain.metering import MeterEvent
from tests.support.articles import NOW, a_column, a_scenario, a_spec, a_tariff


def test_governance_and_public_interest_are_free_and_industry_pays() -> None:
    free = {purpose for purpose in Purpose if purpose.is_free}
    assert free == {Purpose.GOVERNANCE, Purpose.PUBLIC_INTEREST}
    assert not Purpose.INDUSTRY.is_free


@pytest.mark.parametrize("purpose", [Purpose.GOVERNANCE, Purpose.PUBLIC_INTEREST])
def test_no_price_for_a_free_purpose(purpose: Purpose) -> None:
    with pytest.raises(Refused) as refused:
        a_tariff(purpose=purpose, unit_price_fen=1)
    assert refused.value.rule == "tariff.free-use"
    assert a_tariff(purpose=purpose, unit_price_fen=0).unit_price_fen == 0


@pytest.mark.parametrize("price", [-1, 81])
def test_a_price_stays_between_zero_and_the_cap(price: int) -> None:
    with pytest.raises(Refused) as refused:
        a_tariff(unit_price_fen=price, cap_fen=80)
    assert refused.value.rule == "tariff.cap"
    assert a_tariff(unit_price_fen=80, cap_fen=80).unit_price_fen == 80


@pytest.mark.parametrize("evidence", ["", "A" * 64, "a" * 63, "g" * 64])
def test_free_and_paid_use_are_conditional_on_a_filed_approval(evidence: str) -> None:
    with pytest.raises(Refused) as refused:
        a_scenario(evidence_sha256=evidence)
    assert refused.value.rule == "scenario.evidence"


def test_an_authorization_ends_at_a_certain_moment() -> None:
    with pytest.raises(Refused) as refused:
        a_scenario(valid_until=datetime(2027, 1, 1))
    assert refused.value.rule == "scenario.incomplete"


@pytest.mark.parametrize(("units", "amount"), [(0, 0), (1, 50)])
def test_only_a_released_use_costs(units: int, amount: int) -> None:
    event = MeterEvent(
        receipt_id="r",
        submission_id="s",
        payer_id="business-a",
        operator_id="operator-a",
        product_id=None,
        mode=a_tariff().mode,
        purpose=Purpose.INDUSTRY,
        units=units,
        tariff_id="t",
        unit_price_fen=50,
        legal_basis="第三十五条",
        occurred_at=NOW,
    )
    assert event.amount_fen == amount


@pytest.mark.parametrize(("units", "amount"), [(0, 0), (1, 50), (10_000, 500_000)])
def test_a_call_costs_for_each_answered_question(units: int, amount: int) -> None:
    event = MeterEvent(
        receipt_id="call-0000000000000001",
        submission_id=None,
        payer_id="business-a",
        operator_id="operator-a",
        product_id="p",
        mode=a_tariff().mode,
        purpose=Purpose.INDUSTRY,
        units=units,
        tariff_id="t",
        unit_price_fen=50,
        legal_basis="第三十五条",
        occurred_at=NOW,
    )
    assert event.amount_fen == amount
    with pytest.raises(ValueError, match="one unit or none"):
        replace(event, units=10_001)
    with pytest.raises(ValueError, match="one unit or none"):
        replace(event, submission_id="s", units=2)


NO_CONTRIBUTION_BOUND: dict[str, object] = {"rows_per_entity": None, "unique": False}


def bind(sql: str, **spec: object) -> BoundSelect:
    table = a_spec(a_column("amount", bounds=spec.pop("bounds", (0, 100))), **spec)
    granted = Granted(table, Scope(dataset_id="insurance", columns=("amount",)))
    return bind_select(parse_select(sql), {"insurance": granted}, 1000, 2)


@pytest.mark.parametrize(
    ("sql", "spec", "rule"),
    [
        ("SELECT SUM(amount) AS s FROM insurance", {"bounds": None}, "dataset.bound-missing"),
        (
            "SELECT COUNT(*) AS n FROM insurance",
            {"rows_per_entity": None, "unique": False},
            "dataset.unit-bound-missing",
        ),
        (
            "SELECT amount, COUNT(*) AS n FROM insurance GROUP BY ROLLUP (amount)",
            {"bounds": None},
            "dataset.domain-missing",
        ),
    ],
)
def test_a_missing_bound_refuses_and_never_means_no_noise(sql: str, spec: dict[str, object], rule: str) -> None:
    with pytest.raises(Refused) as refused:
        bind(sql, **spec)
    assert refused.value.rule == rule


def test_what_is_released_has_a_proven_sensitivity() -> None:
    sums = bind("SELECT SUM(amount) AS s FROM insurance").sums
    assert sums is not None
    assert sums.clipping.sensitivity(sums.clipping.limit) == 100


@pytest.mark.parametrize("epsilon", ["0", "-1", "NaN", "Infinity", "1e9", "one"])
def test_no_answer_without_a_finite_positive_budget(epsilon: str) -> None:
    with pytest.raises(Refused) as refused:
        asked_budget(epsilon, "1e-6")
    assert refused.value.rule == "budget.malformed"
