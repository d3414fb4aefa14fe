"""The traps of differentially private SQL, each by its name: what the planner refuses, by which rule, and where.

Numbers are those of the list of traps that the design was made against. What a trap does when it runs stands in
tests/statistical/test_stat_query_traps.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from decimal import Decimal

import duckdb
import pytest

from enclave_runner.contract.dataset import ColumnType, DatasetSpec, KeyKind
from enclave_runner.contract.errors import Refused
from enclave_runner.dp.conversion import epsilon_of, pico_rho_of
from enclave_runner.plan.bound import NORM, ROWS, UNIT
from enclave_runner.plan.nodes import AggregateKind
from enclave_runner.plan.render import render_sums
from enclave_runner.supervisor.plan_query import rendered
from tests.support.enclave_home import changed, column
from tests.support.exact_enclave import ExactEnclave, Table, exact_enclave
from tests.support.refusals import refused_by
from tests.support.worker_files import take_in

HIDDEN = frozenset({"who"})
EVENTS = DatasetSpec(
    dataset_id="events",
    columns=(
        column("who", ColumnType.TEXT, grade=3),
        column("grp", ColumnType.TEXT, domain=("a", "b", "c")),
        column("x", ColumnType.INTEGER, bounds=(-10, 4), nullable=True),
        column("money", ColumnType.DECIMAL, scale=2, bounds=(0, 10_000)),
        column("free", ColumnType.INTEGER),
        column("day", ColumnType.DATE, bounds=(-400, 400)),
        column("note", ColumnType.TEXT),
        column("division", ColumnType.TEXT),
        column("secret", ColumnType.INTEGER, bounds=(0, 9)),
        column("core", ColumnType.INTEGER, bounds=(0, 9), grade=4),
    ),
    entity_set="resident",
    entity_column="who",
    key_kind=KeyKind.OPAQUE,
    population_cap=1000,
    rows_per_entity=4,
)
PEOPLE = DatasetSpec(
    dataset_id="people",
    columns=(
        column("who", ColumnType.TEXT, grade=3),
        column("region", ColumnType.TEXT, domain=("n", "s")),
        column("age", ColumnType.INTEGER, bounds=(0, 120)),
        column("home", ColumnType.TEXT),
    ),
    entity_set="resident",
    entity_column="who",
    key_kind=KeyKind.OPAQUE,
    population_cap=1000,
    unique=True,
    rows_per_entity=1,
)
FIRMS = changed(PEOPLE, dataset_id="firms", entity_set="enterprise")
UNBOUNDED = changed(EVENTS, dataset_id="unbounded", rows_per_entity=None)
DIVISIONS = DatasetSpec(
    dataset_id="divisions",
    columns=(column("code", ColumnType.TEXT), column("city", ColumnType.TEXT, domain=("e", "w"))),
    entity_set="public",
    entity_column="code",
    key_kind=KeyKind.OPAQUE,
    population_cap=100,
    unique=True,
    rows_per_entity=1,
    public=True,
)
TABLES = (
    Table(EVENTS, (), HIDDEN | {"secret"}),
    Table(PEOPLE, (), HIDDEN),
    Table(FIRMS, (), HIDDEN),
    Table(UNBOUNDED, (), HIDDEN),
    Table(DIVISIONS, ()),
)


@pytest.fixture(scope="module")
def enclave() -> Iterator[ExactEnclave]:
    with exact_enclave(*TABLES) as opened:
        yield opened


N = "SELECT COUNT(*) FROM events"
# A caret marks the position of the refusal in the text; it is no part of it.
REFUSED = {
    # 5, section 9: what can raise for one value, and so tell it
    "cast-of-a-column": (f"{N} WHERE ^CAST(note AS INT) = 1", "sql.cast"),
    "cast-by-colons": (f"{N} WHERE ^note::INT = 1", "sql.cast"),
    "try-cast": (f"{N} WHERE ^TRY_CAST(note AS INT) = 1", "sql.cast"),
    "strptime": (f"{N} WHERE ^strptime(note, '%Y') IS NULL", "sql.cast"),
    "error": (f"{N} WHERE ^error('leak ' || note) IS NULL", "sql.volatile"),
    "json": (f"{N} WHERE ^json_extract(note, '$.a') IS NULL", "sql.unsupported"),
    "division-by-a-column": ("SELECT SUM(money / ^x) FROM events", "sql.division"),
    "division-by-zero": ("SELECT SUM(money / ^0) FROM events", "sql.division"),
    "whole-division": ("SELECT SUM(^money // x) FROM events", "sql.integer-division"),
    "modulo": ("SELECT SUM(^money % 2) FROM events", "sql.integer-division"),
    "overflow": ("SELECT SUM(^money * money * money * money * money) FROM events", "sql.overflow"),
    "overflow-of-a-constant": ("SELECT SUM(money * ^9223372036854775807) FROM events", "sql.constant"),
    "overflow-of-a-square": ("SELECT VARIANCE(^money * 1000000000) FROM events", "sql.overflow"),
    "date-arithmetic": (f"{N} WHERE day + ^INTERVAL 1 DAY > day", "sql.unsupported"),
    "date-out-of-range": (f"{N} WHERE day > ^DATE '99999-01-01'", "sql.date"),
    "date-of-a-text": (f"{N} WHERE ^CAST(note AS DATE) > day", "sql.cast"),
    "chr": (f"{N} WHERE ^chr(x) = 'a'", "sql.unsupported"),
    "repeat": (f"{N} WHERE ^repeat(note, 1000000000) = 'a'", "sql.unsupported"),
    "to-years": (f"{N} WHERE ^to_years(x) IS NULL", "sql.unsupported"),
    "logarithm": ("SELECT SUM(^ln(x)) FROM events", "sql.unsupported"),
    "root": ("SELECT SUM(^sqrt(x)) FROM events", "sql.unsupported"),
    "power": ("SELECT SUM(^power(x, 400)) FROM events", "sql.unsupported"),
    # 4: no float can enter
    "nan": (f"{N} WHERE x > ^CAST('NaN' AS DOUBLE)", "sql.cast"),
    "infinity": (f"{N} WHERE x < ^'inf'::DOUBLE", "sql.cast"),
    # 6: no raw value in HAVING, ORDER BY, LIMIT, ratios
    "having-on-raw": (f"{N} GROUP BY grp HAVING ^x > 1", "sql.group"),
    "order-by-raw": (f"{N} GROUP BY grp ORDER BY ^x", "sql.group"),
    "ratio-with-raw": ("SELECT SUM(x) / ^x FROM events", "sql.group"),
    "limit-below-the-noise": ("SELECT COUNT(*) FROM (SELECT x FROM events ^LIMIT 5) AS e", "sql.subquery"),
    "qualify": (f"{N} ^QUALIFY row_number() OVER () = 1", "sql.clause"),
    # 10: joins
    "self-join": ("SELECT COUNT(*) FROM events AS a JOIN ^events AS b ON a.who = b.who", "sql.join"),
    "join-on-a-value": ("SELECT COUNT(*) FROM events AS a JOIN people AS b ON a.note = ^b.home", "sql.join"),
    "join-on-one-unit": ("SELECT COUNT(*) FROM events AS a JOIN people AS b ON a.who = ^b.home", "sql.join"),
    "join-of-two-kinds-of-units": ("SELECT COUNT(*) FROM events AS a JOIN firms AS b ON a.who = ^b.who", "sql.join"),
    "join-to-a-public-value": (
        "SELECT COUNT(*) FROM events AS a JOIN divisions AS b ON a.division = ^b.city", "sql.join"),
    "join-through-a-public-table": (
        "SELECT COUNT(*) FROM events AS a JOIN divisions AS b ON a.division = b.code "
        "JOIN people AS c ON b.code = ^c.home", "sql.join"),
    "join-by-two-keys": (
        "SELECT COUNT(*) FROM events AS a JOIN people AS b ON a.who = b.who AND ^a.note = b.home", "sql.join"),
    "join-by-less": ("SELECT COUNT(*) FROM events AS a ^JOIN people AS b ON a.who < b.who", "sql.join-form"),
    "outer-join": (f"{N} ^LEFT JOIN people USING (who)", "sql.join-form"),
    "public-alone": ("SELECT COUNT(*) FROM divisions", "sql.unit-missing"),
    # 12, 19: a bound that is missing refuses
    "no-rows-per-unit": ("SELECT COUNT(*) FROM unbounded", "dataset.unit-bound-missing"),
    "no-rows-per-unit-by-option": (
        "SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS(max_rows_contributed=3) COUNT(*) FROM unbounded",
        "dataset.unit-bound-missing"),
    "no-bounds": ("SELECT SUM(free) FROM events", "dataset.bound-missing"),
    "no-bounds-in-an-expression": ("SELECT SUM(free + 1) FROM events", "dataset.bound-missing"),
    "no-bounds-of-a-mean": ("SELECT AVG(free) FROM events", "dataset.bound-missing"),
    "no-bounds-of-a-quantile": ("SELECT MEDIAN(free) FROM events", "dataset.bound-missing"),
    "one-sided-bound": ("SELECT SUM(LEAST(free, 5)) FROM events", "dataset.bound-missing"),
    "no-domain-of-values": ("SELECT COUNT(DISTINCT note) FROM events", "dataset.domain-missing"),
    "no-domain-of-a-rollup": ("SELECT note, COUNT(*) FROM events GROUP BY ROLLUP (note)", "dataset.domain-missing"),
    "no-domain-of-a-quantile's-key": ("SELECT note, MEDIAN(x) FROM events GROUP BY note", "dataset.domain-missing"),
    "another-unit": ("SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS(privacy_unit_column=note) COUNT(*) FROM events",
                     "sql.unit-column"),
    "values-by-group": ("SELECT grp, ^COUNT(DISTINCT x) FROM events GROUP BY grp", "sql.distinct"),
    # 15, section 4
    "random": (f"{N} WHERE ^random() < 0.5", "sql.volatile"),
    "now": (f"{N} WHERE day < ^now()", "sql.volatile"),
    "current-date": (f"{N} WHERE day < ^CURRENT_DATE", "sql.volatile"),
    "nextval": (f"{N} WHERE ^nextval('s') = 1", "sql.volatile"),
    "uuid": (f"{N} WHERE ^uuid() IS NULL", "sql.volatile"),
    "correlated": (f"{N} WHERE ^EXISTS (SELECT 1 FROM people AS p WHERE p.who = events.who)", "sql.scalar-subquery"),
    "scalar-subquery": (f"{N} WHERE x = ^(SELECT MAX(x) FROM events)", "sql.scalar-subquery"),
    "in-subquery": (f"{N} WHERE note IN (^SELECT home FROM people)", "sql.scalar-subquery"),
    "window": ("SELECT ^SUM(x) OVER (PARTITION BY grp) FROM events", "sql.window"),
    "window-in-a-subquery": (
        "SELECT SUM(r) FROM (SELECT ^row_number() OVER (ORDER BY x) AS r FROM events) AS e", "sql.window"),
    "read-csv": ("SELECT COUNT(*) FROM ^read_csv('x.csv')", "sql.source"),
    "read-text": (f"{N} WHERE ^read_text('x') IS NULL", "sql.unsupported"),
    "glob": ("SELECT COUNT(*) FROM ^glob('*')", "sql.source"),
    "getenv": (f"{N} WHERE note = ^getenv('HOME')", "sql.volatile"),
    "setting": (f"{N} WHERE note = ^current_setting('memory_limit')", "sql.volatile"),
    "regex": (f"{N} WHERE ^regexp_matches(note, '(a+)+$')", "sql.text-function"),
    "like": (f"{N} WHERE ^note LIKE '%a'", "sql.text-function"),
    "similar": (f"{N} WHERE ^note SIMILAR TO 'a+'", "sql.text-function"),
    "string-agg": ("SELECT ^string_agg(note, ',') FROM events", "sql.raw-value"),
    "array-agg": ("SELECT ^array_agg(note) FROM events", "sql.raw-value"),
    "histogram": ("SELECT ^histogram(note) FROM events", "sql.raw-value"),
    "first": ("SELECT ^first(note) FROM events", "sql.raw-value"),
    "mode": ("SELECT ^mode(note) FROM events", "sql.raw-value"),
    "arg-max": ("SELECT ^arg_max(note, x) FROM events", "sql.raw-value"),
    "any-value": ("SELECT ^any_value(note) FROM events", "sql.raw-value"),
    "bitstring": ("SELECT ^bitstring_agg(x) FROM events", "sql.raw-value"),
    "hash-of-the-unit": (f"{N} WHERE ^hash(who) = 1", "sql.text-function"),
    "digest-of-the-unit": (f"{N} WHERE ^md5(who) = 'a'", "sql.text-function"),
    "star": ("SELECT ^* FROM events", "sql.star"),
    # the unit's key, ungranted, core or unknown columns
    "unit-as-output": ("SELECT ^who, COUNT(*) FROM events", "sql.group"),
    "unit-as-key": ("SELECT who, COUNT(*) FROM events GROUP BY who", "grant.column"),
    "unit-in-a-condition": (f"{N} WHERE who = 'u1'", "grant.column"),
    "unit-in-a-filter": ("SELECT COUNT(*) FILTER (WHERE who = 'u1') FROM events", "grant.column"),
    "unit-in-a-case": ("SELECT SUM(CASE WHEN who = 'u1' THEN x ELSE 0 END) FROM events", "grant.column"),
    "unit-counted-as-a-value": ("SELECT COUNT(who) FROM events", "grant.column"),
    "unit-as-a-public-key": ("SELECT COUNT(*) FROM events JOIN divisions ON events.who = divisions.code",
                             "grant.column"),
    "unit-under-another-name": ("WITH e AS (SELECT who AS w FROM events) SELECT w, COUNT(*) FROM e GROUP BY w",
                                "grant.column"),
    "ungranted": ("SELECT SUM(secret) FROM events", "grant.column"),
    "ungranted-in-a-case": ("SELECT SUM(CASE WHEN secret = 1 THEN x ELSE 0 END) FROM events", "grant.column"),
    "core": ("SELECT SUM(core) FROM events", "dataset.core-grade"),
    "added-column": (f"SELECT SUM({ROWS}) FROM events", "sql.column"),
    "added-unit": (f"SELECT {UNIT}, COUNT(*) FROM events GROUP BY {UNIT}", "sql.column"),
    # 18: the text asks for more than the job
    "more-epsilon-than-the-job": ("SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS(epsilon=1.01) COUNT(*) FROM events",
                                  "budget.options"),
    "more-delta-than-the-job": ("SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS(delta=1e-5) COUNT(*) FROM events",
                                "budget.options"),
    "options-in-a-subquery": (
        "SELECT COUNT(*) FROM (SELECT ^WITH DIFFERENTIAL_PRIVACY OPTIONS(epsilon=9) x FROM events) AS e", "sql.clause"),
    "option-twice": ("SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS(epsilon=1, ^epsilon=2) COUNT(*) FROM events",
                     "sql.option"),
    "no-epsilon": ("SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS(epsilon=^0) COUNT(*) FROM events", "sql.option-value"),
    "duplicate-grouping-sets": (
        "SELECT grp, COUNT(*) FROM events ^GROUP BY GROUPING SETS ((grp), (grp))", "sql.grouping"),
    "too-many-cells": ("SELECT width_bucket(x, 0, 1, 20000) AS b, COUNT(*) FROM events GROUP BY b", "sql.cells"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_trap_is_refused_by_its_rule_at_its_place(name: str, enclave: ExactEnclave) -> None:
    marked, rule = REFUSED[name]
    where = {"position": str(marked.index("^") + 1)} if "^" in marked else {}
    with refused_by(rule, **where):
        enclave.plan(marked.replace("^", ""))


# What the planner makes of the texts that pass.

EVERYTHING = (
    "SELECT grp, COUNT(*) AS n, SUM(x) AS s, AVG(money) AS a, VARIANCE(x) AS v, MEDIAN(money) AS m, "
    "COUNT(DISTINCT who) AS u, SUM(CASE WHEN note = 'NULL' THEN ROUND(money / 7, 1) ELSE FLOOR(money) END) AS c, "
    "SUM(WIDTH_BUCKET(x, 0, 5, 3) - QUARTER(day)) AS q FROM events WHERE money * 3 > 2 GROUP BY grp"
)
STRING = re.compile(r"'(?:[^']|'')*'")
BARE_NUMBER = re.compile(r"(?<![\w\".])(?<!CAST\()(?<!CAST\(-)\d+")


@pytest.mark.parametrize("rows", [4, 2048, 5000])
def test_3_every_constant_carries_a_cast(rows: int) -> None:
    """A bare constant is INT32 to the engine: K·S overflows it from K = 2048 on."""
    spec = changed(EVENTS, rows_per_entity=rows)
    data = (("u1", "a", 1, 100, 1, date(1970, 1, 1), "NULL", "d", 1, 1),)
    with exact_enclave(Table(spec, data, HIDDEN)) as enclave:
        query = enclave.plan(EVERYTHING)
        for sql in rendered(query.plan):
            assert not BARE_NUMBER.findall(STRING.sub("''", sql)), sql
        assert len(enclave.answer(query).table.rows) == 3


def test_3_a_bare_constant_would_be_seen() -> None:
    assert BARE_NUMBER.findall("sum(t0.x * 33554432)") == ["33554432"]
    assert not BARE_NUMBER.findall("CAST(5 AS BIGINT) // CAST(-7 AS HUGEINT) + t0.k12")


@pytest.mark.parametrize("options", ["bounds='catalogue'", "bounds='auto'"])
@pytest.mark.parametrize("join", ["", " JOIN people USING (who)", " JOIN visits USING (who)"])
def test_1_every_divided_number_is_an_integer(options: str, join: str) -> None:
    """DECIMAL // BIGINT is a fractional DOUBLE in DuckDB 2, and a cast rounds it up."""
    tables = (*TABLES[:2], Table(changed(EVENTS, dataset_id="visits", columns=EVENTS.columns[:2]), (), HIDDEN))
    with exact_enclave(*tables) as enclave:
        sums = enclave.plan(f"SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS({options}) SUM(x / 7) FROM events{join}").plan
    assert sums.sums is not None
    sql = render_sums(sums, 3)
    with duckdb.connect() as connection:
        for index in range(len(sums.sources)):
            added = f"CAST(1 AS BIGINT) AS {NORM}, CAST(1 AS BIGINT) AS {ROWS}, CAST(1 AS UINTEGER) AS {UNIT}"
            connection.execute(f"CREATE TABLE t{index} AS SELECT CAST(1 AS BIGINT) AS x, {added}")
        weighted = sql.removeprefix("SELECT coalesce(sum(").split("), CAST(0")[0]
        (kind,) = connection.execute(f"SELECT typeof({weighted}) FROM {sql.split(' FROM ', 1)[1]}").fetchone() or ("",)
    assert kind in ("BIGINT", "HUGEINT")


