"""The same exact vectors from a cluster engine: every rendered template, translated word for word to Spark SQL.

The translation is checked for what once went wrong (`//` that became a fraction, casts that were lost); where Java and
PySpark are installed, which this project does not depend on, it is run and must give bit-identical integers.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlglot
from sqlglot import exp

from enclave_runner.plan.bind import bind_features
from enclave_runner.plan.bound import BoundSelect
from enclave_runner.plan.parse import parse_features
from enclave_runner.plan.render import (
    render_candidates,
    render_features,
    render_histogram,
    render_sums,
    render_units,
    render_values,
)
from tests.support.plan_cases import Case, make_case
from tests.support.plan_catalogue import AREAS, KINDS, event, person, visit
from tests.support.plan_spark import asked_and_answered, spark_sql

PEOPLE = ("events", "JOIN people USING (who)")
ROWS = (
    *(
        event(f"u{n % 5}", kind=KINDS[n % 7], amount=n * 7 % 30 - 10, money=n * 3 - 60, flag=n % 3 == 0)
        for n in range(40)
    ),
    *(event(f"u{n % 5}", note=f"n{n % 4}") for n in range(9)),
    event("u1", kind=None, amount=None, flag=None, note=None, area=None),
    *(person(f"u{n}", age=n * 2, income=n * 100 - 100) for n in range(5)),
    *(visit(f"u{n % 4}", cost=n - 3) for n in range(9)),
    *AREAS,
)  # fmt: skip
TEMPLATES = {
    "rows": Case(("COUNT(*)",), ROWS, keys=("kind",)),
    "measured, L1": Case(("COUNT(*)", "SUM(amount)"), ROWS, keys=("flag",), power=1),
    "measured, L2": Case(("AVG(amount)", "VARIANCE(money / 7)", "SUM(fee) FILTER (WHERE flag)"), ROWS, keys=("kind",)),
    "none": Case(("SUM(age)", "SUM(FLOOR(income))"), ROWS, source=("people",), keys=("sex",)),
    "joined": Case(("SUM(age * amount)", "COUNT(*)"), ROWS, source=PEOPLE, where=("active",)),
    "product": Case(("SUM(cost)",), ROWS, source=("events", "JOIN visits USING (who)"), keys=("place",)),
    "public": Case(("COUNT(*)",), ROWS, source=("events", "JOIN areas ON events.area = areas.code"), keys=("city",)),
    "units": Case(("COUNT(DISTINCT who)", "COUNT(DISTINCT who) FILTER (WHERE flag)"), ROWS, keys=("kind",)),
    "values": Case(("COUNT(DISTINCT kind)",), ROWS),
    "histogram": Case(("MEDIAN(amount)", "MAX(ROUND(money))"), ROWS, keys=("flag",)),
    "candidates": Case(("COUNT(*)",), ROWS, keys=("note",)),
    "buckets": Case(("COUNT(*)",), ROWS, keys=("WIDTH_BUCKET(amount, -5, 10, 3)", "LEAST(GREATEST(amount, 0), 2)")),
    "dates": Case(("COUNT(*)",), ROWS, keys=("DATE_TRUNC('month', day)",)),
}


KEPT = (exp.Join, exp.Window, exp.Case, exp.Distinct, exp.Sum, exp.Count, exp.Mod, exp.Least, exp.Greatest, exp.Where)
TYPES = {
    "BIGINT": ("BIGINT",),
    "DOUBLE": ("DOUBLE",),
    "BOOLEAN": ("BOOLEAN",),
    "DATE": ("DATE",),
    "TEXT": ("TEXT",),
    "DECIMAL(38, 0)": ("INT128",),
}


def rendered(plan: BoundSelect) -> Iterator[str]:
    """The SQL of every vector, at a clip that bites."""
    if plan.sums is not None:
        yield render_sums(plan, max(1, plan.sums.clipping.limit // 2))
    yield from (render_units(plan, item) for item in plan.units)
    yield from (render_values(plan, item) for item in plan.values)
    yield from (render_histogram(plan, item, 2) for item in plan.histograms)
    if plan.is_open:
        yield render_candidates(plan)
    norm = plan.sources[plan.root].norm
    if norm is not None:  # what the builder measures: here only the float root matters
        yield f"SELECT {norm}, count(*) FROM t{plan.root} GROUP BY {norm}"


def check_translation(sql: str) -> None:
    """Spark's parser reads it again, every integer division is one, and every cast is where it was."""
    translated = spark_sql(sql)
    ours, theirs = sqlglot.parse_one(sql, read="duckdb"), sqlglot.parse_one(translated, read="spark")
    assert translated.count(" DIV ") == sql.count(" // ")
    for name in ("//", "HUGEINT", "INT128", "TRY_CAST"):
        assert name not in translated
    for node in KEPT:
        assert len(list(ours.find_all(node))) == len(list(theirs.find_all(node))), node
    for theirs_name, ours_names in TYPES.items():
        added = len(list(theirs.find_all(exp.Sum))) if theirs_name == "DECIMAL(38, 0)" else 0
        assert casts(theirs, theirs_name) == sum(casts(ours, name) for name in ours_names) + added, theirs_name


def casts(tree: exp.Expr, name: str) -> int:
    """How many casts to that type a statement has."""
    return sum(cast.to.sql().upper() == name for cast in tree.find_all(exp.Cast))


@pytest.mark.parametrize("case", TEMPLATES.values(), ids=TEMPLATES)
def test_a_template_is_translated_word_for_word(case: Case) -> None:
    _, bound = case.bind()
    assert [check_translation(sql) for sql in rendered(bound)]


def test_the_inputs_of_a_model_are_translated_word_for_word() -> None:
    spec = TEMPLATES["rows"].specs[0]
    text = f"SELECT amount, money FROM {spec.dataset_id} WHERE flag"
    plan = bind_features(parse_features(text), TEMPLATES["rows"].granted)
    check_translation(render_features(plan))


def test_random_plans_are_translated_word_for_word() -> None:
    found = [planned[1] for seed in range(60) if (planned := make_case(seed).planned()) is not None]
    assert len(found) > 40
    for plan in found:
        for sql in rendered(plan):
            check_translation(sql)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_spark_gives_the_same_integers(tmp_path: Path) -> None:
    """In a process of its own: Spark keeps threads, sockets and a JVM."""
    if shutil.which("java") is None or importlib.util.find_spec("pyspark") is None:
        pytest.skip("no Java or no PySpark here: Spark was not run")
    bound = [case.bind()[1] for case in TEMPLATES.values()]
    both = [
        asked_and_answered(case, plan, list(rendered(plan)))
        for case, plan in zip(TEMPLATES.values(), bound, strict=True)
    ]
    asked, expected = [item[0] for item in both], [item[1] for item in both]
    (tmp_path / "asked.json").write_text(json.dumps(asked))
    command = [sys.executable, str(Path(__file__).parents[1] / "support" / "spark_program.py"), str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, timeout=800)
    assert json.loads((tmp_path / "answers.json").read_text()) == expected
