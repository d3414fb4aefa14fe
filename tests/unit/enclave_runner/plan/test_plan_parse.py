"""A corpus of SQL: what becomes which plan, and what is refused where. Unknown forms are refused, never guessed at."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave_runner.contract.errors import Refused
from enclave_runner.plan.nodes import Aggregate, AggregateKind, Comparison, Operator
from enclave_runner.plan.parse import parse_features, parse_table

N = "SELECT COUNT(*) FROM t"

ACCEPTED = {
    "SELECT COUNT(*) FROM t": ((), ("count",), ()),
    "select count(*) from t": ((), ("count",), ()),
    "SELECT COUNT(*) FROM t;": ((), ("count",), ()),
    "SELECT COUNT(*) AS n FROM t": ((), ("n",), ()),
    "SELECT COUNT(*) n FROM t": ((), ("n",), ()),
    "SELECT COUNT(x) FROM t": ((), ("count_x",), ()),
    "SELECT SUM(x) FROM t": ((), ("sum_x",), ()),
    "SELECT SUM(x), COUNT(x), COUNT(*) FROM t": ((), ("sum_x", "count_x", "count"), ()),
    "SELECT a, COUNT(*) FROM t GROUP BY a": (("a",), ("count",), ()),
    "SELECT a AS a, COUNT(*) FROM t GROUP BY a": (("a",), ("count",), ()),
    "SELECT COUNT(*) FROM t GROUP BY a, b": (("a", "b"), ("count",), ()),
    'SELECT "a", COUNT(*) FROM "t" GROUP BY "a"': (("a",), ("count",), ()),
    "SELECT COUNT(*) -- a comment\nFROM t /* another */": ((), ("count",), ()),
    f"{N} WHERE x = 1": ((), ("count",), (("x", "=", "1"),)),
    f"{N} WHERE x == 1": ((), ("count",), (("x", "=", "1"),)),
    f"{N} WHERE x <> 1": ((), ("count",), (("x", "<>", "1"),)),
    f"{N} WHERE x != 1": ((), ("count",), (("x", "<>", "1"),)),
    f"{N} WHERE x < -1.5": ((), ("count",), (("x", "<", "-1.5"),)),
    f"{N} WHERE 5 <= x": ((), ("count",), (("x", ">=", "5"),)),
    f"{N} WHERE 5 > x": ((), ("count",), (("x", "<", "5"),)),
    f"{N} WHERE 5 = x": ((), ("count",), (("x", "=", "5"),)),
    f"{N} WHERE x = 'it''s'": ((), ("count",), (("x", "=", "it's"),)),
    f"{N} WHERE x = true": ((), ("count",), (("x", "=", "true"),)),
    f"{N} WHERE x = DATE '2020-01-01'": ((), ("count",), (("x", "=", "2020-01-01"),)),
    f"{N} WHERE x BETWEEN 1 AND 2": ((), ("count",), (("x", ">=", "1"), ("x", "<=", "2"))),
    f"{N} WHERE x IN (1, 2)": ((), ("count",), (("x", "in", "1", "2"),)),
    f"{N} WHERE ((a = 1) AND (b = 2 AND c = 3))": ((), ("count",), (("a", "=", "1"), ("b", "=", "2"), ("c", "=", "3"))),
    f"{N} WHERE " + " AND ".join(["x > 1"] * 300): ((), ("count",), (("x", ">", "1"),) * 300),
}

REFUSED = {
    # not one SELECT over one dataset
    "": 1, "   ": 1, "\0": 1, "SELECT 1; SELECT 2": 1, "SELECT COUNT(*) FROM t;;": 1,
    "INSERT INTO t VALUES (1)": 1, "DELETE FROM t": 1, "UPDATE t SET a = 1": 1, "DROP TABLE t": 1, "COPY t TO 'x'": 1,
    "ATTACH 'x' AS y": 1, "INSTALL httpfs": 1, "LOAD httpfs": 1, "SET memory_limit = '1GB'": 1, "PRAGMA version": 1,
    "EXPLAIN SELECT COUNT(*) FROM t": 1, "DESCRIBE t": 1, "SUMMARIZE t": 1, "SHOW TABLES": 1, "CALL f()": 1,
    "VALUES (1)": 1, "CREATE TABLE x AS SELECT COUNT(*) FROM t": 1, "SELECT COUNT(*) FROM t UNION SELECT 1": 1,
    "SELECT COUNT(*) FROM t EXCEPT SELECT 1": 1, "PIVOT t ON a": 1, "EXPORT DATABASE 'x'": None,
    # sources
    "SELECT COUNT(*)": None, "SELECT COUNT(*) FROM t, u": None, "SELECT COUNT(*) FROM t JOIN u USING (a)": None,
    "SELECT COUNT(*) FROM t CROSS JOIN u": None, "SELECT COUNT(*) FROM t AS x": None,
    "SELECT COUNT(*) FROM main.t": None,
    "SELECT COUNT(*) FROM a.b.t": None, "SELECT COUNT(*) FROM (SELECT * FROM t)": None,
    "SELECT COUNT(*) FROM read_csv('/etc/passwd')": None, "SELECT COUNT(*) FROM read_parquet('x')": None,
    "SELECT COUNT(*) FROM query_table('t')": None, "SELECT COUNT(*) FROM t TABLESAMPLE 10%": None,
    "SELECT COUNT(*) FROM t USING SAMPLE 1%": None, "SELECT COUNT(*) FROM range(10)": None,
    "SELECT COUNT(*) FROM VALUES (1) AS v(a)": None, "SELECT COUNT(*) FROM t AT (VERSION => 1)": None,
    "WITH t AS (SELECT 1) SELECT COUNT(*) FROM t": None, "SELECT COUNT(*) FROM t, LATERAL (SELECT 1)": None,
    "SELECT COUNT(*) FROM t POSITIONAL JOIN u": None, "SELECT COUNT(*) FROM t NATURAL JOIN t": None,
    # outputs
    "SELECT * FROM t": None, "SELECT COUNT(*), * FROM t": 18, "SELECT a FROM t GROUP BY a": None,
    "SELECT a, COUNT(*) FROM t": 8, "SELECT a AS b, COUNT(*) FROM t GROUP BY a": 8, "SELECT MIN(x) FROM t": 12,
    "SELECT MAX(x) FROM t": 12, "SELECT AVG(x) FROM t": 8, "SELECT FIRST(x) FROM t": 8, "SELECT MODE(x) FROM t": 8,
    "SELECT ARG_MAX(x, y) FROM t": None, "SELECT STRING_AGG(x, ',') FROM t": None, "SELECT ARRAY_AGG(x) FROM t": None,
    "SELECT LIST(x) FROM t": None, "SELECT HISTOGRAM(x) FROM t": None, "SELECT MEDIAN(x) FROM t": None,
    "SELECT STDDEV(x) FROM t": None, "SELECT BIT_XOR(x) FROM t": None, "SELECT COUNT(DISTINCT x) FROM t": None,
    "SELECT SUM(DISTINCT x) FROM t": None, "SELECT COUNT(x, y) FROM t": None, "SELECT COUNT() FROM t": None,
    "SELECT COUNT(1) FROM t": None, "SELECT SUM(x + 1) FROM t": 12, "SELECT SUM(x * y) FROM t": None,
    "SELECT SUM(1) FROM t": None, "SELECT SUM(CASE WHEN x > 1 THEN 1 END) FROM t": None,
    "SELECT SUM(x::INT) FROM t": None,
    "SELECT COUNT(*) + 1 FROM t": None, "SELECT COUNT(*) / SUM(x) FROM t": None, "SELECT COUNT(*) OVER () FROM t": None,
    "SELECT SUM(x) OVER (PARTITION BY a) FROM t": None, "SELECT COUNT(*) FILTER (WHERE x > 1) FROM t": None,
    "SELECT COUNT(x ORDER BY y) FROM t": None, "SELECT SUM(t.x) FROM t": None,
    "SELECT COUNT(* EXCLUDE (x)) FROM t": None,
    "SELECT error('x') FROM t": None, "SELECT random() FROM t": None, "SELECT now() FROM t": None,
    "SELECT current_setting('x') FROM t": None, "SELECT nextval('s') FROM t": None, "SELECT hash(x) FROM t": None,
    "SELECT (SELECT COUNT(*) FROM t) FROM t": None, "SELECT COUNT(*), COUNT(*) FROM t": None,
    "SELECT SUM(x) AS a, COUNT(*) AS a FROM t": None, "SELECT a, SUM(x) AS a FROM t GROUP BY a": None,
    "SELECT DISTINCT a, COUNT(*) FROM t GROUP BY a": None, "SELECT COLUMNS('x') FROM t": None, "SELECT $1 FROM t": None,
    # modifiers
    f"{N} LIMIT 1": None, f"{N} OFFSET 1": None, f"{N} ORDER BY 1": None, f"{N} GROUP BY a HAVING COUNT(*) > 1": None,
    f"{N} QUALIFY ROW_NUMBER() OVER () = 1": None, f"{N} GROUP BY ALL": None, f"{N} GROUP BY 1": None,
    f"{N} GROUP BY ROLLUP (a)": None, f"{N} GROUP BY CUBE (a)": None, f"{N} GROUP BY GROUPING SETS ((a))": None,
    f"{N} GROUP BY a, a": None, f"{N} GROUP BY lower(a)": None, f"{N} GROUP BY (a, b)": None,
    f"{N} GROUP BY x % 10": None,
    f"{N} WINDOW w AS (ORDER BY x)": None, f"{N} FOR UPDATE": None, "SELECT TOP 5 COUNT(*) FROM t": None,
    "SELECT COUNT(*) INTO u FROM t": None,
    # conditions
    f"{N} WHERE x": None, f"{N} WHERE TRUE": None, f"{N} WHERE x = 1 OR y = 2": None, f"{N} WHERE NOT x = 1": None,
    f"{N} WHERE x IS NULL": None, f"{N} WHERE x = NULL": None, f"{N} WHERE x = y": None, f"{N} WHERE 5 < 6": None,
    f"{N} WHERE x + 1 = 2": 30, f"{N} WHERE lower(x) = 'a'": None, f"{N} WHERE x LIKE 'a%'": None,
    f"{N} WHERE x ~ 'a'": None, f"{N} WHERE x SIMILAR TO 'a'": None, f"{N} WHERE x NOT IN (1)": None,
    f"{N} WHERE x IN ()": None,
    f"{N} WHERE x IN (SELECT 1)": None, f"{N} WHERE EXISTS (SELECT 1)": None, f"{N} WHERE x = (SELECT 1)": None,
    f"{N} WHERE x = ANY ([1])": None, f"{N} WHERE x = 1 + 1": None, f"{N} WHERE x = error('x')": None,
    f"{N} WHERE x NOT BETWEEN 1 AND 2": None, f"{N} WHERE x BETWEEN SYMMETRIC 2 AND 1": None, f"{N} WHERE x = $1": None,
    f"{N} WHERE x = ?": None, f"{N} WHERE t.x = 1": None, f"{N} WHERE x = CAST('1' AS INT)": None,
    f"{N} WHERE x = -y": None,
    f"{N} WHERE 1 / x = 1": None, f"{N} WHERE (a, b) = (1, 2)": None, f"{N} WHERE x IS DISTINCT FROM 1": None,
    f"{N} WHERE a = 1 XOR b = 1": None, f"{N} WHERE x IN ({', '.join('1' for _ in range(1001))})": None,
    # broken text
    "SELECT": None, "SELECT COUNT(* FROM t": None, "SELECT 'a FROM t": None, "SELECT COUNT(*) AS FROM t": None,
    "SELECT COUNT(*) FROM t WHERE": None, "(" * 3000 + "SELECT 1" + ")" * 3000: None, "/*": None,
    "SELECT 1e FROM": None,
}  # fmt: skip


@pytest.mark.parametrize("sql", ACCEPTED)
def test_accepted(sql: str) -> None:
    keys, names, filters = ACCEPTED[sql]
    plan = parse_table(sql)
    assert plan.dataset_id == "t"
    assert tuple(key.column for key in plan.keys) == keys
    assert tuple(item.name for item in plan.aggregates) == names
    assert tuple((item.column, item.operator.value, *item.constants) for item in plan.filters) == filters


@pytest.mark.parametrize("sql", REFUSED)
def test_refused(sql: str) -> None:
    with pytest.raises(Refused) as caught:
        parse_table(sql)
    assert caught.value.rule in ("sql.syntax", "sql.unsupported")
    position = int(caught.value.facts["position"])
    assert 1 <= position <= max(1, len(sql) + 1)
    if REFUSED[sql] is not None:
        assert position == REFUSED[sql]


def test_the_corpus_is_large() -> None:
    assert len(ACCEPTED) + len(REFUSED) >= 150


def test_positions_point_at_the_name() -> None:
    sql = "SELECT sex, SUM(income) FROM people WHERE age >= 18 GROUP BY sex"
    plan = parse_table(sql)
    assert sql[plan.keys[0].position - 1 :].startswith("sex")
    assert sql[plan.aggregates[0].position - 1 :].startswith("income")
    assert sql[plan.filters[0].position - 1 :].startswith("age")


def test_a_plan_in_full() -> None:
    plan = parse_table("SELECT COUNT(*) AS n, SUM(x) FROM t WHERE 3 < y")
    assert plan.aggregates == (
        Aggregate(kind=AggregateKind.COUNT, column=None, name="n", position=8),
        Aggregate(kind=AggregateKind.SUM, column="x", name="sum_x", position=27),
    )
    assert plan.filters == (Comparison(column="y", operator=Operator.GT, constants=("3",), position=47),)


def test_features_are_plain_columns() -> None:
    plan = parse_features("SELECT a, b FROM t WHERE c = 1")
    assert ([item.column for item in plan.columns], plan.filters[0].column) == (["a", "b"], "c")
    for sql in (
        "SELECT * FROM t", "SELECT a, a FROM t", "SELECT a + 1 FROM t", "SELECT COUNT(*) FROM t", "SELECT 1 FROM t",
        "SELECT a AS b FROM t", "SELECT a FROM t GROUP BY a", "SELECT a FROM t LIMIT 5", "SELECT a FROM t ORDER BY a",
    ):  # fmt: skip
        with pytest.raises(Refused):
            parse_features(sql)


WORDS = st.sampled_from(
    [
        "SELECT",
        "COUNT(*)",
        "FROM",
        "t",
        "WHERE",
        "x",
        "=",
        "1",
        "AND",
        "GROUP",
        "BY",
        "a",
        ",",
        "(",
        ")",
        "SUM(x)",
        "IN",
        "BETWEEN",
        "'q'",
        "-1",
        ";",
        "WITH",
        "AS",
        "NOT",
        "OR",
        "NULL",
        "CASE",
        "WHEN",
        "END",
        "OVER",
        "FILTER",
        "LIMIT",
        "DATE",
        "CAST",
        "[",
        "]",
        "{",
        "}",
        "$1",
        "?",
        "::",
        "->",
        "\\",
        '"',
        "'",
        "/*",
        "--",
        "@",
        ".",
        "*",
        "%",
        "|",
        "&",
        "^",
        "~",
        "!",
        "0x1",
        "1e9",
        "PIVOT",
        "QUALIFY",
    ]
)


@given(st.lists(WORDS, max_size=14).map(" ".join))
@settings(max_examples=300, deadline=None)
def test_any_words_give_a_plan_or_a_refusal(sql: str) -> None:
    for parse in (parse_table, parse_features):
        try:
            parse(sql)
        except Refused as refused:
            assert refused.rule in ("sql.syntax", "sql.unsupported")


@given(st.text(max_size=40))
@settings(max_examples=200, deadline=None)
def test_any_text_after_a_good_beginning_gives_a_plan_or_a_refusal(tail: str) -> None:
    try:
        parse_table(N + tail)
    except Refused as refused:
        assert refused.rule in ("sql.syntax", "sql.unsupported")
