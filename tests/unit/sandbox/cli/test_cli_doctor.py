"""The examination as people see it: by layer, with the cause and the fix of whatever is not blocked."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from enclave_runner.jail.profile import JailProfile
from enclave_runner.supervisor.doctor import LAYERS as ENCLAVE_LAYERS
from enclave_runner.supervisor.host import SWITCHES
from sandbox.cli.doctor import ADVICE, LAYERS, OPEN_ADVICE, print_examination
from tests.support.command_line import call_main
from tests.support.enclave_home import make_bureau


def shown(*rows: tuple[str, str, str, str], ok: bool = False) -> str:
    """What stands on the screen."""
    probes = [dict(zip(("name", "layer", "outcome", "detail"), row, strict=True)) for row in rows]
    report: dict[str, Any] = {"probes": probes, "ok": ok, "kernel": "6.1.0", "landlock_abi": 2}
    console = Console(file=io.StringIO(), width=200, markup=False, emoji=False)
    print_examination(console, report)
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_a_closed_jail_needs_no_advice() -> None:
    text = shown(("fork", "seccomp", "BLOCKED", "EPERM"), ("mount", "seccomp", "BLOCKED", "EPERM"), ok=True)
    assert "2 次尝试全部被拦住 / all attempts blocked" in text
    assert "Linux 6.1.0 · Landlock ABI 2" in text
    assert text.count("系统调用 / seccomp") == 1
    assert OPEN_ADVICE[1] not in text


@pytest.mark.parametrize("name", ADVICE)
def test_what_is_missing_comes_with_cause_and_fix_in_both_languages(name: str) -> None:
    text = shown((name, "namespaces", "MISSING", "EPERM"))
    assert all(part in text for part in ADVICE[name])
    assert "不能运行作业 / no job runs on this host" in text


@pytest.mark.parametrize("outcome", ["ALLOWED", "MISSING"])
def test_an_open_attempt_says_that_the_layer_did_not_hold(outcome: str) -> None:
    text = shown(("fork", "seccomp", outcome, "it went through"), ("kill", "seccomp", "BLOCKED", "EPERM"))
    assert f"{outcome} seccomp/fork: it went through" in text
    assert all(part in text for part in OPEN_ADVICE)
    assert text.count(OPEN_ADVICE[1]) == 1


def test_every_layer_and_every_lack_of_the_enclave_has_words() -> None:
    assert set(LAYERS) == set(ENCLAVE_LAYERS)
    lacks = {*SWITCHES, "user-namespaces", "private-root", "landlock", "landlock-floor", "processor", "seccomp", "jail"}
    assert set(ADVICE) == lacks


@pytest.mark.slow
def test_the_deployments_own_limits_are_examined(tmp_path: Path) -> None:
    place = ("--home", str(tmp_path), "--json")
    assert call_main("enclave", "doctor", *place).document["profile"]["wall_seconds"] == JailProfile().wall_seconds
    (tmp_path / "made").mkdir()
    make_bureau(tmp_path / "made", wall_seconds="77").home.folder.rename(tmp_path / "enclave")
    assert call_main("enclave", "doctor", *place).document["profile"]["wall_seconds"] == 77
    (tmp_path / "enclave" / "policies" / "limits.toml").unlink()
    assert call_main("enclave", "doctor", *place).fault[1].startswith("policy.")


def test_an_unknown_layer_of_a_later_enclave_is_shown_as_it_is() -> None:
    assert "later" in shown(("new", "later", "BLOCKED", "ok"), ok=True)
