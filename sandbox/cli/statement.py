"""An operator's SQL text at a terminal: where a refusal points into it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.cells import cell_len
from rich.text import Text

from enclave_runner.contract.errors import Refused
from sandbox.cli.session import Session
from sandbox.client.figures import visible

BEFORE, AFTER = 60, 40


@contextmanager
def pointing_into(session: Session, sql: str) -> Iterator[None]:
    """A refusal that names a position shows that place of the text first; scripts get the position alone."""
    try:
        yield
    except Refused as refused:
        place = str(refused.facts.get("position", ""))
        if not session.as_json and place.isdecimal() and 1 <= int(place) <= len(sql):
            session.console.print(Text(pointed(sql, int(place))))
        raise


def pointed(sql: str, position: int) -> str:
    """The line of the text around the character of that number (from 1), and `^` below it."""
    start = sql.rfind("\n", 0, position - 1) + 1
    end = sql.find("\n", position - 1)
    end = len(sql) if end < 0 else max(end, position)
    first, last = max(start, position - 1 - BEFORE), min(end, position - 1 + AFTER)
    head = ("…" if first > start else "") + visible(sql[first : position - 1])
    shown = head + visible(sql[position - 1 : last]) + ("…" if last < end else "")
    return f"{shown}\n{' ' * cell_len(head)}^"
