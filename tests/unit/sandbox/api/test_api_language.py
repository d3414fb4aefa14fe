from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.api.language import Language, preferred


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, Language.ZH),
        ("", Language.ZH),
        ("en", Language.EN),
        ("en-GB,en;q=0.9", Language.EN),
        ("zh-CN", Language.ZH),
        ("en;q=0.5, zh;q=0.9", Language.ZH),
        ("zh;q=0.5, en;q=0.9", Language.EN),
        ("en;q=0", Language.ZH),
        ("en;q=nonsense", Language.ZH),
        ("fr, de", Language.ZH),
        ("*", Language.ZH),
        ("english", Language.ZH),
        ("en; q=0.8", Language.EN),
        ("EN", Language.EN),
    ],
)
def test_the_most_wanted_of_the_two(header: str | None, expected: Language) -> None:
    assert preferred(header) is expected


@given(st.text(max_size=400))
def test_any_header_gives_a_language(header: str) -> None:
    assert preferred(header) in Language


def test_a_quality_that_is_no_number_counts_for_nothing() -> None:
    assert preferred("en;q=nan") is Language.ZH
