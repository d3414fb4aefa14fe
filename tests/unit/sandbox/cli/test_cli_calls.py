"""How the command line says an answer."""

from __future__ import annotations

import pytest

from enclave_runner.contract.check import Verdict
from sandbox.cli.calls import in_words


@pytest.mark.parametrize(
    ("verdict", "said"),
    [("yes", "是 / yes"), ("no", "否 / no"), ("cannot-say", "不能判断 / cannot-say"), ("0", "第 0 档 / level 0")],
)
def test_every_answer_is_said_in_both_languages(verdict: str, said: str) -> None:
    assert in_words(verdict) == said


def test_no_verdict_is_taken_for_a_level() -> None:
    assert not [verdict for verdict in Verdict if "level" in in_words(verdict.value)]
