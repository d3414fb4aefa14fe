"""Texts made to be slow, deep or large: each ends with a refusal, or with a plan of bounded size."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from enclave_runner.contract.errors import Refused
from enclave_runner.plan.nodes import Call, Expression, SelectPlan
from enclave_runner.plan.parse import parse_features, parse_select
from enclave_runner.plan.parse_expression import MAX_DEPTH, MAX_NODES
from tests.support.sql_meanings import MEANINGS
from tests.support.sql_traps import TRAPS

ROOT = Path(__file__).parents[4]
N = "SELECT COUNT(*) FROM t"


def chain(body: str, count: int) -> str:
    """CTEs that each read the one before, `{}` in the body."""
    names = ["t", *(f"c{number}" for number in range(count))]
    ctes = [f"{name} AS (SELECT {body.format(*[before] * 9)})" for before, name in pairwise(names)]
    return f"WITH {', '.join(ctes)} SELECT SUM(x) FROM {names[-1]}"


REFUSED = {
    "brackets": ("(" * 10_000, "sql.too-deep"),
    "brackets-in-where": (f"{N} WHERE {'(' * 10_000}", "sql.too-deep"),
    "closed-brackets": (f"{N} WHERE {'(' * 40}x{')' * 40} = 1", "sql.too-deep"),
    "lists": (f"{N} WHERE x = {'[' * 5000}", "sql.list"),
    "structs": (f"{N} WHERE x = " + "{'a':" * 3000, "sql.list"),
    "calls": (f"{N} WHERE x = {'ABS(' * 4000}", "sql.too-deep"),
    "subqueries": (f"SELECT COUNT(*) FROM {'(SELECT a FROM ' * 1000}", "sql.too-deep"),
    "not": (f"{N} WHERE {'NOT ' * 5000}x", "sql.too-deep"),
    "few-not": (f"{N} WHERE {'NOT ' * (MAX_DEPTH + 1)}x", "sql.too-deep"),
    "signs": (f"{N} WHERE x = {'- ' * 5000}x", "sql.too-deep"),
    "bits": (f"{N} WHERE x = {'~' * 10_000}x", "sql.syntax"),
    "comment-of-signs": (f"{N} WHERE {'-' * 19_000}x", "sql.syntax"),
    "cases": (f"{N} WHERE x = {'CASE WHEN ' * 1000}", "sql.too-deep"),
    "casts": (f"{N} WHERE {'x::' * 5000}", "sql.syntax"),
    "types": (f"{N} WHERE x::{'STRUCT(a ' * 1500}", "sql.too-deep"),
    "sums": (f"{N} WHERE {'x + ' * 4000}x = 1", "sql.too-deep"),
    "powers": (f"{N} WHERE {'x ** ' * 3000}x = 1", "sql.unsupported"),
    "comparisons": (f"{N} WHERE {'x = ' * 4000}x", "sql.too-deep"),
    "indices": (f"{N} WHERE x{'[1]' * 4000} = 1", "sql.list"),
    "dots": (f"{N} WHERE {'a.' * 9000}x = 1", "sql.unsupported"),
    "unions": ("SELECT a FROM t UNION " * 800 + "SELECT a FROM t", "sql.statement"),
    "statements": ("SELECT 1;" * 2000, "sql.statement"),
    "doubling": (chain("x + x AS x FROM {}", 29), "sql.too-long"),
    "doubling-slowly": (chain("ABS(x) * x AS x FROM {}", 29), "sql.too-long"),
    "deepening": (chain("-(-(-x)) AS x FROM {}", 29), "sql.too-deep"),
    "nesting": (chain("x FROM {}", 300), "sql.too-deep"),
    "doubling-joins": (chain("p.x FROM {} AS p JOIN {} AS q ON p.x = q.x", 20), "sql.join-subquery"),
    "joins": (N + "".join(f" JOIN t AS t{number} USING (id)" for number in range(400)), "sql.sources"),
    "wide-doubling": (
        "WITH c AS (SELECT " + "+".join(["x"] * 50) + " AS x FROM t) SELECT "
        + ", ".join(f"SUM(x + {number}) AS s{number}" for number in range(400)) + " FROM c", "sql.too-long"),
    "between-doubling": (chain("CASE WHEN x BETWEEN x AND x THEN x END AS x FROM {}", 20), "sql.too-long"),
    "many-outputs": (f"SELECT {', '.join(['1'] * 4000)} FROM t", "sql.too-long"),
    "many-keys": (f"{N} GROUP BY {', '.join(f'x{number}' for number in range(2000))}", "sql.grouping"),
    "many-sets": (f"{N} GROUP BY {', '.join(['ROLLUP (a, b, c)'] * 500)}", "sql.grouping"),
    "many-pairs": (f"{N} JOIN u ON {' AND '.join(['t.a = u.a'] * 500)}", "sql.join-form"),
    "long-number": (f"{N} WHERE x = {'1' * 19_000}", "sql.number"),
    "large-exponent": (N + " WHERE x = 1e99999999", "sql.number"),
    "ordinal": (f"{N} GROUP BY {'9' * 5000}", "sql.whole"),
    "long-name": (f'SELECT COUNT(*) AS "{"a" * 19_000}" FROM t', "sql.output-name"),
}  # fmt: skip
ACCEPTED = {
    "and": f"{N} WHERE " + " AND ".join(["x > 1"] * 2000),
    "or": f"{N} WHERE " + " OR ".join(["x > 1"] * 2000),
    "both": f"{N} WHERE " + " AND ".join(["(x = 1 OR y = 2)"] * 900),
    "in": f"{N} WHERE x IN ({', '.join(str(number) for number in range(1000))})",
    "case": f"SELECT SUM(CASE {' '.join(['WHEN x = 1 THEN 2'] * 800)} END) FROM t",
    "coalesce": f"SELECT SUM(COALESCE({', '.join(['x'] * 3000)})) FROM t",
    "conditions": chain("x FROM {} WHERE x > 1 AND ABS(x + x) < 9", 29),
    "outputs": f"SELECT {', '.join(f'SUM(x + {number}) AS s{number}' for number in range(500))} FROM t",
}

# A fresh process: the modules that reading brings along are in, and then all texts are read.
READ = """
import json, logging, sys
from enclave_runner.contract.errors import Refused
from enclave_runner.plan.parse import parse_features, parse_select
texts, known = json.load(sys.stdin), set(sys.modules)
logging.disable()
for sql in texts:
    for parse in (parse_select, parse_features):
        try:
            parse(sql)
        except Refused:
            pass
