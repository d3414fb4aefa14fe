"""Several statements of one job: split at semicolons, and joined where one vector answers them."""

from __future__ import annotations

import pytest

from enclave_runner.contract.errors import Refused
from enclave_runner.plan.nodes import SelectPlan
from enclave_runner.plan.parse import parse_select
from enclave_runner.plan.workload import MAX_STATEMENTS, apart, joint_queries, parse_workload

BY_KIND = "SELECT kind, COUNT(*) AS n FROM visits GROUP BY kind"
BY_DAY = "SELECT day, COUNT(*) AS n, SUM(amount) AS s FROM visits GROUP BY day"
BOTH = "SELECT day, kind, COUNT(*) AS n FROM visits GROUP BY day, kind"


def plans(*statements: str) -> tuple[SelectPlan, ...]:
    return parse_workload(";\n".join(statements))


def refused(sql: str) -> Refused:
    with pytest.raises(Refused) as caught:
        joint_queries(parse_workload(sql))
    return caught.value


def test_one_statement_is_what_it_is_alone() -> None:
    assert parse_workload(BY_KIND) == (parse_select(BY_KIND),)
    assert parse_workload(f" ; {BY_KIND};;\n-- nothing more\n") == (parse_select(f"   {BY_KIND}"),)


def test_positions_count_in_the_whole_text() -> None:
    text = f"{BY_KIND};\nSELECT 名, COUNT(*) AS n FROM visits GROUP BY 名"
    (_, second) = parse_workload(text)
    assert second.keys[0].position == text.rindex("名") + 1


def test_a_semicolon_in_a_text_or_a_comment_splits_nothing() -> None:
    sql = "SELECT COUNT(*) AS n FROM visits WHERE kind = 'a;b' /* ; */"
    assert len(parse_workload(sql)) == 1


def test_a_fault_is_told_where_it_is() -> None:
    text = f"{BY_KIND}; SELECT * FROM visits"
    with pytest.raises(Refused) as caught:
        parse_workload(text)
    assert (caught.value.rule, caught.value.facts["position"]) == ("sql.star", str(text.index("*", 30) + 1))


def test_statements_over_the_same_rows_become_grouping_sets() -> None:
    (joint,) = joint_queries(plans(BY_KIND, BY_DAY, BOTH))
    assert [key.name for key in joint.plan.keys] == ["kind", "day"]
    assert joint.plan.grouping_sets == ((0, 1), (0,), (1,))
    assert len(joint.plan.aggregates) == 2  # COUNT(*) is asked three times and counted once
    assert [member.keys for member in joint.members] == [(0,), (1,), (1, 0)]
    assert [member.aggregates for member in joint.members] == [(0,), (0, 1), (0,)]
    assert joint.order == (0, 1, 2)


@pytest.mark.parametrize(
    "other",
    [
        "SELECT kind, COUNT(*) AS n FROM homes GROUP BY kind",
        "SELECT kind, COUNT(*) AS n FROM visits WHERE amount > 3 GROUP BY kind",
        "SELECT kind, COUNT(*) AS n FROM visits AS v GROUP BY kind",
        "SELECT kind, MEDIAN(amount) AS n FROM visits GROUP BY kind",
        "SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS(noise='laplace') kind, COUNT(*) AS n FROM visits GROUP BY kind",
    ],
)
def test_other_rows_another_noise_or_no_sum_stay_apart(other: str) -> None:
    joints = joint_queries(plans(BY_DAY, other))
    assert [joint.order for joint in joints] == [(0,), (1,)]
    assert [joint.plan for joint in joints] == list(plans(BY_DAY, other))


def test_what_was_joined_can_be_taken_apart_again() -> None:
    statements = plans(BY_KIND, BY_DAY)
    (joint,) = joint_queries(statements)
    assert [part.plan for part in apart(joint)] == list(statements)
    assert [part.order for part in apart(joint)] == [(0,), (1,)]


@pytest.mark.parametrize(
    "option", ["epsilon=0.5", "delta=1e-7", "target_absolute_error=5", "target_relative_error=0.1"]
)
def test_a_statement_of_a_workload_has_no_budget_of_its_own(option: str) -> None:
    one = f"SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS({option}) COUNT(*) AS n FROM visits"
    assert refused(f"{BY_KIND}; {one}").rule == "sql.workload"


def test_there_are_not_too_many() -> None:
    assert refused(";".join([BY_KIND] * (MAX_STATEMENTS + 1))).rule == "sql.workload"
