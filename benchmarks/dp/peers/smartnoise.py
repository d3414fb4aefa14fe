"""SmartNoise SQL 1.0.10 on SQLite: SQL text, clamps in metadata, max_ids by reservoir sampling.

Its ε is per output column: the budget is divided by what its own accountant charges, so that a statement costs EPSILON
in all (its accountant then reports a δ somewhat above DELTA). Two protected tables in one query are refused, quantiles
unknown."""

from __future__ import annotations

import sqlite3
import warnings
from typing import Any

import duckdb
import snsql
from snsql import Privacy

from benchmarks.dp.protocol import Ask, Given, serve
from benchmarks.dp.statements import AMOUNT, DELTA, EPSILON, TOTAL, Answer, Bound, answer_of

QUERIES = {
    "q1": "SELECT grp, COUNT(*) AS c FROM S.events GROUP BY grp",
    "q2": "SELECT grp, SUM(amount) AS s, AVG(amount) AS m FROM S.events GROUP BY grp",
    "q3": "SELECT COUNT(DISTINCT user_id) AS c FROM S.events",
    "q3g": "SELECT grp, COUNT(DISTINCT user_id) AS c FROM S.events GROUP BY grp",
}


def load(given: Given) -> dict[str, Ask]:
    """Both tables in SQLite, one reader per statement and bound."""
    warnings.simplefilter("ignore")
    lite = sqlite3.connect(":memory:")
    lite.execute("ATTACH ':memory:' AS S")
    with duckdb.connect(str(given.database), read_only=True) as connection:
        rows = {
            "events": _copy(connection, lite, "events", "user_id, grp, amount::DOUBLE, d"),
            "users": _copy(connection, lite, "users", "user_id, region, age"),
        }
    return {name: _Reader(lite, rows, name).ask for name in QUERIES}


def _copy(connection: duckdb.DuckDBPyConnection, lite: sqlite3.Connection, table: str, columns: str) -> int:
    names = {"events": "user_id INT, grp TEXT, amount REAL, d INT", "users": "user_id INT, region TEXT, age INT"}[table]
    lite.execute(f"CREATE TABLE S.{table} ({names})")
    cursor, marks = connection.execute(f"SELECT {columns} FROM {table}"), ",".join("?" * (names.count(",") + 1))
    while chunk := cursor.fetchmany(100_000):
        lite.executemany(f"INSERT INTO S.{table} VALUES ({marks})", chunk)
    lite.commit()
    return int(lite.execute(f"SELECT COUNT(*) FROM S.{table}").fetchone()[0])


def metadata(rows: dict[str, int], max_ids: int) -> dict[str, Any]:
    """SmartNoise's description of both tables."""
    key = {"type": "int", "private_id": True}
    events = {
        "rows": rows["events"],
        "max_ids": max_ids,
        "sample_max_ids": True,
        "censor_dims": True,
        "clamp_counts": False,
        "user_id": key,
        "grp": {"type": "string"},
        "amount": {"type": "float", "lower": float(AMOUNT[0]), "upper": float(AMOUNT[1])},
        "d": {"type": "int", "lower": 0, "upper": 365},
    }
    return {"": {"S": {"events": events}}}


class _Reader:
    """One statement, asked at the share of ε per column that makes its whole cost EPSILON."""

    def __init__(self, lite: sqlite3.Connection, rows: dict[str, int], name: str) -> None:
        self._lite, self._rows, self._name = lite, rows, name
        self._readers: dict[int, Any] = {}

    def ask(self, bound: Bound) -> Answer:
        reader = self._readers.setdefault(bound.rows, self._open(bound))
        rows = reader.execute(QUERIES[self._name])[1:]
        if self._name == "q3":
            rows = [(TOTAL, *row) for row in rows]
        return answer_of(self._name, [tuple(row) for row in rows])

    def _open(self, bound: Bound) -> Any:
        known = metadata(self._rows, bound.rows)
        whole = self._reader(EPSILON, known).get_privacy_cost(QUERIES[self._name])[0]
        return self._reader(EPSILON * EPSILON / whole, known)

    def _reader(self, epsilon: float, known: dict[str, Any]) -> Any:
        privacy = Privacy(epsilon=epsilon, delta=DELTA)
        return snsql.from_connection(self._lite, engine="sqlite", privacy=privacy, metadata=known)


if __name__ == "__main__":
    serve(load)