def test_9_the_unit_is_followed_by_what_it_is_and_not_by_its_name(enclave: ExactEnclave) -> None:
    shadowed = enclave.plan("WITH e AS (SELECT grp AS who FROM events) SELECT COUNT(DISTINCT who) AS n FROM e").plan
    renamed = enclave.plan("WITH e AS (SELECT who AS w FROM events) SELECT COUNT(DISTINCT w) AS n FROM e").plan
    assert (len(shadowed.values), len(shadowed.units)) == (1, 0)
    assert (len(renamed.values), len(renamed.units)) == (0, 1)


def test_9_a_redefined_group_column_changes_no_bound(enclave: ExactEnclave) -> None:
    """opendp#2949: there the bound by the old column survived."""
    redefined = (
        "SELECT g, COUNT(*) AS n FROM (SELECT CASE WHEN x > 0 THEN 'a' ELSE grp END AS g FROM events) GROUP BY g"
    )
    found, plain = enclave.plan(redefined).plan.sums, enclave.plan("SELECT COUNT(*) FROM events").plan.sums
    assert found is not None and plain is not None
    assert found.clipping == plain.clipping


def test_12_distinct_units_are_not_rows(enclave: ExactEnclave) -> None:
    plan = enclave.plan("SELECT COUNT(DISTINCT who) AS u, COUNT(*) AS n, COUNT(x) AS c FROM events").plan
    assert [item.kind for item in plan.estimates] == [
        AggregateKind.COUNT_DISTINCT, AggregateKind.COUNT, AggregateKind.COUNT]  # fmt: skip
    assert len(plan.units) == 1 and plan.sums is not None and len(plan.sums.statistics) == 2
    assert UNIT in rendered(plan)[1] and "DISTINCT" in rendered(plan)[1]


