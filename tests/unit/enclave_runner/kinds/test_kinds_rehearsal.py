"""The zero-row twin: the engine's error in full, over a table that has types and no rows."""

from __future__ import annotations

import pytest

from enclave_runner.contract.dataset import ColumnType
from enclave_runner.kinds import rehearsal
from enclave_runner.kinds.sql_gate import UnlistedSqlError
from enclave_runner.kinds.tasks import Declined, Done, Rehearsal

COLUMNS = tuple((kind.value, kind) for kind in ColumnType)


def said(sql: str) -> str:
    answer = rehearsal.run(Rehearsal(sql=(sql,), tables=(COLUMNS,)), [])
    assert isinstance(answer, Declined)
    assert answer.rule == "sql.engine"
    return answer.facts["what"]


@pytest.mark.parametrize("name", [*(kind.value for kind in ColumnType), "_unit", "_rows", "_norm"])
def test_every_type_and_what_the_builder_adds_are_there(name: str) -> None:
    assert rehearsal.run(Rehearsal(sql=(f'SELECT "{name}" FROM t0',), tables=(COLUMNS,)), []) == Done()


@pytest.mark.parametrize(
    ("sql", "part"),
    [
        ('SELECT "integr" FROM t0', 'Referenced column "integr" not found'),
        ('SELECT sum("text") FROM t0', "No function matches"),
    ],
)
def test_the_engines_words_reach_the_operator(sql: str, part: str) -> None:
    assert part in said(sql)


def test_what_the_gate_does_not_list_is_not_run_here_either() -> None:
    with pytest.raises(UnlistedSqlError):
        rehearsal.run(Rehearsal(sql=("SELECT * FROM read_csv('/etc/passwd')",), tables=(COLUMNS,)), [])


def test_words_are_one_line_of_bounded_length() -> None:
    text = said(f'SELECT "{"x" * 2000}" FROM t0')
    assert len(text) <= rehearsal.TOLD
    assert "\n" not in text


def test_every_statement_is_run_over_every_table() -> None:
    tables = (COLUMNS, (("code", ColumnType.TEXT),))
    joined = 'SELECT count(*) FROM t0 JOIN t1 ON t0."text" = t1."code"'
    assert rehearsal.run(Rehearsal(sql=(joined, joined), tables=tables), []) == Done()
    answer = rehearsal.run(Rehearsal(sql=(joined, "SELECT count(*) FROM t2"), tables=tables), [])
    assert isinstance(answer, Declined)
    assert "t2" in answer.facts["what"]