print(len(texts), sorted(set(sys.modules) - known), end="")
"""


@pytest.mark.parametrize(("sql", "rule"), REFUSED.values(), ids=REFUSED)
def test_a_hostile_text_ends_with_a_refusal(sql: str, rule: str) -> None:
    with pytest.raises(Refused) as caught:
        parse_select(sql)
    assert caught.value.rule == rule
    with pytest.raises(Refused):
        parse_features(sql)


@pytest.mark.parametrize("sql", ACCEPTED.values(), ids=ACCEPTED)
def test_a_long_flat_text_is_read(sql: str) -> None:
    plan = parse_select(sql)
    assert size(plan) <= MAX_NODES
    assert all(depth(part) <= MAX_DEPTH for part in parts(plan))


def test_reading_imports_nothing() -> None:
    """A worker has no files: an import in the middle of a text would be a fault there, not a refusal."""
    traps = [marked.replace("^", "", 1) for marked, _ in TRAPS.values()]
    texts = [*traps, *MEANINGS.values()]
    done = subprocess.run(
        [sys.executable, "-c", READ], cwd=ROOT, input=json.dumps(texts), capture_output=True, text=True
    )
    assert (done.stdout, done.returncode) == (f"{len(texts)} []", 0)


def parts(plan: SelectPlan) -> list[Expression]:
    found = [plan.condition, *(item.argument for item in plan.aggregates)]
    return [item for item in found if item is not None]


def size(plan: SelectPlan) -> int:
    return sum(count(part) for part in parts(plan))


def count(expression: Expression) -> int:
    return 1 + (sum(map(count, expression.arguments)) if isinstance(expression, Call) else 0)


def depth(expression: Expression) -> int:
    return 1 + (max(map(depth, expression.arguments)) if isinstance(expression, Call) else 0)
