"""docs/compliance.md is what the policy pack and the spec tests say, and the check notices when it is not."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

import pytest

from tools.make_compliance import PAGE, ROOT, compliance, main


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what the page is made from."""
    shutil.copytree(ROOT / "policies", tmp_path / "policies")
    shutil.copytree(ROOT / "tests/spec", tmp_path / "tests/spec", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "docs").mkdir()
    return tmp_path


def test_the_page_is_current() -> None:
    assert (ROOT / PAGE).read_text(encoding="utf-8") == compliance(ROOT), "run `make docs`"


def test_the_page_names_every_rule_once_and_every_article() -> None:
    page = compliance(ROOT)
    rules = tomllib.loads((ROOT / "policies/rules.toml").read_text(encoding="utf-8"))
    articles = tomllib.loads((ROOT / "policies/articles.toml").read_text(encoding="utf-8"))["article"]
    assert [rule for rule in rules if page.count(f"| `{rule}` |") != 1] == []
    assert [number for number, article in articles.items() if article["text"] not in page] == []


def test_a_missing_page_fails_the_check_and_writing_mends_it(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"], project) == 1
    assert not (project / PAGE).exists()
    assert "make docs" in capsys.readouterr().err
    assert main([], project) == 0
    assert main(["--check"], project) == 0


def test_a_new_spec_test_makes_the_page_stale(project: Path) -> None:
    main([], project)
    spec = project / "tests/spec/test_article_49.py"
    spec.write_text(
        spec.read_text(encoding="utf-8") + "\n\ndef test_the_moon_is_green() -> None: ...\n", encoding="utf-8"
    )
    assert main(["--check"], project) == 1
    assert "- the moon is green\n" in compliance(project)


def test_a_changed_rule_makes_the_page_stale(project: Path) -> None:
    main([], project)
    rules = project / "policies/rules.toml"
    rules.write_text(rules.read_text(encoding="utf-8").replace("has passed", "is over"), encoding="utf-8")
    assert main(["--check"], project) == 1
