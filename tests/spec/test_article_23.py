"""第二十三条：公共数据分为无条件共享、有条件共享和不予共享；列入不予共享类的，应当提供明确的法律法规依据。"""

from __future__ import annotations

import pytest

from enclave_runner.contract.dataset import Column, ColumnType
from enclave_runner.contract.errors import Refused
from sandbox.domain.dataset import Sharing
from tests.support.articles import a_column, a_dataset, a_spec

BASIS = "《中华人民共和国统计法》第二十八条"


def test_sharing_has_three_types() -> None:
    assert {kind.value for kind in Sharing} == {"unconditional", "conditional", "none"}


def test_not_shared_needs_a_basis_for_every_column() -> None:
    key = Column(name="resident_id", title="公民身份号码", type=ColumnType.TEXT, withheld=BASIS)
    withheld = a_spec(columns=(key, a_column(withheld=BASIS)))
    assert a_dataset(sharing=Sharing.NONE, spec=withheld).sharing is Sharing.NONE


@pytest.mark.parametrize("basis", [None, BASIS])
def test_one_column_without_a_basis_is_enough_to_refuse(basis: str | None) -> None:
    with pytest.raises(Refused) as refused:
        a_dataset(sharing=Sharing.NONE, spec=a_spec(a_column(withheld=basis)))  # the key has none
    assert refused.value.rule == "dataset.no-basis"
    assert refused.value.facts == {"dataset": "insurance"}


@pytest.mark.parametrize("sharing", [Sharing.CONDITIONAL, Sharing.UNCONDITIONAL])
def test_shared_data_need_no_basis(sharing: Sharing) -> None:
    assert a_dataset(sharing=sharing).sharing is sharing
