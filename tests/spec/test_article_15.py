"""第十五条：建立数据质量检查和问题数据纠错机制。本系统按申报的类型、范围与取值逐行校核，驳回只报行号、字段与规则。"""

from __future__ import annotations

import pytest

from enclave_runner.contract.dataset import ColumnType
from enclave_runner.contract.wire import Rejection
from enclave_runner.kinds.checks import row_checks
from tests.support.articles import a_column, a_spec


def test_no_row_may_be_rejected_unless_the_bureau_signed_a_limit() -> None:
    assert a_spec().max_rejected_permille == 0
    with pytest.raises(ValueError, match="rejected"):
        a_spec(max_rejected_permille=1001)


def test_every_declared_property_is_checked_and_no_other() -> None:
    checks = row_checks(a_spec(a_column("amount", nullable=True, bounds=(0, 100))))
    assert "amount:row.type" in checks
    assert "amount:row.bounds" in checks
    assert "amount:row.missing" not in checks
    assert "amount:row.domain" not in checks


def test_public_values_and_required_values_are_checked() -> None:
    checks = row_checks(a_spec(a_column("kind", type=ColumnType.TEXT, bounds=None, domain=("甲", "乙"))))
    assert "kind:row.missing" in checks
    assert "kind:row.domain" in checks


@pytest.mark.parametrize("bounds", [(1, 0), (0, 10**16)])
def test_bounds_are_declared_in_order_and_in_reach(bounds: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="bounds"):
        a_column(bounds=bounds)


def test_a_rejection_has_no_place_for_a_value() -> None:
    rejection = Rejection(row=7, column="amount", rule="row.bounds")
    assert set(rejection.__struct_fields__) == {"row", "column", "rule"}
    with pytest.raises(TypeError):
        Rejection(row=7, column="amount", rule="row.bounds", value="9999")  # type: ignore[call-arg]
