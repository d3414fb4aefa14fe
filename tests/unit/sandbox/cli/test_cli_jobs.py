from __future__ import annotations

from pathlib import Path

import pytest
import typer

from enclave_runner.contract.errors import Failed
from sandbox.cli.jobs import query_job, text_of
from tests.support.command_line import call_main
from tests.support.refusals import refused_by


def test_a_query_carries_its_text_and_budget_unchanged() -> None:
    job = query_job("SELECT 1", "0.10", "1e-7")
    assert (job.sql, job.budget.epsilon, job.budget.delta) == ("SELECT 1", "0.10", "1e-7")


@pytest.mark.parametrize("sql", ["", "x" * 20_001])
def test_a_text_that_is_no_query_is_wrong_usage(sql: str) -> None:
    with pytest.raises(typer.BadParameter, match="SQL text"):
        query_job(sql, "1", "1e-6")


@pytest.mark.parametrize(("epsilon", "delta"), [("0", "1e-6"), ("nan", "1e-6"), ("1", "0"), ("1", "inf"), ("1", "0.1")])
def test_a_budget_that_is_none_is_refused(epsilon: str, delta: str) -> None:
    with refused_by("budget.malformed"):
        query_job("SELECT 1", epsilon, delta)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (("submit", "SELECT 1"), "--grant"),  # the statement was taken, the grant is missing
        (("submit", "--epsilon", "1", "SELECT 1"), "--grant"),
        (("submit", "sql", "SELECT 1"), "--grant"),
        (("submit", "SELECT 1", "--gramt", "g"), "--gramt"),
        (("submit", "shoe"), "shoe"),
        (("submit",), "command"),
    ],
)
def test_a_statement_alone_is_a_query_and_a_word_is_a_command(line: tuple[str, ...], said: str) -> None:
    assert said.lower() in call_main(*line, "--json").usage.lower()


def test_the_help_of_submit_lists_its_commands() -> None:
    shown = call_main("submit", "--help")
    assert shown.code == 0
    assert all(word in shown.out for word in ("sql", "model", "verify"))


@pytest.mark.parametrize("option", ["--chart", "--csv"])
def test_a_place_that_takes_no_file_is_noticed_before_anything_is_spent(option: str) -> None:
    """There is not even a deployment here: the file is looked at first."""
    line = ("submit", "SELECT 1 FROM t", "--grant", "g", option, "/nowhere/at/all.svg", "--json", "--home", "/nowhere")
    assert call_main(*line).fault == (4, "file.unwritable")


def test_a_workload_is_the_text_of_its_file(tmp_path: Path) -> None:
    file = tmp_path / "questions.sql"
    file.write_bytes("\ufeffSELECT 1;\nSELECT '北'".encode())
    assert text_of(None, file) == "SELECT 1;\nSELECT '北'"
    assert text_of("SELECT 1", None) == "SELECT 1"
    for both in ((None, None), ("SELECT 1", file)):
        with pytest.raises(typer.BadParameter, match="one of them"):
            text_of(*both)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(typer.BadParameter):
        text_of(None, file)
    with pytest.raises(Failed, match=r"file\.unreadable"):
        text_of(None, tmp_path / "missing.sql")