OF_ONE_BUDGET = (
    "COUNT(*) AS a FROM events",
    "COUNT(*) AS a, SUM(x) AS b, AVG(x) AS c, STDDEV(x) AS d, MEDIAN(x) AS e, MAX(x) AS f, COUNT(DISTINCT who) AS g "
    "FROM events GROUP BY grp",
    "MIN(x) AS a, MAX(x) AS b, MEDIAN(money) AS c, QUANTILE_CONT(x, 0.9) AS d FROM events",
    "grp, COUNT(*) AS a, AVG(x) AS b FROM events GROUP BY ROLLUP (grp)",
    "COUNT(*) AS a, SUM(x) AS b, COUNT(DISTINCT who) AS g FROM events GROUP BY note",
)


@pytest.mark.parametrize("rest", OF_ONE_BUDGET)
@pytest.mark.parametrize("noise", ["gaussian", "laplace", "auto"])
def test_12_the_budget_is_that_of_the_statement(rest: str, noise: str, enclave: ExactEnclave) -> None:
    """SmartNoise spends it once a column. Here everything together is worth what was asked for, and no more."""
    query = enclave.plan(f"SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS(noise='{noise}', clip_correction=true) {rest}")
    shares, open_delta = query.shares, Decimal(query.budget.delta) - query.shares.delta
    if query.plan.power == 1:
        assert shares.epsilon is not None and Decimal("0.9999") < shares.epsilon <= 1
        assert shares.pico_rho <= 10**12 / 2 + 20
    else:
        whole = pico_rho_of(query.budget, shares.delta)
        assert whole * 0.9999 <= shares.pico_rho <= whole
        assert epsilon_of(shares.pico_rho, float(open_delta)) <= 1.0001
    assert [loss.pico_rho for loss in query.losses] == [shares.pico_rho]
    assert query.losses[0].atto_delta == (5 * 10**11 if rest.endswith("note") else 0)


