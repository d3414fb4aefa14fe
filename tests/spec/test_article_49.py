"""第四十九条：使用主体违规的，提出整改要求并暂时关闭其数据获取权限；未按要求整改的，终止对其提供公共数据服务。"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from enclave_runner.contract.errors import Refused
from sandbox.domain.party import PARTY_LIFECYCLE, PartyStatus
from sandbox.domain.product import PRODUCT_LIFECYCLE, ProductStatus
from sandbox.workflow.parties import register_party, set_party_status
from tests.support.articles import a_party
from tests.support.bureau import BANK, furnished_bureau


def test_a_new_party_is_active() -> None:
    assert a_party().status is PartyStatus.ACTIVE is PARTY_LIFECYCLE.initial


def test_suspension_can_be_lifted_after_rectification() -> None:
    assert PARTY_LIFECYCLE.check(PartyStatus.ACTIVE, PartyStatus.SUSPENDED) is PartyStatus.SUSPENDED
    assert PARTY_LIFECYCLE.check(PartyStatus.SUSPENDED, PartyStatus.ACTIVE) is PartyStatus.ACTIVE


def test_termination_follows_suspension_and_never_comes_first() -> None:
    assert PARTY_LIFECYCLE.check(PartyStatus.SUSPENDED, PartyStatus.TERMINATED) is PartyStatus.TERMINATED
    with pytest.raises(Refused) as refused:
        PARTY_LIFECYCLE.check(PartyStatus.ACTIVE, PartyStatus.TERMINATED)
    assert refused.value.facts == {"what": "party", "current": "active", "target": "terminated"}


@pytest.mark.parametrize("target", PartyStatus)
def test_a_terminated_party_never_comes_back(target: PartyStatus) -> None:
    with pytest.raises(Refused) as refused:
        PARTY_LIFECYCLE.check(PartyStatus.TERMINATED, target)
    assert refused.value.rule == "lifecycle.illegal"


def test_a_product_can_be_closed_and_reopened() -> None:
    assert PRODUCT_LIFECYCLE.check(ProductStatus.PUBLISHED, ProductStatus.SUSPENDED) is ProductStatus.SUSPENDED
    assert PRODUCT_LIFECYCLE.check(ProductStatus.SUSPENDED, ProductStatus.PUBLISHED) is ProductStatus.PUBLISHED


def test_a_suspended_organisation_does_not_register_again_under_another_id(tmp_path: Path) -> None:
    bureau = furnished_bureau(tmp_path)
    set_party_status(bureau.office, bureau.actor(), BANK, PartyStatus.SUSPENDED, "整改")
    again = replace(bureau.actor(BANK).party, party_id="bank-again")
    with pytest.raises(Refused) as refused:
        register_party(bureau.office, bureau.actor(), again)
    assert refused.value.rule == "party.code-taken"
