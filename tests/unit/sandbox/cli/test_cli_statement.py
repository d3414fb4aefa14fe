from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from enclave_runner.contract.errors import Refused
from sandbox.cli.session import Session
from sandbox.cli.statement import AFTER, BEFORE, pointed, pointing_into

SQL = "SELECT sex,\n       random() AS 随机\nFROM adult"


def test_the_line_of_the_position_and_a_mark_below_it() -> None:
    assert pointed(SQL, SQL.index("random") + 1) == "       random() AS 随机\n       ^"
    assert pointed(SQL, 1) == "SELECT sex,\n^"
    assert pointed("SELECT 年龄, x", 12) == "SELECT 年龄, x\n             ^"


def test_a_long_line_is_cut_around_the_position() -> None:
    text = "a" * 500
    line, mark = pointed(text, 250).splitlines()
    assert line == f"…{'a' * (BEFORE + AFTER)}…"
    assert mark == " " * (BEFORE + 1) + "^"


@given(st.text(min_size=1, max_size=300).flatmap(lambda text: st.tuples(st.just(text), st.integers(1, len(text)))))
def test_any_text_is_pointed_into_and_steers_no_terminal(given_text: tuple[str, int]) -> None:
    shown, mark = pointed(*given_text).rsplit("\n", 1)
    assert mark.strip() == "^"
    assert cell_len(mark) <= cell_len(shown) + 1
    assert "\x1b" not in shown
    assert "\r" not in shown


@pytest.mark.parametrize(
    ("facts", "as_json", "said"),
    [
        ({"position": 20, "what": "x"}, False, "       random() AS 随机\n       ^\n"),
        ({"position": 20, "what": "x"}, True, ""),
        ({"position": 0}, False, ""),
        ({"position": 999}, False, ""),
        ({"what": "x"}, False, ""),
    ],
)
def test_only_a_refusal_with_a_place_points(facts: dict[str, str | int], as_json: bool, said: str) -> None:
    out = io.StringIO()
    session = Session(as_json=as_json, console=Console(file=out, width=80, markup=False))
    with pytest.raises(Refused), pointing_into(session, SQL):
        raise Refused("sql.volatile", **facts)
    assert out.getvalue() == said
