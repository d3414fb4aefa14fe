"""The traps of SQL, each by its name: the rule that refuses it, and where. Unknown forms are never guessed at."""

from __future__ import annotations

from pathlib import Path

import pytest

from enclave_runner.contract.errors import Refused
from enclave_runner.contract.rulebook import PolicyPack
from enclave_runner.plan.parse import parse_select
from tests.support.sql_traps import TRAPS

PACK = PolicyPack(Path(__file__).parents[4] / "policies")


@pytest.mark.parametrize(("marked", "rule"), TRAPS.values(), ids=TRAPS)
def test_the_trap_is_refused(marked: str, rule: str) -> None:
    sql = marked.replace("^", "", 1)
    with pytest.raises(Refused) as caught:
        parse_select(sql)
    assert caught.value.rule == rule
    position = int(caught.value.facts["position"])
    assert 1 <= position <= len(sql) + 1
    if "^" in marked:
        assert sql[position - 1 :] == marked[marked.index("^") + 1 :]


@pytest.mark.parametrize(("marked", "rule"), TRAPS.values(), ids=TRAPS)
def test_the_refusal_tells_what_to_write_instead(marked: str, rule: str) -> None:
    with pytest.raises(Refused) as caught:
        parse_select(marked.replace("^", "", 1))
    explained = PACK.explain(caught.value)
    assert explained.rule == rule
    texts = (explained.reason, explained.remedy, explained.reason_zh, explained.remedy_zh)
    assert all("{" not in text.replace("{'", "") for text in texts)


def test_each_rule_of_sql_that_reading_raises_is_reached() -> None:
    reached = {rule for _, rule in TRAPS.values()}
    for rule in ("join-form", "subquery", "scalar-subquery", "window", "raw-value", "volatile", "text-function", "cast",
                 "integer-division", "star", "parameter", "contribution", "aggregate-place", "argument", "fraction",
                 "in-list", "number", "whole", "date", "group", "group-alias", "grouping", "order", "output-name",
                 "constant-output", "no-aggregate", "unused", "unnamed", "unknown", "qualify", "source", "clause",
                 "statement", "syntax", "unsupported", "join-subquery", "list"):  # fmt: skip
        assert f"sql.{rule}" in reached
