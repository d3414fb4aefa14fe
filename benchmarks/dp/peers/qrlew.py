"""Qrlew 0.9.27: rewrites SQL to private SQL with a tracked privacy unit and an L2 clip; run here on DuckDB.

Its noise is drawn by SQL's own RANDOM() in floating point, so its release is not sound; COUNT(DISTINCT unit) comes out
as COUNT(*); quantiles are not implemented. The rewritten SQL is its plan, made before anything is timed."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import duckdb
import sqlglot
from pyqrlew import Dataset, Dialect

from benchmarks.dp.protocol import Ask, Given, serve
from benchmarks.dp.statements import AMOUNT, BOUNDS, DELTA, EPSILON, GROUPS, REGIONS, TOTAL, Answer, Bound, answer_of

QUERIES = {
    "q1": "SELECT grp, COUNT(*) AS c FROM S.events GROUP BY grp",
    "q2": "SELECT grp, SUM(amount) AS s, AVG(amount) AS m FROM S.events GROUP BY grp",
    "q3": "SELECT COUNT(DISTINCT user_id) AS c FROM S.events",
    "q3g": "SELECT grp, COUNT(DISTINCT user_id) AS c FROM S.events GROUP BY grp",
    "q5": "SELECT region, COUNT(*) AS c FROM S.events JOIN S.users ON events.user_id = users.user_id GROUP BY region",
}
UNITS: list[tuple[str, list[Any], str]] = [("events", [], "user_id"), ("users", [], "user_id")]
MAX_UNITS = 100_000_000


def load(given: Given) -> dict[str, Ask]:
    """Views with clamped amounts over the read-only file."""
    connection = duckdb.connect()
    connection.execute("SET threads = 2")
    connection.execute(f"ATTACH '{given.database}' AS src (READ_ONLY)")
    connection.execute("CREATE SCHEMA S")
    clamped = f"least(greatest(amount::DOUBLE, {AMOUNT[0]}), {AMOUNT[1]}) AS amount"
    connection.execute(f"CREATE VIEW S.events AS SELECT user_id, grp, {clamped}, d FROM src.events")
    connection.execute("CREATE VIEW S.users AS FROM src.users")
    for table in ("events", "users"):
        connection.execute(f"CREATE VIEW {table} AS FROM S.{table}")
    described = dataset()
    plans = {(name, rows): _plan(described, name, bound) for name in QUERIES for rows, bound in BOUNDS.items()}
    return {name: partial(_ask, connection, plans, name) for name in QUERIES}


def _plan(described: Dataset, name: str, bound: Bound) -> str:
    private = described.relation(QUERIES[name], Dialect.PostgreSql).rewrite_with_differential_privacy(
        described,
        UNITS,
        {"epsilon": EPSILON, "delta": DELTA},
        max_multiplicity=float(bound.rows),
        max_multiplicity_share=1.0,
        max_privacy_unit_groups=len(GROUPS),
    )
    rewritten = private.relation().to_query(Dialect.PostgreSql)
    return sqlglot.transpile(rewritten, read="postgres", write="duckdb")[0]


def _ask(connection: duckdb.DuckDBPyConnection, plans: dict[tuple[str, int], str], name: str, bound: Bound) -> Answer:
    rows = connection.execute(plans[name, bound.rows]).fetchall()
    return answer_of(name, [(TOTAL, *row) for row in rows] if name == "q3" else rows)


def dataset() -> Dataset:
    """Both tables in Qrlew's JSON form; the text domains become its public keys."""
    day = _integer(0, 364)
    events = {"user_id": _integer(1, MAX_UNITS), "grp": _text(GROUPS), "amount": _number(*AMOUNT), "d": day}
    people = {"user_id": _integer(1, MAX_UNITS), "region": _text(REGIONS), "age": _integer(18, 95)}
    tables = [_struct("events", events), _struct("users", people)]
    union = {"name": "Union", "union": {"fields": tables}, "properties": {"public_fields": "[]"}}
    whole = {"name": "S", "struct": {"fields": [{"name": "sarus_data", "type": union}]}, "properties": {}}
    described = {
        "@type": "sarus_data_spec/sarus_data_spec.Dataset",
        "uuid": "a",
        "name": "S",
        "properties": {},
        "doc": "",
        "spec": {"transformed": {"transform": "x", "arguments": [], "named_arguments": {}}},
    }
    schema = {
        "@type": "sarus_data_spec/sarus_data_spec.Schema",
        "uuid": "b",
        "dataset": "a",
        "name": "S",
        "type": whole,
        "privacy_unit": {"label": "x", "paths": [], "properties": {}},
        "properties": {"max_max_multiplicity": "1", "foreign_keys": "", "primary_keys": ""},
    }
    return Dataset.from_str(json.dumps(described), json.dumps(schema), "")


def _integer(low: int, high: int) -> dict[str, Any]:
    kind = {"base": "INT64", "min": str(low), "max": str(high), "possible_values": []}
    return {"name": "Integer", "integer": kind, "properties": {}}


def _number(low: float, high: float) -> dict[str, Any]:
    kind = {"base": "FLOAT64", "min": float(low), "max": float(high), "possible_values": []}
    return {"name": "Float64", "float": kind, "properties": {}}


def _text(values: tuple[str, ...]) -> dict[str, Any]:
    return {"name": "Text UTF-8", "text": {"encoding": "UTF-8", "possible_values": list(values)}, "properties": {}}


def _struct(name: str, fields: dict[str, Any]) -> dict[str, Any]:
    listed = [{"name": field, "type": kind} for field, kind in fields.items()]
    return {"name": name, "type": {"name": "Struct", "struct": {"fields": listed}, "properties": {}}}


if __name__ == "__main__":
    serve(load)
