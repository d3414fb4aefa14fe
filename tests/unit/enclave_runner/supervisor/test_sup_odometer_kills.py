"""Killed at any moment, the ledger has lost at least what was answered and at most what was asked for."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.ledgers import budgeted, lost, open_book

ROUNDS = 5
RESERVED, KEPT, DELTA = 10, 3, 2
LIFETIME = 10**9
# Opens and closes tickets; says what it is about to do, and what is done. Every second ticket gives a part back.
CHILD = f"""
import itertools, os, sys
from pathlib import Path
from tests.support.ledgers import budgeted, lost, open_book

def say(word):
    os.write(1, word.encode() + b"\\n")

grant = budgeted({LIFETIME}, max_uses=10**6, atto_delta={LIFETIME})
with open_book(Path(sys.argv[1]), lifetime={LIFETIME}, delta={LIFETIME}) as book:
    for number in itertools.count():
        say("opening")
        ticket = book.open(grant, {RESERVED}, atto_delta={DELTA})
        say("opened")
        part = number % 2
        say("returning" if part else "keeping")
        book.close(ticket, grant, spent=(lost({KEPT}, {DELTA}),) if part else None)
        say("returned" if part else "kept")
"""


@dataclass
class Told:
    """What a killed process had said, over all rounds."""

    opening: int = 0
    opened: int = 0
    kept: int = 0
    returning: int = 0
    returned: int = 0

    def hear(self, said: str) -> None:
        for name in vars(self):
            setattr(self, name, getattr(self, name) + said.split("\n").count(name))


@pytest.mark.slow
def test_a_ledger_that_is_killed_gives_back_only_what_was_closed(tmp_path: Path) -> None:
    told = Told()
    with open_book(tmp_path, lifetime=LIFETIME, delta=LIFETIME):
        pass
    for number in range(ROUNDS):
        said = run_and_kill(tmp_path, 0.03 * number)
        assert "opening" in said
        told.hear(said)
        with open_book(tmp_path, lifetime=LIFETIME, delta=LIFETIME) as book:
            spent = book.spent_of("resident")
            opened, rest = divmod(spent.atto_delta, DELTA)  # no δ is ever given back: it counts the openings
            given_back = opened * RESERVED - spent.pico_rho
            assert rest == given_back % (RESERVED - KEPT) == 0
            assert told.opened <= opened <= told.opening
            assert told.returned <= given_back // (RESERVED - KEPT) <= told.returning
            reserved = sum(reading.reserved for reading in book.ledger.readings())
            assert reserved == RESERVED * len(book.ledger.open_tickets())
    assert told.returned > 0
    with open_book(tmp_path, lifetime=spent.pico_rho + 1, delta=LIFETIME) as book:
        book.open(budgeted(1), 1)
        assert book.spent_of("resident") == lost(spent.pico_rho + 1, spent.atto_delta)


def run_and_kill(folder: Path, after: float) -> str:
    """What the child said before it was killed, a while after its first word."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[4])}
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder)], stdout=subprocess.PIPE, env=environment, text=True
    )
    assert child.stdout is not None
    with child, child.stdout:
        first = child.stdout.readline()
        time.sleep(after)
        child.kill()
        return first + child.stdout.read()
