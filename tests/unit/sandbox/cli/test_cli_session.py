from __future__ import annotations

import getpass
import io
import json
import os
import sys
from pathlib import Path
from typing import NoReturn

import pytest
import typer
from rich.console import Console

from enclave_runner.contract.errors import Failed, Refused
from sandbox.cli.session import (
    ADVICE,
    EXIT_FAILED,
    EXIT_REFUSED,
    Session,
    built,
    identifier_from_input,
    login_name,
    plain_console,
    print_json,
    readable,
    report_failed,
    report_refused,
)
from sandbox.settings import Home
from tests.support.refusals import failed_at


def _session(tmp_path: Path, as_json: bool = False) -> Session:
    return Session(home=Home(tmp_path), as_json=as_json, person="li")


def test_one_document_with_sorted_keys_and_chinese_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"b": 1, "a": "数据局", "c": {"z": None, "y": (True,)}})
    out = capsys.readouterr().out
    assert json.loads(out) == {"a": "数据局", "b": 1, "c": {"y": [True], "z": None}}
    assert "数据局" in out
    assert list(json.loads(out)) == ["a", "b", "c"]


def test_a_table_for_people_and_the_document_for_scripts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [("a", 1), ("b", 22)]
    _session(tmp_path).table(["document"], "things", ("id", ">count"), rows)
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("things", "id", "count", "22"))
    assert ">" not in shown
    _session(tmp_path).table([], "things", ("id",), [])
    assert capsys.readouterr().out.strip() == "things: none"
    _session(tmp_path, as_json=True).table(["document"], "things", ("id", ">count"), rows)
    assert json.loads(capsys.readouterr().out) == ["document"]


@pytest.mark.parametrize("name", ["[bold]甲[/bold]", "[/]", "[link=http://x]", ":smile:", "甲 [x"])
def test_names_are_no_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    _session(tmp_path).table(None, name, ("name",), [(name,)])
    assert capsys.readouterr().out.count(name) == 2


def test_ids_stand_in_one_piece_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    plain_console().print("x" * 150)
    assert "x" * 150 in capsys.readouterr().out


def test_a_refusal_in_both_languages_with_its_article(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused = Refused("grant.column", column="race")
    assert report_refused(_session(tmp_path), refused) == EXIT_REFUSED
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("grant.column", "第28条", "art. 28", "race", "拒绝", "refused"))
    assert report_refused(_session(tmp_path, as_json=True), refused, {"beside": 1}) == EXIT_REFUSED
    document = json.loads(capsys.readouterr().out)
    assert document["beside"] == 1
    assert (document["refused"]["rule"], document["refused"]["article"]) == ("grant.column", "28")


def test_a_technical_rule_has_no_article(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report_refused(_session(tmp_path), Refused("record.unknown", what="grant"))
    assert "platform rule" in capsys.readouterr().out


def test_a_rule_is_explained_by_the_shipped_pack_when_there_is_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policies = Home(tmp_path).policies
    policies.mkdir(parents=True)
    report_refused(_session(tmp_path), Refused("budget.malformed"))
    (policies / "rules.toml").write_bytes(b"\xff")
    report_refused(_session(tmp_path), Refused("budget.malformed"))
    assert capsys.readouterr().out.count("budget.malformed") == 2


def test_a_fault_comes_with_its_id_and_advice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report_failed(_session(tmp_path), Failed("home.missing", "fault-1")) == EXIT_FAILED
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("fault-1", "home.missing", "yunei init"))
    report_failed(_session(tmp_path, as_json=True), Failed("never.heard", "fault-2"), {"receipt": None})
    document = json.loads(capsys.readouterr().out)
    assert document["receipt"] is None
    assert document["failed"]["fault"] == "fault-2"
    assert document["failed"]["advice"].strip()


@pytest.mark.parametrize("code", ["jail.open", "jail.absent", "jail.zygote-gone", "enclave.absent"])
def test_of_an_enclave_that_does_not_start_for_its_host_the_doctor_knows_more(
    code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report_failed(_session(tmp_path), Failed(code))
    assert "yunei enclave doctor" in capsys.readouterr().out


def test_every_advice_says_something() -> None:
    assert all(len(advice) > 20 for advice in ADVICE.values())


def test_a_value_that_cannot_be_built_is_wrong_usage() -> None:
    def impossible() -> NoReturn:
        raise ValueError("the contract's words")

    assert built(lambda: 7) == 7
    with pytest.raises(typer.BadParameter, match="the contract's words"):
        built(impossible)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (b"", ""),
        (b" p1 \n", "p1"),
        (b"p1\nsecond line\n", "p1"),
        ("编号\r\n".encode(), "编号"),
    ],
)
def test_the_identifier_is_the_first_line(given: bytes, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
    assert identifier_from_input() == expected


def test_bytes_that_are_no_text_give_no_valid_identifier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"p\xff1")))
    assert not identifier_from_input().isprintable()


def test_an_account_without_a_name_has_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> NoReturn:
        raise KeyError("getpwuid(): uid not found: 12345")

    assert login_name() == getpass.getuser()
    monkeypatch.setattr(getpass, "getuser", nobody)
    assert login_name() == f"uid-{os.getuid()}"


def test_readable_is_a_file_that_opens(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert readable(tmp_path / "file") == tmp_path / "file"
    for path in (tmp_path, tmp_path / "nothing", tmp_path / "file" / "below"):
        with failed_at("file.unreadable"):
            readable(path)


def test_there_is_no_office_without_a_deployment(tmp_path: Path) -> None:
    with failed_at("home.missing"), _session(tmp_path / "nowhere").office():
        raise AssertionError("there is no such office")
    assert list(tmp_path.iterdir()) == []


def test_a_console_of_ones_own() -> None:
    out = io.StringIO()
    Session(console=Console(file=out, markup=False)).show({"a": 1}, lambda console: console.print("for people"))
    assert out.getvalue() == "for people\n"