def test_13_an_option_can_lower_the_clip_and_not_raise_it(enclave: ExactEnclave) -> None:
    def limit(option: str) -> int:
        plan = enclave.plan(f"SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS({option}) COUNT(*) FROM events").plan
        assert plan.sums is not None
        return plan.sums.clipping.limit

    assert [limit(f"max_rows_contributed={rows}") for rows in (1, 3, 4, 5, 1_000_000)] == [1, 3, 4, 4, 4]


def test_17_the_norm_of_a_unit_covers_every_row_that_may_count(enclave: ExactEnclave) -> None:
    """Rows that meet what the query asks of its one table; in a join the product of all rows in each table."""
    filtered = enclave.plan("SELECT COUNT(*) FROM events WHERE x > 2").plan
    assert filtered.sources[0].rows
    assert filtered.sources[0].condition in (None, filtered.condition)
    visits = Table(changed(EVENTS, dataset_id="visits", rows_per_entity=3), (), HIDDEN)
    with exact_enclave(*TABLES[:2], visits) as joined:
        plan = joined.plan(
            "SELECT COUNT(*) FROM events JOIN visits USING (who) JOIN people USING (who) WHERE events.x > 2"
        ).plan
    assert [source.condition for source in plan.sources] == [None] * 3
    assert plan.sums is not None
    assert plan.sums.clipping.limit == 12
    assert f"t0.{ROWS}" in plan.sums.clipping.norm and f"t1.{ROWS}" in plan.sums.clipping.norm


