"""The tutorial, done as a reader would: every command of its `sh` blocks in order, and the exit code it states."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from sandbox.settings import Home
from sandbox.workflow.enclave import start_enclave
from tests.support.command_line import ROOT, call_main

PAGES = ROOT / "docs" / "tutorials"
PAGE, TRANSLATED = PAGES / "dp-sql.md", PAGES / "dp-sql.zh-CN.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXIT = re.compile(r"\s+# exit (\d)$")


def commands(page: Path) -> list[tuple[list[str], int]]:
    """The arguments after `yunei`, and the exit code: 0 unless a comment says another one."""
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    lines = [line for kind, text in blocks if kind == "sh" for line in text.splitlines()]
    found = []
    for line in lines:
        stated = EXIT.search(line)
        words = shlex.split(EXIT.sub("", line))
        assert words[0] == "yunei", line
        found.append((words[1:], int(stated[1]) if stated else 0))
    return found


def files(page: Path) -> dict[str, str]:
    """The SQL files of the page, by the name in their first line."""
    blocks = [text for kind, text in BLOCK.findall(page.read_text(encoding="utf-8")) if kind == "sql"]
    return {text.splitlines()[0].removeprefix("-- "): text for text in blocks}


def test_both_languages_give_the_same_commands_but_for_names() -> None:
    def bare(page: Path) -> list[tuple[list[str], int]]:
        return [
            ([word for at, word in enumerate(line) if at == 0 or line[at - 1] not in ("--name", "--title")], code)
            for line, code in commands(page)
        ]

    assert len(bare(PAGE)) > 15
    assert bare(PAGE) == bare(TRANSLATED)
    assert files(PAGE) == files(TRANSLATED) != {}


@pytest.mark.slow
def test_every_command_of_the_tutorial_does_what_the_page_says(tmp_path: Path) -> None:
    (tmp_path / "approval.pdf").write_bytes(b"%PDF approval")
    (tmp_path / "data").symlink_to(ROOT / "data")
    for name, text in files(PAGE).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    first, *others = commands(PAGE)
    assert call_main(*first[0], cwd=tmp_path).code == first[1]
    with start_enclave(Home(tmp_path / "var")):
        for line, code in others:
            answer = call_main(*line, cwd=tmp_path)
            assert answer.code == code, (line, answer.out)
    assert (tmp_path / "people-by-age.svg").read_bytes().startswith(b"<?xml")
    assert (tmp_path / "people-by-age.csv").stat().st_size > 100
