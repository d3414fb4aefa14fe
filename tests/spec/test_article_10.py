"""第十条：公共数据按国家、自治区和本市规则分类分级，逐级管控。本系统对每个字段定级，核心数据（四级）一律不授权。"""

from __future__ import annotations

import pytest

from enclave_runner.contract.errors import Refused
from enclave_runner.contract.grant import Scope
from enclave_runner.plan.nodes import Name
from enclave_runner.plan.tables import Granted, granted_column
from tests.support.articles import a_column, a_dataset, a_spec


@pytest.mark.parametrize("grade", [0, 5, -1])
def test_a_grade_is_one_of_four(grade: int) -> None:
    with pytest.raises(ValueError, match="grade"):
        a_column(grade=grade)


def test_a_dataset_has_the_highest_grade_of_its_columns() -> None:
    assert a_dataset(spec=a_spec(a_column("a", grade=1), a_column("b", grade=2))).grade == 3  # the key is graded 3
    assert a_dataset(spec=a_spec(a_column("a", grade=4))).grade == 4


def test_core_data_is_refused_even_when_granted() -> None:
    spec = a_spec(a_column("a", grade=4))
    with pytest.raises(Refused) as refused:
        granted_column(
            Name(column="a", table=None, position=1), Granted(spec, Scope(dataset_id=spec.dataset_id, columns=("a",)))
        )
    assert refused.value.rule == "dataset.core-grade"


def test_data_below_core_is_allowed_when_granted() -> None:
    spec = a_spec(a_column("a", grade=3))
    assert (
        granted_column(
            Name(column="a", table=None, position=1), Granted(spec, Scope(dataset_id=spec.dataset_id, columns=("a",)))
        ).grade
        == 3
    )
