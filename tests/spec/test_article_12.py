"""第十二条：收集公共数据以公民身份号码、统一社会信用代码作为必要标识。本系统校验其格式与校验码，并以此确定保护对象。"""

from __future__ import annotations

import pytest

from enclave_runner.contract.dataset import KeyKind
from enclave_runner.contract.errors import Refused
from tests.support.articles import CREDIT_CODE, a_party, a_spec


def test_an_organisation_carries_a_valid_credit_code() -> None:
    assert a_party().credit_code == CREDIT_CODE


@pytest.mark.parametrize("place", range(18))
def test_one_wrong_character_of_a_credit_code_is_caught(place: int) -> None:
    wrong = "2" if CREDIT_CODE[place] != "2" else "3"
    with pytest.raises(Refused) as refused:
        a_party(credit_code=CREDIT_CODE[:place] + wrong + CREDIT_CODE[place + 1 :])
    assert refused.value.rule == "party.credit-code"


@pytest.mark.parametrize("code", ["", "0", CREDIT_CODE[:-1], CREDIT_CODE + "0", "I" * 18, "九" * 18])
def test_what_is_no_credit_code_is_refused(code: str) -> None:
    with pytest.raises(Refused) as refused:
        a_party(credit_code=code)
    assert refused.value.rule == "party.credit-code"
    assert not refused.value.facts


def test_a_table_names_its_necessary_identifier() -> None:
    spec = a_spec()
    assert spec.key_kind is KeyKind.RESIDENT_ID
    assert spec.column(spec.entity_column) is not None
    with pytest.raises(ValueError, match="entity column"):
        a_spec(entity_column="nobody")
