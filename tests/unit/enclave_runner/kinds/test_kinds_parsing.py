"""Reading an operator's text in a worker: its plan, or the refusal with its position; and the same over the wire."""

from __future__ import annotations

import pytest

from enclave_runner.contract.codec import decode, encode
from enclave_runner.contract.errors import Refused
from enclave_runner.kinds import parsing
from enclave_runner.kinds.tasks import Declined, ParsedFeatures, ParsedTable, Parsing, TaskAnswer
from enclave_runner.plan.parse import parse_features, parse_select

TABLE = "SELECT sex, COUNT(*) AS n, SUM(income) AS s FROM people WHERE age > 30 AND city IN ('a', 'b') GROUP BY sex"
FEATURES = "SELECT age, income FROM people WHERE active = true"


def test_a_text_becomes_the_plan_that_its_reader_makes() -> None:
    assert parsing.run(Parsing(sql=TABLE, features=False), []) == ParsedTable(plan=parse_select(TABLE))
    assert parsing.run(Parsing(sql=FEATURES, features=True), []) == ParsedFeatures(plan=parse_features(FEATURES))


@pytest.mark.parametrize(("sql", "features"), [(TABLE, False), (FEATURES, True)])
def test_a_plan_comes_out_of_the_jail_as_it_went_in(sql: str, features: bool) -> None:
    answer = parsing.run(Parsing(sql=sql, features=features), [])
    assert decode(encode(answer), TaskAnswer) == answer  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "sql", ["", "DROP TABLE people", "SELECT COUNT(* FROM people", "SELECT * FROM people", "(" * 300]
)
def test_a_refusal_is_the_readers_own(sql: str) -> None:
    for features, read in ((False, parse_select), (True, parse_features)):
        with pytest.raises(Refused) as caught:
            read(sql)
        answer = parsing.run(Parsing(sql=sql, features=features), [])
        assert answer == Declined(rule=caught.value.rule, facts=caught.value.facts)
