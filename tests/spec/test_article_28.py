"""第二十八条：核定使用单位、应用场景、所需数据、共享模式、截止时间等要素，按照最小化使用原则共享。授权缺一要素即不成立。"""

from __future__ import annotations

import typing
from datetime import datetime, timedelta

import pytest

from enclave_runner.contract.errors import Refused
from enclave_runner.contract.grant import Grant, Mode, Scope
from enclave_runner.contract.job import Job, ModelJob, Predicate, QueryJob, VerificationJob
from enclave_runner.contract.privacy import RHO_UNIT, Budget, PrivacyLoss
from enclave_runner.contract.script import ScriptJob, ScriptOutput
from enclave_runner.plan.nodes import Name
from enclave_runner.plan.tables import Granted, granted_column
from tests.support.articles import NOW, a_column, a_grant, a_spec, grant_fields

ELEMENTS = {
    "使用单位": ["operator_id", "operator_code"],
    "应用场景": ["scenario_id", "purpose"],
    "所需数据": ["scopes"],
    "共享模式": ["modes"],
    "截止时间": ["not_before", "deadline"],
    "最小化使用": ["budgets", "max_uses"],
}


@pytest.mark.parametrize("field", [field for fields in ELEMENTS.values() for field in fields])
def test_no_grant_without_each_element(field: str) -> None:
    fields = {name: value for name, value in grant_fields().items() if name != field}
    with pytest.raises(TypeError, match=field):
        Grant(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"modes": ()},
        {"scopes": ()},
        {"scopes": (Scope(dataset_id="d", columns=("a",)), Scope(dataset_id="d", columns=("b",)))},
        {"deadline": NOW},
        {"deadline": NOW - timedelta(days=1)},
        {"deadline": datetime(2027, 1, 1)},
        {"max_uses": 0},
        {"budgets": (PrivacyLoss(entity_set="e", pico_rho=1), PrivacyLoss(entity_set="e", pico_rho=2))},
    ],
)
def test_an_element_without_content_is_a_missing_one(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="grant"):
        a_grant(**changes)


def test_only_the_needed_data_are_granted() -> None:
    with pytest.raises(ValueError, match="columns"):
        Scope(dataset_id="insurance", columns=())
    grant = a_grant()
    assert grant.scope("insurance") == Scope(dataset_id="insurance", columns=("amount",))
    assert grant.scope("credit") is None


def test_a_column_outside_the_grant_is_refused() -> None:
    spec = a_spec(a_column("amount"), a_column("wage"))
    scope = a_grant().scope(spec.dataset_id)
    assert scope is not None
    with pytest.raises(Refused) as refused:
        granted_column(Name(column="wage", table=None, position=1), Granted(spec, scope))
    assert (refused.value.rule, refused.value.facts) == ("grant.column", {"column": "wage"})


def test_no_budget_means_none() -> None:
    grant = a_grant(budgets=(PrivacyLoss(entity_set="resident", pico_rho=RHO_UNIT),))
    assert (grant.budget("resident"), grant.budget("enterprise")) == (RHO_UNIT, 0)


def test_every_kind_of_job_needs_a_mode_of_its_own() -> None:
    budget = Budget(epsilon="1")
    jobs = [
        QueryJob(sql="SELECT 1", budget=budget),
        VerificationJob(dataset_id="insurance", attribute="amount", predicate=Predicate.EXISTS),
        ModelJob(sql="SELECT 1", budget=budget, model_sha256="0" * 64, output="score"),
        ScriptJob(
            sql="SELECT 1",
            budget=budget,
            script_sha256="0" * 64,
            outputs=(ScriptOutput(name="mean", low="0", high="1"),),
        ),
    ]
    assert [job.mode for job in jobs] == [Mode.QUERY, Mode.VERIFICATION, Mode.MODEL, Mode.SCRIPT]
    assert len(jobs) == len(Mode) == len(typing.get_args(Job))
