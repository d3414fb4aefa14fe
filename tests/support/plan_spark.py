"""Rendered SQL for Spark, and the extract and exact answers that it is held against."""

from __future__ import annotations

from datetime import date

import sqlglot
from sqlglot import exp

from enclave_runner.plan.bound import BoundSelect
from tests.support.plan_cases import Case
from tests.support.plan_engine import extract_of

WIDE = exp.DataType.build("DECIMAL(38, 0)")  # what stands for 128 bits there


def spark_sql(sql: str) -> str:
    """The same statement for Spark, whose sums have the width of what they add: each adds 128 bits."""

    tree = sqlglot.parse_one(sql, read="duckdb")
    for node in list(tree.find_all(exp.DataType)):
        if node.this is exp.DType.INT128:
            node.replace(WIDE.copy())
    for node in list(tree.find_all(exp.Sum)):
        node.set("this", exp.Cast(this=node.this, to=WIDE.copy()))
    return tree.sql("spark")


def asked_and_answered(case: Case, bound: BoundSelect, queries: list[str]) -> tuple[object, object]:
    """What Spark is given (the tables of the extract, the translated queries), and what DuckDB answers."""
    with extract_of(bound, case.catalogue, case.database) as engine:
        tables = []
        for index in range(len(bound.sources)):
            found = engine.execute(f"FROM t{index}")
            columns = [(item[0], str(item[1])) for item in found.description or ()]
            tables.append({"columns": columns, "rows": [list(map(plain, row)) for row in found.fetchall()]})
        answers = [ordered(engine.execute(sql).fetchall()) for sql in queries]
    return {"tables": tables, "sql": [spark_sql(sql) for sql in queries]}, answers


def ordered(rows: list[tuple[object, ...]]) -> list[list[object]]:
    """Rows in an order that is no engine's own."""
    return sorted((list(map(plain, row)) for row in rows), key=str)


def plain(cell: object) -> object:
    """A value as JSON has it."""
    return cell.isoformat() if isinstance(cell, date) else cell
