"""Tells the demo: numbered scenes, indented lines, tables; remembers every line for the second run."""

from __future__ import annotations

import io

from rich.console import Console
from rich.table import Table

WIDTH = 116


class Narrator:
    """Prints each line at once, unless a script is listening, and keeps it."""

    def __init__(self, silent: bool) -> None:
        self._silent = silent
        self._lines: list[str] = []
        self._scenes = 0

    @property
    def lines(self) -> tuple[str, ...]:
        """Everything that was told."""
        return tuple(self._lines)

    def scene(self, title: str) -> None:
        """A numbered heading."""
        self._scenes += 1
        self.say(f"{self._scenes}. {title}")

    def say(self, line: str) -> None:
        """One line."""
        self._lines.append(line)
        if not self._silent:
            print(line, flush=True)  # noqa: T201 - the story is the output

    def show(self, table: Table) -> None:
        """A table, as lines."""
        out = io.StringIO()
        Console(file=out, width=WIDTH, color_system=None).print(table)
        for line in out.getvalue().rstrip().splitlines():
            self.say("   " + line.rstrip())

    def repeat(self, lines: tuple[str, ...]) -> None:
        """Tell it again."""
        for line in lines:
            self.say(line)
