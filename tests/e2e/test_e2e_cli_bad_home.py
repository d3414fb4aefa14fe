"""Deployments that are not there, not whole or not ours: a fault with advice, never a traceback, nothing half-made."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer

from enclave_runner.contract.signing import KeyFile
from sandbox.cli.main import app
from sandbox.settings import Home
from tests.support.command_line import ROOT, call_main
from tests.support.deployment import make_deployment
from tests.support.deployment_state import changes, state_of


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A whole deployment; tests that spoil one take a copy."""
    return make_deployment(tmp_path_factory.mktemp("made") / "home")


@pytest.fixture
def spoilt(made: Home, tmp_path: Path) -> Home:
    """A copy of it."""
    shutil.copytree(made.folder, tmp_path / "home", ignore=shutil.ignore_patterns("*.sock"))
    return Home(tmp_path / "home")


def _leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, child in command.commands.items():
        yield from _leaves(child, (*path, name)) if hasattr(child, "commands") else [(*path, name)]


COMMANDS = list(_leaves(typer.main.get_command(app)))
WITHOUT_DEPLOYMENT = {("init",), ("serve",), ("demo",), ("enclave", "doctor"), ("enclave", "expect")}


def test_there_are_as_many_commands_as_there_seem() -> None:
    assert len(COMMANDS) > 35
    assert set(COMMANDS) >= WITHOUT_DEPLOYMENT


@pytest.mark.parametrize("command", [c for c in COMMANDS if c not in WITHOUT_DEPLOYMENT], ids=" ".join)
def test_every_command_answers_a_script_in_one_document(command: tuple[str, ...], tmp_path: Path) -> None:
    """Without its arguments it tells the usage, with nothing missing but the deployment it says that."""
    answer = call_main(*command, "--json", "--home", str(tmp_path / "nowhere"))
    assert (answer.code, set(answer.document)) in ((2, {"usage"}), (4, {"failed"}))
    if "failed" in answer.document:
        assert answer.fault == (4, "home.missing")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_helps_in_both_languages(command: tuple[str, ...]) -> None:
    answer = call_main(*command, "--help")
    assert answer.code == 0
    assert any("\u4e00" <= character <= "\u9fff" for character in answer.out)
    assert command[-1] in answer.out


@pytest.mark.parametrize(
    "line", [("--json",), ("nothing", "--json"), ("party", "--json"), ("--json", "party", "list", "x")]
)
def test_wrong_usage_is_told_to_scripts_too(line: tuple[str, ...]) -> None:
    assert call_main(*line).usage.strip()


def test_an_empty_folder_becomes_a_deployment_without_any_option(tmp_path: Path) -> None:
    made = call_main("init", "--json", cwd=tmp_path)
    assert made.code == 0, made
    assert made.document["home"] == str(tmp_path / "var")
    again = call_main("init", "--json", cwd=tmp_path)
    assert again.fault == (4, "home.exists")
    named = call_main("party", "list", "--json", environment={"YUNEI_HOME": str(tmp_path / "var")})
    assert [party["party_id"] for party in named.document] == ["bureau"]


def test_a_deployment_is_never_made_over_another(made: Home) -> None:
    before = state_of(made)
    assert call_main("init", "--json", "--home", str(made.folder)).fault == (4, "home.exists")
    assert changes(before, state_of(made)) == set()


def test_a_folder_in_use_is_no_home(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    assert call_main("init", "--json", "--home", str(tmp_path)).fault == (4, "home.exists")
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_file_is_no_home(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        assert call_main("init", "--json", "--home", str(place)).fault == (4, "home.folder")
        assert call_main("party", "list", "--json", "--home", str(place)).fault == (4, "home.missing")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("more", "rule", "article"),
    [(("--credit-code", "11590100MA08HREU5K"), "party.credit-code", "12"), (("--name", " "), "party.name", "-")],
)
def test_a_bureau_needs_a_name_and_a_code(tmp_path: Path, more: tuple[str, ...], rule: str, article: str) -> None:
    answer = call_main("init", "--json", "--home", str(tmp_path / "home"), *more)
    assert answer.rule == (3, rule, article)
    assert list(tmp_path.iterdir()) == []


def test_an_init_that_fails_can_be_tried_again(tmp_path: Path) -> None:
    key, home = tmp_path / "officer.key", tmp_path / "home"
    KeyFile.create(key)
    key.chmod(0o644)
    line = ("init", "--json", "--home", str(home), "--officer-key", str(key))
    assert call_main(*line).fault == (4, "key.permissions")
    assert list(home.rglob("*")) == []
    key.chmod(0o600)
    assert call_main(*line).code == 0
    assert not Home(home).officer_key.exists()  # it stays where the officer keeps it


def _fault(home: Home) -> tuple[int, str]:
    return call_main("party", "list", "--json", "--home", str(home.folder)).fault


def test_an_enclave_that_is_gone_is_not_replaced(spoilt: Home) -> None:
    shutil.rmtree(spoilt.enclave)
    assert _fault(spoilt) == (4, "home.unreadable")
    assert not spoilt.enclave.exists()


def test_a_database_that_is_gone_is_not_replaced(spoilt: Home) -> None:
    for part in spoilt.bureau.glob("control.db*"):
        part.unlink()
    assert _fault(spoilt) == (4, "home.incomplete")
    assert not spoilt.control_db.exists()


def test_a_database_that_is_none(spoilt: Home) -> None:
    for part in spoilt.bureau.glob("control.db*"):
        part.unlink()
    spoilt.control_db.write_bytes(b"no database at all " * 1000)
    answer = call_main("party", "list", "--json", "--home", str(spoilt.folder))
    assert answer.code == 4
    assert json.loads(answer.out)["failed"]["code"] == "cli.unexpected"
    assert answer.err.startswith("yunei: DatabaseError at ")  # a name and a place, no text of the exception
    assert answer.err.count("\n") == 1


def test_the_control_planes_key_must_be_its_own(spoilt: Home) -> None:
    spoilt.control_key.chmod(0o644)
    assert _fault(spoilt) == (4, "key.permissions")


def test_a_broken_policy_pack_stops_everything_and_refusals_are_still_told(spoilt: Home) -> None:
    (spoilt.policies / "rules.toml").write_text("[")
    assert _fault(spoilt) == (4, "policy.unreadable")
    line = ("submit", "sql", "SELECT", "--grant", "g", "--epsilon", "NaN", "--json", "--home", str(spoilt.folder))
    assert call_main(*line).rule == (3, "budget.malformed", "-")


@pytest.mark.slow
def test_serve_makes_a_deployment_and_says_where_in_one_document(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    line = [sys.executable, "-m", "sandbox.cli", "serve", "--port", str(port), "--json", "--home", str(tmp_path / "h")]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT) as process:
        deadline, healthy = time.monotonic() + 60, False
        while not healthy and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.1)
            try:
                healthy = httpx.get(f"http://127.0.0.1:{port}/v1/health").status_code == 200
            except httpx.TransportError:
                continue
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
    assert healthy
    assert json.loads(out) == {"url": f"http://127.0.0.1:{port}"}
