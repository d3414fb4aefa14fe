from __future__ import annotations

import pytest
from rich.table import Table

from sandbox.cli.narrator import WIDTH, Narrator


def _story(narrator: Narrator) -> None:
    narrator.scene("import")
    narrator.say("   [brackets] stay")
    narrator.scene("audit")
    table = Table()
    table.add_column("sex")
    table.add_row("Female")
    narrator.show(table)


def test_scenes_are_numbered_and_everything_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    narrator = Narrator(silent=False)
    _story(narrator)
    assert narrator.lines[:3] == ("1. import", "   [brackets] stay", "2. audit")
    assert any("Female" in line for line in narrator.lines[3:])
    assert all(line == line.rstrip() and len(line) <= WIDTH + 3 for line in narrator.lines)
    assert capsys.readouterr().out.splitlines() == list(narrator.lines)


def test_a_silent_narrator_remembers_and_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    silent, loud = Narrator(silent=True), Narrator(silent=False)
    _story(silent)
    assert capsys.readouterr().out == ""
    loud.repeat(silent.lines)
    assert capsys.readouterr().out.splitlines() == list(silent.lines)
    assert loud.lines == silent.lines
