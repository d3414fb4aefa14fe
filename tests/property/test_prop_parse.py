"""Reading SQL, by random texts and random plans: a text gives a plan or a refusal with a place in the text; a printed
plan reads as itself; inlining is substitution."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from enclave_runner.contract.errors import Refused
from enclave_runner.plan.nodes import Call, Constant, Expression, Function, Literal, Name
from enclave_runner.plan.parse import parse_features, parse_select
from enclave_runner.plan.parse_constant import number
from tests.support.plan_printer import sql_of, text_of, without_positions

WORDS = (
    "SELECT", "COUNT(*)", "FROM", "t", "WHERE", "x", "=", "1", "AND", "GROUP", "BY", "a", ",", "(", ")", "SUM(x)",
    "IN", "BETWEEN", "'q'", "-1", ";", "WITH", "c", "AS", "NOT", "OR", "NULL", "CASE", "WHEN", "THEN", "ELSE", "END",
    "OVER", "FILTER", "LIMIT", "DATE", "CAST", "[", "]", "{", "}", "$1", "?", "::", "->", "=>", "\\", '"', "'", "/*",
    "--", "@", ".", "*", "%", "|", "&", "^", "~", "!", "0x1", "1e9", "PIVOT", "QUALIFY", "JOIN", "USING", "ON",
    "ROLLUP", "CUBE", "GROUPING", "SETS", "HAVING", "ORDER", "DESC", "UNION", "ALL", "DISTINCT",
    "DIFFERENTIAL_PRIVACY", "OPTIONS", "epsilon", "MEDIAN(x)", "QUANTILE(x,0.5)", "CEIL(x)", "EXTRACT(year", "FROM",
    "d)", "DATE_TRUNC('month',d)", "WIDTH_BUCKET(x,0,9,3)", "IS", "TRUE", "INTERVAL", "LATERAL", "RECURSIVE",
    "VALUES", "EXISTS", "TABLESAMPLE", "域", "\x00", "\u2028", "''", '""', ".", ",", "=", "||", "//", "<=>", "!~",
    "|>", "??", ":=", ":",
)  # fmt: skip
VALID = (
    "WITH c AS (SELECT a, x + 1 AS x FROM t WHERE x > 3) SELECT a, SUM(x) / COUNT(*) AS m FROM c GROUP BY a ORDER BY m",
    "SELECT u.region, COUNT(DISTINCT t.id) FROM u JOIN t USING (id) GROUP BY ROLLUP (u.region) HAVING COUNT(*) > 3",
    "SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS (epsilon = 1, noise = auto) MEDIAN(x) FROM t WHERE d < DATE '2026-01-31'",
    "SELECT COUNT(*) FILTER (WHERE CASE WHEN a IN (1, 2) THEN NOT f ELSE x BETWEEN 1 AND 2 END) FROM t LIMIT 3",
)

FAULTS = st.tuples(st.integers(0, 60), st.integers(0, 3), st.lists(st.sampled_from(WORDS), max_size=2))


def judged(sql: str) -> None:
    """A plan, or a refusal by a rule of SQL whose position lies in the text; nothing else."""
    for parse in (parse_select, parse_features):
        try:
            parse(sql)
        except Refused as refused:
            assert refused.rule.startswith("sql.")
            assert 1 <= int(refused.facts.get("position", 1)) <= len(sql) + 1


@given(st.lists(st.sampled_from(WORDS), max_size=16).map(" ".join))
@settings(max_examples=300, deadline=None)
def test_any_words_give_a_plan_or_a_refusal(sql: str) -> None:
    judged(sql)


@given(st.text(max_size=40))
@settings(max_examples=200, deadline=None)
def test_any_text_after_a_good_beginning_gives_a_plan_or_a_refusal(tail: str) -> None:
    judged("SELECT COUNT(*) FROM t" + tail)


@given(
    st.sampled_from(VALID),
    st.lists(FAULTS, max_size=3),
)
@settings(max_examples=400, deadline=None)
def test_a_valid_text_with_faults_gives_a_plan_or_a_refusal(sql: str, faults: list[tuple[int, int, list[str]]]) -> None:
    words = sql.split(" ")
    for place, removed, added in faults:
        words[place % len(words) : place % len(words) + removed] = added or [""]
        words = words or [""]
    judged(" ".join(words))


NUMBERS = st.sampled_from(["0", "1", "2.50", "0.001", "17"]).map(lambda text: constant(Literal.NUMBER, text))
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=4).map(
    lambda text: constant(Literal.TEXT, text)
)
COLUMNS = st.sampled_from(["a", "x", "User Id", 'q"q', "域", "select"]).map(
    lambda column: Name(column=column, table="t", position=0)
)
LEAVES = COLUMNS | NUMBERS | TEXTS | st.just(0).map(lambda _: constant(Literal.DATE, "2026-01-31"))
TWO = (Function.ADD, Function.SUBTRACT, Function.MULTIPLY, Function.DIVIDE, Function.EQ, Function.NE, Function.LT,
       Function.LE, Function.GT, Function.GE)  # fmt: skip
ONE = (Function.ABS, Function.FLOOR, Function.ROUND, Function.NOT, Function.IS_NULL, Function.YEAR, Function.MONTH)


def constant(kind: Literal, text: str) -> Constant:
    return Constant(kind=kind, text=text, position=0)


def call(function: Function, *arguments: Expression) -> Call:
    return Call(function=function, arguments=arguments, position=0)


def larger(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    return st.one_of(
        st.builds(call, st.sampled_from(TWO), inner, inner),
        st.builds(call, st.sampled_from(ONE), inner),
        st.builds(lambda first, rest: call(Function.IN, first, *rest), inner, st.lists(NUMBERS | TEXTS, min_size=1)),
        st.builds(lambda parts: call(Function.COALESCE, *parts), st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda a, b, c, d: call(Function.CASE, a, b, c, d, a), inner, inner, inner, inner),
        st.builds(lambda name: call(Function.NEGATE, name), COLUMNS),
        st.builds(lambda parts: call(Function.AND, *parts), st.lists(COLUMNS, min_size=2, max_size=4)),
        st.builds(lambda a, b: call(Function.OR, a, call(Function.AND, b, a)), COLUMNS, COLUMNS),
        st.builds(lambda value: call(Function.DATE_TRUNC, constant(Literal.TEXT, "month"), value), inner),
    )


@given(st.recursive(LEAVES, larger, max_leaves=12))
@settings(max_examples=300, deadline=None)
def test_a_printed_expression_reads_as_itself(expression: Expression) -> None:
    plan = parse_select(f"SELECT SUM({text_of(expression)}) AS s FROM t")
    read = plan.aggregates[0].argument
    assert read is not None
    assert without_positions(read) == without_positions(expression)
    assert without_positions(parse_select(sql_of(plan))) == without_positions(plan)


@given(st.recursive(LEAVES, larger, max_leaves=8), st.recursive(LEAVES, larger, max_leaves=8))
@settings(max_examples=150, deadline=None)
def test_inlining_is_substitution(inner: Expression, outer: Expression) -> None:
    """A subquery's column stands for its expression, whatever the columns of the dataset are called."""
    wrapped = f'(SELECT {text_of(inner)} AS a, t.x AS x, t."User Id" AS "User Id", t."q""q" AS "q""q", '
    wrapped += 't.域 AS 域, t."select" AS "select" FROM t) AS t'
    found = parse_select(f"SELECT SUM({text_of(outer)}) AS s FROM {wrapped}").aggregates[0].argument
    assert found is not None
    assert without_positions(found) == without_positions(flat(substituted(outer, inner)))


def substituted(expression: Expression, inner: Expression) -> Expression:
    """The expression with `inner` in place of the column a."""
    if isinstance(expression, Name) and expression.column == "a":
        return inner
    if isinstance(expression, Call):
        return call(expression.function, *(substituted(part, inner) for part in expression.arguments))
    return expression


def flat(expression: Expression) -> Expression:
    """AND inside AND and OR inside OR are one chain; the sign of a number is the number's."""
    if not isinstance(expression, Call):
        return expression
    parts: list[Expression] = []
    for part in map(flat, expression.arguments):
        same = isinstance(part, Call) and part.function is expression.function
        chain = expression.function in (Function.AND, Function.OR) and same
        parts += part.arguments if isinstance(part, Call) and chain else (part,)
    if expression.function is Function.NEGATE and isinstance(parts[0], Constant) and parts[0].kind is Literal.NUMBER:
        return constant(Literal.NUMBER, f"-{parts[0].text}")
    return call(expression.function, *parts)


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=0, max_value=10**12, places=6))
@settings(max_examples=200, deadline=None)
def test_a_number_keeps_its_value(value: object) -> None:
    for text in (f"{value}", f"{value:e}"):
        assert float(number(text, 1)) == float(str(value))
