"""The written record is whole: no dead link, every decision has its costs, and every page names only this project."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "CONTRIBUTING.md"])
RECORDS = sorted((ROOT / "docs/adr").glob("[0-9]*.md"))
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_somewhere(page: Path) -> None:
    links = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_decisions_are_numbered_without_a_gap_and_indexed() -> None:
    assert [record.name[:4] for record in RECORDS] == [f"{number:04}" for number in range(1, len(RECORDS) + 1)]
    index = (ROOT / "docs/adr/README.md").read_text(encoding="utf-8")
    assert [record.name for record in RECORDS if f"]({record.name})" not in index] == []


@pytest.mark.parametrize("record", RECORDS, ids=name)
def test_a_decision_names_what_was_refused_and_what_it_costs(record: Path) -> None:
    text = record.read_text(encoding="utf-8")
    assert re.match(rf"# {record.name[:4]} \S", text)
    sections = re.split(r"^## ", text, flags=re.MULTILINE)
    assert [section.split("\n")[0] for section in sections[1:]] == [
        "Context",
        "Decision",
        "Alternatives",
        "Consequences",
    ]
    assert sections[3].count("\n- **") >= 2
    assert sections[4].count("\n- Bad: ") >= 2


def test_the_security_model_says_what_is_not_defended() -> None:
    text = (ROOT / "docs/security-model.md").read_text(encoding="utf-8")
    undefended = text.split("## Not defended")[1].split("\n## ")[0]
    for topic in ("root", "same uid", "colluding", "local users", "gvisor", "timing", "side channels", "onnx runtime"):
        assert topic in undefended.lower()


def test_every_row_of_the_security_model_names_a_test_and_a_residual_risk() -> None:
    text = (ROOT / "docs/security-model.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if re.match(r"\| \d", line)
    ]
    assert [row[0] for row in rows] == [str(number) for number in range(1, len(rows) + 1)]
    assert [row[0] for row in rows if len(row) != 5 or not re.search(r"`[a-z0-9_/]+\.py`", row[3]) or not row[4]] == []


def test_the_licence_is_whole() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert text.lstrip().startswith("Apache License\n                           Version 2.0, January 2004")
    assert "END OF TERMS AND CONDITIONS" in text


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "docs/security-model.md"])
def test_every_test_that_a_page_names_exists(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    named = re.findall(r"`(?:tests/)?((?:unit|spec|property|statistical|escape|e2e)/[\w/]+\.py)`", text)
    assert named
    assert [name for name in named if not (ROOT / "tests" / name).is_file()] == []
