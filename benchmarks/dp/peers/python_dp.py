"""python-dp 1.1.5 (Google's C++ library): single aggregates of plain lists that know nothing of units.

Its entity-level guarantee rests on our SQL around it, which cuts the rows to the bound and joins: all groups together
have the bound as their L1 sensitivity, so each group's aggregate may spend the whole ε."""

from __future__ import annotations

from functools import partial

import duckdb
from pydp.algorithms.laplacian import BoundedSum, Count, Percentile

from benchmarks.dp.protocol import Ask, Given, serve
from benchmarks.dp.statements import AMOUNT, EPSILON, QUARTILES, TOTAL, Answer, Bound, answer_of

Table = list[tuple[str, list[float]]]
RANKED = "SELECT *, row_number() OVER (PARTITION BY user_id) AS rank FROM events"
RANKED_GROUPS = (
    "SELECT *, row_number() OVER (PARTITION BY user_id) AS rank FROM (SELECT DISTINCT user_id, grp FROM events)"
)


def load(given: Given) -> dict[str, Ask]:
    """The data stay in DuckDB; each answer fetches the kept rows."""
    connection = duckdb.connect(str(given.database), read_only=True)
    connection.execute("SET threads = 2")
    asks = {
        "q1": _count,
        "q2": _sum_and_mean,
        "q3": _distinct,
        "q3g": _distinct_by_group,
        "q4": _quartiles,
        "q5": _join,
    }
    return {name: partial(ask, connection) for name, ask in asks.items()}


def _lists(connection: duckdb.DuckDBPyConnection, key: str, value: str, source: str) -> Table:
    return connection.execute(f"SELECT {key}, list({value}) FROM {source} GROUP BY 1").fetchall()


def _kept(bound: Bound) -> str:
    return f"(SELECT * FROM ({RANKED}) WHERE rank <= {bound.rows})"


def _counts(table: Table, most: int, epsilon: float = EPSILON) -> dict[str, float]:
    return {
        key: Count(epsilon=epsilon, l0_sensitivity=1, linf_sensitivity=most, dtype="int").quick_result(ones)
        for key, ones in table
    }


def _count(connection: duckdb.DuckDBPyConnection, bound: Bound) -> Answer:
    return {"rows": _counts(_lists(connection, "grp", "1", _kept(bound)), bound.rows)}


def _sum_and_mean(connection: duckdb.DuckDBPyConnection, bound: Bound) -> Answer:
    table = _lists(connection, "grp", "amount::DOUBLE", _kept(bound))
    low, high = map(float, AMOUNT)
    sums = {
        key: BoundedSum(
            epsilon=EPSILON / 2,
            lower_bound=low,
            upper_bound=high,
            l0_sensitivity=1,
            linf_sensitivity=bound.rows,
            dtype="float",
        ).quick_result(amounts)
        for key, amounts in table
    }
    counts = _counts([(key, [1] * len(amounts)) for key, amounts in table], bound.rows, EPSILON / 2)
    return answer_of("q2", [(key, total, total / max(counts[key], 1)) for key, total in sums.items()])


def _distinct(connection: duckdb.DuckDBPyConnection, _: Bound) -> Answer:
    ones = _lists(connection, f"'{TOTAL}'", "1", "(SELECT DISTINCT user_id FROM events)")
    return {"units": _counts(ones, 1)}


def _distinct_by_group(connection: duckdb.DuckDBPyConnection, bound: Bound) -> Answer:
    kept = f"(SELECT * FROM ({RANKED_GROUPS}) WHERE rank <= {bound.groups})"
    return {"units": _counts(_lists(connection, "grp", "1", kept), bound.groups)}


def _quartiles(connection: duckdb.DuckDBPyConnection, bound: Bound) -> Answer:
    found = connection.execute(f"SELECT amount::DOUBLE AS amount FROM {_kept(bound)}").fetchnumpy()["amount"].tolist()
    low, high = map(float, AMOUNT)
    draws = {
        str(alpha): Percentile(
            epsilon=EPSILON / len(QUARTILES) / bound.rows,  # it takes no sensitivity: group privacy
            percentile=alpha,
            lower_bound=low,
            upper_bound=high,
            dtype="float",
        )
        for alpha in QUARTILES
    }
    return {"quartile": {key: draw.quick_result(found) for key, draw in draws.items()}}


def _join(connection: duckdb.DuckDBPyConnection, bound: Bound) -> Answer:
    joined = f"(SELECT region FROM {_kept(bound)} JOIN users USING (user_id))"
    return {"rows": _counts(_lists(connection, "region", "1", joined), bound.rows)}


if __name__ == "__main__":
    serve(load)
