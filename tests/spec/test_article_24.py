"""第二十四条：实行共享负面清单制度，清单载明提供部门、数据名称、数据字段和法律法规依据。列入清单的字段，授权也不能使用。"""

from __future__ import annotations

import pytest

from enclave_runner.contract.errors import Refused
from enclave_runner.contract.grant import Scope
from enclave_runner.plan.nodes import Name
from enclave_runner.plan.tables import Granted, granted_column
from tests.support.articles import a_column, a_spec

BASIS = "《中华人民共和国反间谍法》相关规定"


@pytest.mark.parametrize("basis", ["", "  ", "\n"])
def test_no_column_is_withheld_without_a_basis(basis: str) -> None:
    with pytest.raises(ValueError, match="legal basis"):
        a_column(withheld=basis)


def test_a_withheld_column_refuses_a_grant_that_names_it_and_says_why() -> None:
    spec = a_spec(a_column("amount", withheld=BASIS))
    with pytest.raises(Refused) as refused:
        granted_column(
            Name(column="amount", table=None, position=1),
            Granted(spec, Scope(dataset_id=spec.dataset_id, columns=("amount",))),
        )
    assert (refused.value.rule, refused.value.facts) == ("dataset.withheld", {"column": "amount", "basis": BASIS})


def test_what_is_not_on_the_list_is_shared() -> None:
    spec = a_spec(a_column("amount"), a_column("secret", withheld=BASIS))
    scope = Scope(dataset_id=spec.dataset_id, columns=("amount", "secret"))
    assert granted_column(Name(column="amount", table=None, position=1), Granted(spec, scope)).name == "amount"
