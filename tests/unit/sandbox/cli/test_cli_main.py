from __future__ import annotations

from pathlib import Path

import pytest

from enclave_runner.contract.errors import Failed, Refused
from sandbox.cli import main as program
from sandbox.cli.main import hoist
from tests.support.command_line import call_main, with_json


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], []),
        (["party", "list"], ["party", "list"]),
        (["party", "list", "--json"], ["--json", "party", "list"]),
        (["party", "--home", "h", "list", "--json"], ["--home", "h", "--json", "party", "list"]),
        (["party", "list", "--home=h"], ["--home=h", "party", "list"]),
        (["party", "list", "--as", "op", "--person", "li"], ["--as", "op", "--person", "li", "party", "list"]),
        (["party", "list", "--home"], ["--home", "party", "list"]),
        (["x", "--home", "--json"], ["--home", "--json", "x"]),
        (["x", "--", "--json", "--home", "h"], ["x", "--", "--json", "--home", "h"]),
        (["submit", "sql", "--homely", "--jsonl"], ["submit", "sql", "--homely", "--jsonl"]),
    ],
)
def test_global_options_may_stand_anywhere(given: list[str], expected: list[str]) -> None:
    assert hoist(given) == expected


def test_a_place_for_json_is_never_an_options_value() -> None:
    line = ("party", "--home", "h", "list")
    lines = [with_json(line, place) for place in range(4)]
    assert ["party", "--home", "--json", "h", "list"] not in lines
    assert {tuple(hoist(item)) for item in lines} == {
        ("--json", "--home", "h", "party", "list"),
        ("--home", "h", "--json", "party", "list"),
    }


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (Refused("budget.malformed"), 3, "budget.malformed"),
        (Failed("home.busy"), 4, "home.busy"),
        (RuntimeError("the value 110105194912310021"), 4, "cli.unexpected"),
        (KeyError("the value 110105194912310021"), 4, "cli.unexpected"),
    ],
)
@pytest.mark.parametrize("json", [(), ("--json",)])
def test_errors_of_every_kind_have_a_code_and_quote_nothing(
    error: Exception, code: int, said: str, json: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(program.deployment, "create_deployment", fail)
    answer = call_main("init", "--home", str(tmp_path), *json)
    assert answer.code == code
    assert said in answer.out
    assert "110105194912310021" not in answer.out + answer.err
    assert (type(error).__name__ in answer.err) == (said == "cli.unexpected")


def test_the_home_is_the_option_then_the_variable_then_var(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    spoilt, variable = str(tmp_path / "file"), {"YUNEI_HOME": str(tmp_path / "file")}
    assert call_main("init", "--json", "--home", spoilt).fault == (4, "home.folder")
    assert call_main("init", "--json", environment=variable).fault == (4, "home.folder")
    (tmp_path / "var").touch()
    assert call_main("init", "--json", cwd=tmp_path).fault == (4, "home.folder")
    assert call_main("party", "list", "--json", "--home", str(tmp_path / "x"), environment=variable).fault[0] == 4
