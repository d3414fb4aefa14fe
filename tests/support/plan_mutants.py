"""Faults for the grey box: each is patched into the code that runs, beside a small case that shows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from msgspec import structs

from enclave_runner.egress import measure
from enclave_runner.kinds import aggregate, discover, spread
from enclave_runner.kinds.tasks import Aggregation, CellQuery, KeyedVectors, Vectors
from enclave_runner.plan import bind, expression, operations, render, statistics
from enclave_runner.plan.bound import Clipping
from enclave_runner.plan.nodes import Function
from enclave_runner.supervisor import extracts, run_query
from tests.support import plan_engine
from tests.support.plan_cases import Case
from tests.support.plan_catalogue import KINDS, city, event, person, visit

Wrong = Callable[..., Any]
CATALOGUE = "WITH DIFFERENTIAL_PRIVACY OPTIONS(bounds=catalogue)"
ONE_KEY = "WITH DIFFERENTIAL_PRIVACY OPTIONS(max_groups_contributed=1)"
PEOPLE = ("people", "JOIN events USING (who)")
MANY = tuple(event("u0", kind=kind, note=kind) for kind in KINDS)
BASE = (*MANY, event("u1", amount=-10, kind=None), event("u2", amount=None), event("u2", amount=7))
WIDE = (-(10**15), 10**15)
COUNT = Case(("COUNT(*)",), BASE)
FIFTHS = Case(("COUNT(*)",), BASE, specs=city(limit=5))
SUM = Case(("SUM(amount)",), BASE)
JOINT = Case(("AVG(amount)", "SUM(fee)"), tuple(event("u0", fee=10_000) for _ in range(7)))
TWO_SUMS = Case(("SUM(age)", "SUM(income)"), (person("u0", income=10**6),), source=("people",), power=1)
SEVERAL = Case(
    ("COUNT(*)",), (*MANY[:4], *(visit("u0") for _ in range(4))), source=("events", "JOIN visits USING (who)")
)
UNITS = Case(("COUNT(DISTINCT who)",), BASE, keys=("kind",))
KEYS = Case(("COUNT(*)",), BASE, keys=("note",), options=ONE_KEY)
AGAIN = Case(("COUNT(*)",), tuple(event("u0") for _ in range(5)), keys=("note",))
VALUES = Case(("COUNT(DISTINCT kind)",), BASE)
MEDIAN = Case(("MEDIAN(amount)", "MAX(money / 3)"), BASE)
FLAGGED = Case(("MEDIAN(amount) FILTER (WHERE flag)",), (*BASE, event("u3", flag=False)))
CUBE = Case(("COUNT(*)",), MANY, keys=("kind", "flag"), sets="CUBE ({})")
# In every cell the second unit leaves room for the first one's flooring error to become a whole step.
COARSE = Case(
    ("SUM(amount)",),
    tuple(event(who, kind=kind, amount=size) for who, size in (("u0", 10**15), ("u1", 60_397_977)) for kind in KINDS),
    keys=("kind",),
    power=1,
    specs=city(wide=WIDE, cap=2 * 10**9, limit=7),
)
ABSOLUTE = Case(("SUM(ABS(income))",), (person("u0", income=10**6),), source=("people",))
PRODUCT = Case(("SUM(amount * (age - 12))",), (event("u0"), person("u0", age=0)), source=PEOPLE)
EXTREME = Case(
    ("SUM(LEAST(income + 0, amount + 0))",), (person("u0", income=10**6), event("u0", amount=None)), source=PEOPLE
)
APART = (*(event(f"u{n}", note=note) for n in range(5) for note in "xy"), event("w0"), event("w4"))


@dataclass(frozen=True)
class Mutant:
    """One fault: whose attribute is replaced, by what it becomes, and the case that shows it."""

    case: Case
    where: object
    name: str
    of: Wrong


def result(case: Case, where: object, name: str, of: Wrong) -> Mutant:
    """A fault in what a function gives: `of` gets the function itself and its arguments."""
    return Mutant(case, where, name, lambda original: lambda *args, **named: of(original, *args, **named))


def text(case: Case, where: object, name: str, old: str, new: str) -> Mutant:
    """A fault in the text that a renderer gives."""
    return result(case, where, name, lambda f, *args: f(*args).replace(old, new))


def built(case: Case, old: str, new: str) -> Mutant:
    """A fault in the SQL that builds the extract."""
    return Mutant(case, plan_engine, "REWRITES", lambda original: [(old, new)])


def operation(case: Case, function: Function, of: Wrong) -> Mutant:
    """A fault in one operation of expressions."""
    return Mutant(case, expression, "OPERATIONS", lambda table: {**table, function: lambda x: of(table[function], x)})


def guard(case: Case, old: str, new: str) -> Mutant:
    """A fault in what bounds a value before it is summed."""
    return result(case, statistics, "guarded", lambda f, item: replace(f(item), sql=f(item).sql.replace(old, new)))


def _other_rows(norm: str) -> Wrong:
    return lambda f, tables, asked, factor: structs.replace(f(tables, asked, factor), norm=norm)


def _one_key(f: Wrong, enclave: Any, plan: Any, share: Any, made: Any) -> None:
    sql = f"SELECT count(*) FROM ({run_query.render_candidates(plan)}) AS c"
    query = Aggregation(tables=1, queries=(CellQuery(sql=sql, axes=(), width=1),), coarsenings=(1,))
    share.mechanism(1).add(run_query._summed(enclave, made, query)[0])


def _of_candidates(f: Wrong, task: Any, descriptors: list[int]) -> KeyedVectors:
    """Sums of those keys alone that are candidates in the same partition."""
    found: KeyedVectors = f(task, descriptors)
    if not task.keys:
        return found
    here = f(structs.replace(task, keys=()), descriptors).keys
    vectors = tuple(
        tuple(cell if key in here else 0 for key, cell in zip(found.keys, vector, strict=True))
        for vector in found.vectors
    )
    return structs.replace(found, vectors=vectors)


def _by_rows(f: Wrong, task: Any, descriptors: list[int]) -> Vectors:
    (counts,) = f(task, descriptors).vectors
    return Vectors(vectors=(tuple(count * edge for count, edge in zip(counts, task.edges, strict=True)),))


def _any_scale(f: Wrong, collector: Any, entry: Any) -> int:
    same = [at for at, known in enumerate(collector.entries) if known.sql == entry.sql]
    return same[0] if same else f(collector, entry)


WEIGHTS = {
    "a weight is rounded up": result(
        FIFTHS, render, "_weight", lambda f, c, n: f"CAST(ceil(CAST({n << 20} AS DOUBLE) / {c.norm}) AS BIGINT)"
    ),
    "a weight is rounded to the nearest": result(
        FIFTHS, render, "_weight", lambda f, c, n: f"CAST(round(CAST({n << 20} AS DOUBLE) / {c.norm}) AS BIGINT)"
    ),
    "a weight is a float": text(FIFTHS, render, "_weight", " // t0._rows", " / t0._rows"),
    "a weight is divided as DECIMAL": result(
        FIFTHS, render, "_weight", lambda f, c, n: f"CAST(CAST({n << 20} AS DECIMAL(38, 0)) // {c.norm} AS BIGINT)"
    ),
    "a weight is forgotten": result(COUNT, render, "_weight", lambda f, c, n: "CAST(1048576 AS BIGINT)"),
    "a weight allows one row more": result(COUNT, render, "_weight", lambda f, c, n: f(c, n + 1)),
    "a weight of 1 goes on for one row": text(
        Case(("COUNT(*)",), MANY[:4]), render, "_weight", "<= CAST(3 AS", "<= CAST(4 AS"
    ),
    "the scale of a divided weight is doubled": text(COUNT, render, "_weight", "CAST(3145728 AS", "CAST(6291456 AS"),
    "constants have 32 bits": text(
        Case(("COUNT(*)",), BASE, specs=city(limit=5000)), render, "number", " AS BIGINT", " AS INTEGER"
    ),
    "64 bits where 128 are needed": text(
        Case(("SUM(amount)",), (event("u0", amount=10**15),), specs=city(wide=WIDE)),
        render,
        "_weighted",
        " AS HUGEINT",
        " AS BIGINT",
    ),
    "half of the sensitivity": result(COUNT, Clipping, "sensitivity", lambda f, self, clip: f(self, clip) // 2),
    "counting stops one row too late": result(
        Case(("COUNT(*)",), MANY[:4], options=CATALOGUE),
        extracts,
        "_above",
        lambda f, plan, source: f(plan, source) + 1,
    ),
    "a join's rows are those of one table": result(SEVERAL, bind, "_rows_clipping", _other_rows("t0._rows")),
    "a join's rows are a sum": result(SEVERAL, bind, "_rows_clipping", _other_rows("(t0._rows + t1._rows)")),
    "all rows together are one unit's": built(
        COUNT, "count(*) AS _rows", "CAST(sum(count(*)) OVER () AS BIGINT) AS _rows"
    ),
    "the rows of a unit lie in several partitions": built(
        Case(("COUNT(*)",), MANY, keys=("kind",), partitions=3), 'hash(t0."who")', 'hash(t0."kind")'
    ),
    "the correction has the noise of a lower clip": result(
        COUNT, run_query, "_total", lambda f, plan, sums, share, clip, exact: f(plan, sums, share, 1, exact)
    ),
    "the learned norms are spread by rows": result(COUNT, spread, "run", _by_rows),
}
NORMS = {
    "a measured norm is the largest row's": built(SUM, "CAST(sum(", "CAST(max("),
    "a measured norm is an average": built(SUM, "CAST(sum(", "CAST(avg("),
    "units beyond 62 bits are kept": built(
        Case(("SUM(amount * 2000)",), tuple(event("u0", amount=10**15) for _ in range(5)), specs=city(wide=WIDE)),
        " HAVING sum(",
        " HAVING 0 * sum(",
    ),
    "a norm is rounded down": result(
        JOINT, bind, "row_norm", lambda f, *args: f(*args).replace("ceil(", "floor(").replace("1.000000000001", "0.999")
    ),
    "a norm is that of the first statistic": result(JOINT, bind, "row_norm", lambda f, s, power: f(s[:1], power)),
    "a norm leaves out negative values": result(
        Case(("SUM(-amount)",), MANY), bind, "row_norm", lambda f, *args: f(*args).replace("abs(", "greatest(0, ")
    ),
    "a norm leaves out some rows": result(
        SUM, bind, "row_norm", lambda f, *args: f'CASE WHEN t0."amount" > 20 THEN {f(*args)} ELSE CAST(0 AS BIGINT) END'
    ),
    "the factor of a row is forgotten": result(PRODUCT, bind, "row_bound", lambda f, s, power: 1),
    "a row's bound is that of its first statistic": result(
        TWO_SUMS, bind, "row_bound", lambda f, s, power: f(s[:1], power)
    ),
    "Laplace noise has the Euclidean bound": result(TWO_SUMS, bind, "row_bound", lambda f, s, power: f(s, 2)),
    "a centred sum forgets one side": result(
        Case(("AVG(age)",), (person("u0", age=12),), source=("people",)),
        statistics,
        "_scaled",
        lambda f, *args: structs.replace(f(*args), magnitude=1),
    ),
}
VALUES_OF_ROWS = {
    "the lower bound is not enforced": guard(
        Case(("SUM(age)",), (person("u0", age=-(10**6)),), source=("people",)), "CAST(0 AS", "CAST(-99999999 AS"
    ),
    "the upper bound is not enforced": guard(
        Case(("SUM(age)",), (person("u0", age=10**6),), source=("people",)), "CAST(12 AS", "CAST(13 AS"
    ),
    "an extreme is bounded by what may be null": result(
        EXTREME,
        operations,
        "_end",
        lambda f, outer, choose, every, sure: choose([end for end in every if end is not None]),
    ),
    "an absolute value has the bound of one side": operation(
        ABSOLUTE, Function.ABS, lambda f, x: replace(f(x), high=100, ceiling=100)
    ),
    "a product forgets a corner": operation(
        PRODUCT, Function.MULTIPLY, lambda f, x: replace(f(x), low=-120, floor=-120)
    ),
    "a quotient is rounded": operation(
        Case(("SUM(money / 7)",), tuple(event("u0", money=money) for money in (1, 2, 3))),
        Function.DIVIDE,
        lambda f, x: replace(f(x), sql=f"CAST(round({x[0].sql} * 10000 / 7) AS BIGINT)"),
    ),
    "a floor is cut toward zero": operation(
        Case(("SUM(FLOOR(money))",), (event("u0", money=-65), event("u1"))),
        Function.FLOOR,
        lambda f, x: replace(f(x), sql=f"({x[0].sql} // CAST(100 AS BIGINT))"),
    ),
    "a half is rounded down": operation(
        Case(("SUM(ROUND(money))",), (event("u0", money=50), event("u1", money=-50))),
        Function.ROUND,
        lambda f, x: replace(f(x), sql=f(x).sql.replace("CAST(50 AS", "CAST(49 AS")),
    ),
    "a bucket is one too high at its lower edge": operation(
        Case(("COUNT(*)",), (event("u0", amount=0), event("u1", amount=7)), keys=("WIDTH_BUCKET(amount, 0, 9, 3)",)),
        Function.WIDTH_BUCKET,
        lambda f, x: replace(f(x), sql=f(x).sql.replace(" < CAST(0 AS", " <= CAST(0 AS")),
    ),
    "nulls are counted": result(Case(("COUNT(amount)",), BASE), statistics, "both", lambda f, left, right: left),
    "constants of two scales are one sum": result(
        Case(("SUM(5)", "SUM(0.5)"), BASE), statistics.Collector, "_add", _any_scale
    ),
    "a sum of nothing is null": text(
        Case(("SUM(amount)",), (event("u0"),), where=("amount < 0",)), render, "_weighted", "coalesce(", "nullif("
    ),
}
GROUPS = {
    "rows are counted for units": text(UNITS, render, "_unit_count", "count(DISTINCT t0._unit)", "count(*)"),
    "a unit is taken to be in one group": result(UNITS, bind, "Units", lambda f, condition, groups: f(condition, 1)),
    "the root of the groups under Laplace noise": result(
        replace(UNITS, power=1),
        measure,
        "units_mechanism",
        lambda f, groups, power, share: (share.mechanism(measure.rounded_root(groups)), 1),
    ),
    "two units have one number": built(
        Case(("COUNT(DISTINCT who)",), (*BASE, event("u3")), keys=("kind",)),
        "row_number() OVER ()",
        "1 + row_number() OVER () % 2",
    ),
    "units are numbered anew in another table": built(
        Case(
            ("COUNT(*)",),
            (*(event(f"u{n % 3}") for n in range(6)), event("u0"), *(person(f"u{n}", age=n) for n in range(3))),
            source=PEOPLE,
            keys=("age",),
        ),
        "d._unit FROM source0",
        "CAST(d._unit % 2 + 1 AS UINTEGER) AS _unit FROM source0",
    ),
    "keys of one unit are not limited": text(KEYS, run_query, "render_candidates", " WHERE r <= CAST(1 AS BIGINT)", ""),
    "one key more than the limit": text(KEYS, run_query, "render_candidates", "r <= CAST(1", "r <= CAST(2"),
    "the rank of a key goes over all units": text(KEYS, run_query, "render_candidates", "PARTITION BY u ", ""),
    "which keys count depends on the order of rows": text(
        replace(KEYS, rows=(*MANY, *(event(f"u{n}", note=KINDS[n + m]) for n in range(1, 4) for m in (3, 2, 1)))),
        run_query,
        "render_candidates",
        " ORDER BY md5(concat_ws('yunei', k0)), k0",
        "",
    ),
    "a unit counts in a key once per row": text(AGAIN, run_query, "render_candidates", "SELECT DISTINCT", "SELECT"),
    "the number of keys has the sensitivity of one": result(
        replace(KEYS, options=""), run_query, "_check_keys", _one_key
    ),
    "sums come from the candidates of a partition": result(
        Case(("COUNT(*)",), APART, keys=("note",), options=ONE_KEY, partitions=3), discover, "run", _of_candidates
    ),
    "values of one unit are not limited": text(VALUES, run_query, "render_values", " WHERE r <= CAST(3 AS BIGINT)", ""),
    "one value more than the limit": text(VALUES, run_query, "render_values", "r <= CAST(3", "r <= CAST(4"),
    "bins are floats": text(MEDIAN, run_query, "render_histogram", " // CAST(", " / CAST("),
    "a histogram counts rows": text(MEDIAN, run_query, "render_histogram", "sum(", "count("),
    "the condition of a histogram is forgotten": result(
        FLAGGED, run_query, "render_histogram", lambda f, p, h, c: f(p, h, c).replace(f" WHERE {h.condition}", "")
    ),
    "WHERE is forgotten in a join": result(
        Case(("COUNT(*)",), (*BASE, person("u0")), source=PEOPLE, where=("age > 12",)),
        render,
        "_where",
        lambda f, *a: "",
    ),
    "LIMIT below the noise": text(COUNT, run_query, "render_sums", " FROM t0", " FROM (FROM t0 LIMIT 3) AS t0"),
    "HAVING on exact values": result(
        COUNT, run_query, "render_sums", lambda f, *args: f"{f(*args)} HAVING count(*) > 1"
    ),
    "a window over units": text(COUNT, run_query, "render_sums", "sum(CASE", "sum(count(*)) OVER () + sum(CASE"),
    "a coarsened vector has no room for its errors": result(
        COARSE, measure, "coarsened", lambda f, sensitivity, step, *rest: -(-sensitivity // step)
    ),
    "a coarsened cell is rounded": result(
        COARSE, aggregate, "vectors_of", lambda f, c, query: [[cell + (1 << 45) for cell in v] for v in f(c, query)]
    ),
    "grouping sets share one sensitivity": result(
        CUBE, measure, "_marginals", lambda f, plan, share, bound, *rest: f(plan, share, bound // 2, *rest)
    ),
}
MUTANTS: dict[str, Mutant] = {**WEIGHTS, **NORMS, **VALUES_OF_ROWS, **GROUPS}
