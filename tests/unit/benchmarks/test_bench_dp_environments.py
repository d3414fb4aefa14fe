"""Environments: kept while their pins stand, and a reason where there is none. Nothing is downloaded here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.dp.environments import PINS, STAMP, environment

PEERS = Path(__file__).parents[3] / "benchmarks" / "dp" / "peers"


def test_every_peer_is_pinned_exactly_and_has_a_program() -> None:
    for name, pins in PINS.items():
        assert (PEERS / f"{name}.py").is_file()
        assert all(re.fullmatch(r"[a-z.\-\[\]]+==[0-9.]+", pin) for pin in pins)


def test_an_environment_with_the_same_pins_is_used_as_it_is(tmp_path: Path) -> None:
    home = tmp_path / "qrlew"
    home.mkdir()
    (home / STAMP).write_text("\n".join(PINS["qrlew"]) + "\n", encoding="utf-8")
    assert environment("qrlew", tmp_path).python == home / "bin" / "python"


def test_what_does_not_install_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PINS, "qrlew", ("there-is-no-such-package==1.0",))
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "PIP_CONFIG_FILE": "/dev/null"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    found = environment("qrlew", tmp_path / "peers")
    assert found.python is None
    assert "there-is-no-such-package" in found.reason
    assert not (tmp_path / "peers" / "qrlew" / STAMP).exists()


def test_tumult_needs_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "Java" in environment("tumult", tmp_path).reason