def test_19_a_clip_is_the_catalogues_or_has_a_share_of_the_budget(enclave: ExactEnclave) -> None:
    learned = enclave.plan("SELECT COUNT(*) FROM events")
    given = enclave.plan("SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS(bounds='catalogue') COUNT(*) FROM events")
    assert learned.learns and sum(share.pico_rho for share in learned.shares.learning.values()) > 0
    assert not given.learns and given.shares.learning == {}
    assert learned.shares.pico_rho <= given.shares.pico_rho


def test_10_two_rows_of_one_unit_in_a_table_of_one_row_each_are_not_imported() -> None:
    taken = take_in(changed(PEOPLE, max_rejected_permille=1000), "who,region,age,home\nu1,n,1,h\nu1,s,2,h\nu2,n,3,h\n")
    assert {rule for _, _, rule in taken.marks} == {"row.duplicate"}
    assert [row[0] for row in taken.rows] == ["u1", "u2"] or [row[0] for row in taken.rows] == ["u2"]


@pytest.mark.parametrize("key", ["secret_region", "whatever"])
def test_keys_are_public_only_where_the_catalogue_or_the_text_says_so(key: str) -> None:
    """A list in the text is public; the values that a table happens to hold are not."""
    people = changed(PEOPLE, columns=(*PEOPLE.columns[:3], column("home", ColumnType.TEXT)))
    with exact_enclave(Table(people, (("u1", "n", 3, key),), HIDDEN)) as enclave:
        opened = enclave.plan("SELECT home, COUNT(*) FROM people GROUP BY home").plan
        listed = enclave.plan("SELECT home, COUNT(*) FROM people WHERE home IN ('h1', 'h2') GROUP BY home").plan
        denied = enclave.plan("SELECT home, COUNT(*) FROM people WHERE NOT home IN ('h1', 'h2') GROUP BY home").plan
        either = enclave.plan("SELECT home, COUNT(*) FROM people WHERE home = 'h1' OR age > 3 GROUP BY home").plan
    assert listed.axes[0].labels == ("h1", "h2")
    assert opened.is_open and denied.is_open and either.is_open


def test_a_refusal_never_quotes_data() -> None:
    """Planning sees no rows: over tables that hold a canary, no fact of any refusal has it."""
    canary = "CANARY7"
    with exact_enclave(
        *(Table(t.spec, ((canary,) * len(t.spec.columns),) * 2, t.ungranted) for t in TABLES)
    ) as enclave:
        for marked, _ in REFUSED.values():
            with pytest.raises(Refused) as caught:
                enclave.plan(marked.replace("^", ""))
            assert canary not in str(caught.value.facts)
