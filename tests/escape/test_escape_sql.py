"""SQL as an attack: on the locked engine in the jail, at the gate over the tree, and as a job that must not tell."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pytest

from enclave_runner.contract.codec import decode, encode
from enclave_runner.contract.errors import Failed
from enclave_runner.jail.launcher import Zygote
from enclave_runner.kinds.tasks import Declined, ParsedTable, Parsing, TaskAnswer
from tests.support.hostile_program import AttemptZygote, bounded
from tests.support.hostile_sql import (
    CANARY,
    CLOSED_BY_GATE,
    CLOSED_BY_SETTINGS,
    NUMBER,
    PLANT,
    PROVOCATIONS,
    gated,
    judged,
)
from tests.support.tally import TALLY

PROFILE = bounded(memory_mb=1024)
CLOSED = {"PermissionException", "InvalidInputException"}
# These read like honest queries: that the table is not granted, and a number unbounded, shows in the binding; MIN is a
# noisy quantile.
NOT_OF_THE_TEXT = {"other-table", "filtered", "plain-min"}
RENDERED = "SELECT CAST(sum(n) AS HUGEINT) FROM t0"


@pytest.fixture
def plain() -> Iterator[duckdb.DuckDBPyConnection]:
    """DuckDB as it comes, with the planted table."""
    with duckdb.connect() as connection:
        connection.execute(PLANT)
        yield connection


@pytest.fixture(scope="module")
def parser() -> Iterator[Zygote]:
    """The enclave's own zygote."""
    with Zygote() as zygote:
        yield zygote


def run(zygote: AttemptZygote, sql: str, mode: str) -> str:
    return zygote.run(b"sql " + json.dumps({"sql": sql, "mode": mode}).encode(), [], PROFILE).decode()


def planned(zygote: Zygote, sql: str) -> TaskAnswer:
    """What the enclave makes of an operator's text."""
    raw = zygote.run(encode(Parsing(sql=sql, features=False)), [], PROFILE)
    return decode(raw, TaskAnswer)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", CLOSED_BY_SETTINGS)
def test_the_locked_engine_refuses(
    name: str, zygote_of: Callable[[str], AttemptZygote], plain: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    file, statement = tmp_path / "file", CLOSED_BY_SETTINGS[name]
    file.write_text("a,1\nb,2\n")
    inside = run(zygote_of("jail"), statement.format(file="/proc/self/status", made="/scratch/made"), "judge")
    assert inside in CLOSED
    outside = judged(plain, statement.format(file=file, made=tmp_path / "made"))
    assert outside == "ok", f"the control answered {outside}"
    TALLY.count("SQL settings")


@pytest.mark.parametrize("name", CLOSED_BY_GATE)
def test_the_gate_refuses_what_the_engine_would_run(
    name: str, zygote_of: Callable[[str], AttemptZygote], plain: duckdb.DuckDBPyConnection
) -> None:
    statement = CLOSED_BY_GATE[name]
    assert run(zygote_of("jail"), statement, "gate") == "UnlistedSqlError"
    plain.execute("SET VARIABLE a = 1")
    outside = judged(plain, statement)
    assert outside == "ok", f"the control answered {outside}"
    TALLY.count("SQL gate")


def test_the_gate_lets_rendered_sql_through(zygote_of: Callable[[str], AttemptZygote]) -> None:
    """Control: it does not refuse everything."""
    assert run(zygote_of("jail"), RENDERED, "gate") == "ok"
    with duckdb.connect() as connection:
        connection.execute(PLANT)
        assert gated(connection, RENDERED) == "ok"


@pytest.mark.parametrize("name", sorted({*CLOSED_BY_SETTINGS, *CLOSED_BY_GATE} - NOT_OF_THE_TEXT))
def test_an_operators_text_never_gets_so_far(name: str, parser: Zygote) -> None:
    statement = (CLOSED_BY_SETTINGS | CLOSED_BY_GATE)[name].format(file="/etc/passwd", made="/tmp/made")
    answer = planned(parser, statement)
    assert isinstance(answer, Declined)
    assert answer.rule.startswith("sql.")


def test_an_honest_text_does(parser: Zygote) -> None:
    """Control of the test above."""
    assert isinstance(planned(parser, "SELECT COUNT(*) AS n FROM t0"), ParsedTable)


@pytest.mark.parametrize("name", PROVOCATIONS)
def test_a_provoked_error_tells_nothing(
    name: str, zygote_of: Callable[[str], AttemptZygote], plain: duckdb.DuckDBPyConnection
) -> None:
    statement = f"SELECT {PROVOCATIONS[name]} FROM t0"
    with pytest.raises(Failed) as caught:
        run(zygote_of("jail"), statement, "raise")
    assert caught.value.code == "job.broken"
    said = "".join(f"{error!r}" for error in (caught.value, caught.value.__cause__, caught.value.__context__))
    assert not _planted_in(said)
    with pytest.raises(duckdb.Error) as told:
        plain.execute(statement).fetchall()
    assert _planted_in(str(told.value)), "the control is silent too"
    TALLY.count("ERR")


def _planted_in(text: str) -> bool:
    """The value, its number, or enough of either to tell it from others."""
    folded = text.replace(",", "").lower()
    return any(part in folded for part in (CANARY.lower(), CANARY[1:].lower(), str(NUMBER), str(NUMBER)[:6]))


def test_a_quiet_statement_is_answered(zygote_of: Callable[[str], AttemptZygote]) -> None:
    """Control: the same way gives an answer where nothing is provoked."""
    assert run(zygote_of("jail"), "SELECT sum(n) FROM t0", "raise") == "ok"
