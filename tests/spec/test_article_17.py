"""第十七条：公共数据目录应当载明提供部门、数据形式、分类分级、共享属性、开放属性、更新频率。缺一项即不能编目。"""

from __future__ import annotations

import dataclasses

import pytest

from enclave_runner.contract.errors import Refused
from sandbox.domain.dataset import Dataset, Form, Frequency, Opening, Sharing
from tests.support.articles import a_dataset

FIELDS_OF_THE_ARTICLE = {
    "department_id": str,  # 提供部门
    "form": Form,  # 数据形式
    "category": str,  # 分类（分级见 grade）
    "sharing": Sharing,  # 共享属性
    "opening": Opening,  # 开放属性
    "frequency": Frequency,  # 更新频率
}


@pytest.mark.parametrize("field", FIELDS_OF_THE_ARTICLE)
def test_no_dataset_without_a_field_of_the_catalogue(field: str) -> None:
    complete = a_dataset()
    fields = {item.name: getattr(complete, item.name) for item in dataclasses.fields(complete) if item.name != field}
    assert isinstance(getattr(complete, field), FIELDS_OF_THE_ARTICLE[field])
    with pytest.raises(TypeError, match=field):
        Dataset(**fields)


@pytest.mark.parametrize(("field", "empty"), [("title", " "), ("department_id", ""), ("category", "\t")])
def test_an_empty_field_is_a_missing_one(field: str, empty: str) -> None:
    with pytest.raises(Refused) as refused:
        a_dataset(**{field: empty})
    assert refused.value.rule == "dataset.incomplete"


def test_the_grade_follows_from_the_columns() -> None:
    assert 1 <= a_dataset().grade <= 4


def test_an_entry_cannot_be_changed_in_place() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        a_dataset().title = "其他"  # type: ignore[misc]
