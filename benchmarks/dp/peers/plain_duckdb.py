"""The floor: the same exact query without any protection. Timed are connect, query and fetch, with two threads."""

from __future__ import annotations

from functools import partial

import duckdb

from benchmarks.dp.protocol import Ask, Given, serve
from benchmarks.dp.statements import STATEMENTS, Answer, Bound, answer_of


def load(given: Given) -> dict[str, Ask]:
    """One exact query per statement."""
    return {name: partial(_exact, given, name) for name in STATEMENTS}


def _exact(given: Given, statement: str, _: Bound) -> Answer:
    with duckdb.connect(str(given.database), read_only=True) as connection:
        connection.execute("SET threads = 2")
        return answer_of(statement, connection.execute(STATEMENTS[statement].exact).fetchall())


if __name__ == "__main__":
    serve(load)
