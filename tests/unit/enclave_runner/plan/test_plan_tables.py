"""Tables and joins: who may meet whom, by which columns, and how many rows of one unit come of it."""

from __future__ import annotations

import pytest

from enclave_runner.contract.dataset import ColumnType, DatasetSpec
from enclave_runner.contract.errors import Refused
from enclave_runner.plan.nodes import Name
from enclave_runner.plan.parse import parse_select
from enclave_runner.plan.tables import Tables, open_tables, quote
from tests.support.bound_plans import CALLS, DIVISIONS, HOMES, SPECS, VISITS, bound, granted
from tests.support.enclave_home import changed, column


def opened(sql: str, **replaced: DatasetSpec) -> Tables:
    plan = parse_select(f"SELECT COUNT(*) AS n FROM {sql}")
    catalogue = {name: granted(spec) for name, spec in {**SPECS, **replaced}.items()}
    return open_tables(plan.sources, plan.joins, catalogue)


def refusal(sql: str, **replaced: DatasetSpec) -> tuple[str, str]:
    with pytest.raises(Refused) as caught:
        opened(sql, **replaced)
    return caught.value.rule, caught.value.facts.get("what", "")


def test_one_table_is_its_own_root() -> None:
    tables = opened("visits")
    assert (tables.root, tables.origin, tables.protected, tables.several) == (0, "t0", (0,), (0,))
    assert tables.joined_by_unit == frozenset()


def test_tables_of_one_unit_are_joined_by_its_number() -> None:
    tables = opened("visits JOIN homes ON visits.who = homes.who")
    assert tables.origin == "t0 JOIN t1 ON t0._unit = t1._unit"
    assert (tables.protected, tables.several, tables.joined_by_unit) == ((0, 1), (0,), frozenset({0, 1}))


def test_a_public_table_is_joined_by_its_key_and_both_columns_are_used() -> None:
    tables = opened("visits JOIN divisions ON divisions.code = visits.division")
    assert tables.origin == 't0 JOIN t1 ON t0."division" = t1."code"'
    assert [list(used) for used in tables.used] == [["division"], ["code"]]
    assert (tables.protected, tables.joined_by_unit) == ((0,), frozenset())


def test_the_root_is_the_table_of_several_rows_wherever_it_stands() -> None:
    assert opened("homes JOIN visits USING (who)").root == 1
    assert opened("divisions JOIN visits ON visits.division = divisions.code").root == 1
    assert opened("homes JOIN homes2 USING (who)", homes2=changed(HOMES, dataset_id="homes2")).root == 0


def test_joins_may_be_written_in_any_order() -> None:
    tables = opened("divisions JOIN visits ON visits.division = divisions.code JOIN homes ON homes.who = visits.who")
    assert tables.origin == 't1 JOIN t0 ON t1."division" = t0."code" JOIN t2 ON t1._unit = t2._unit'


@pytest.mark.parametrize(
    ("sql", "what"),
    [
        ("visits JOIN visits AS v USING (who)", "a table joined with itself"),
        ("visits AS a JOIN homes USING (who) JOIN visits AS b ON a.who = b.who", "a table joined with itself"),
        ("visits JOIN homes ON visits.free = homes.age", "two protected tables by anything but their unit"),
        ("visits JOIN homes ON visits.who = homes.region", "two protected tables by anything but their unit"),
        ("visits JOIN firms ON visits.who = firms.who", "tables of different privacy units"),
        ("visits JOIN divisions ON visits.division = divisions.city", "a public table by a column that is not its key"),
        ("visits JOIN divisions ON visits.free = divisions.code", "columns of different types"),
        ("visits JOIN homes ON visits.who = homes.who AND visits.kind = homes.region", "a second condition"),
        (
            "visits JOIN divisions ON visits.division = divisions.code JOIN homes ON divisions.city = homes.region",
            "two protected tables by anything but their unit",
        ),
    ],
)
def test_a_join_by_which_people_could_meet_others_is_refused(sql: str, what: str) -> None:
    rule, said = refusal(sql)
    assert rule == "sql.join"
    assert said.startswith(what)


def test_keys_of_different_kinds_do_not_join() -> None:
    """One would be converted into the other: that fails on some values, and different keys become one."""
    numbers = changed(HOMES, columns=(column("who", ColumnType.INTEGER, grade=3), *HOMES.columns[1:]))
    assert refusal("visits JOIN homes USING (who)", homes=numbers)[0] == "sql.join"


def test_a_query_of_public_tables_alone_has_no_unit() -> None:
    assert refusal("divisions")[0] == "sql.unit-missing"


def test_the_clip_of_joined_rows_is_the_product_of_the_bounds() -> None:
    assert opened("visits").rows_bound == 4
    assert opened("visits JOIN homes USING (who)").rows_bound == 4
    assert opened("visits JOIN calls USING (who)").rows_bound == 12
    assert opened("visits JOIN divisions ON visits.division = divisions.code").rows_bound == 4
    for unbounded in ("visits", "calls"):
        spec = changed(SPECS[unbounded], rows_per_entity=None)
        with pytest.raises(Refused) as caught:
            _ = opened("visits JOIN calls USING (who)", **{unbounded: spec}).rows_bound
        assert (caught.value.rule, caught.value.facts) == ("dataset.unit-bound-missing", {"dataset": unbounded})


@pytest.mark.parametrize(
    ("name", "rule", "facts"),
    [
        (Name(column="nothing", table=None, position=7), "sql.column", {"column": "nothing", "position": "7"}),
        (Name(column="amount", table="homes", position=7), "sql.column", {"column": "amount", "position": "7"}),
        (Name(column="amount", table="other", position=7), "sql.column", {"column": "amount", "position": "7"}),
        (Name(column="who", table=None, position=7), "sql.ambiguous", {"column": "who", "position": "7"}),
        (Name(column="who", table="visits", position=7), "grant.column", {"column": "who"}),
        (Name(column="ungranted", table=None, position=7), "grant.column", {"column": "ungranted"}),
        (
            Name(column="listed", table=None, position=7),
            "dataset.withheld",
            {"column": "listed", "basis": "第二十四条"},
        ),
        (Name(column="core", table=None, position=7), "dataset.core-grade", {"column": "core"}),
    ],
)
def test_a_name_that_may_not_be_read_is_refused(name: Name, rule: str, facts: dict[str, str]) -> None:
    tables = opened("visits JOIN homes USING (who)")
    with pytest.raises(Refused) as caught:
        tables.resolve(name)
    assert (caught.value.rule, caught.value.facts) == (rule, facts)
    assert tables.used == ({}, {})


def test_the_unit_is_known_by_its_table_and_not_by_its_name() -> None:
    tables = opened("visits JOIN divisions ON visits.division = divisions.code")
    assert tables.is_unit(Name(column="who", table=None, position=1))
    assert not tables.is_unit(Name(column="code", table=None, position=1))
    assert not tables.is_unit(Name(column="kind", table=None, position=1))
    assert bound("SELECT COUNT(DISTINCT who) AS u FROM visits AS homes").units


def test_a_quotation_mark_in_a_name_stays_in_it() -> None:
    assert quote('a"b') == '"a""b"'


def test_more_tables_than_four_are_refused() -> None:
    specs = {f"d{n}": changed(DIVISIONS, dataset_id=f"d{n}") for n in range(4)}
    joins = " ".join(f"JOIN d{n} ON visits.division = d{n}.code" for n in range(4))
    assert opened(f"visits {joins.rsplit(' JOIN', 1)[0]}", **specs).root == 0
    with pytest.raises(Refused) as caught:
        opened(f"visits {joins}", **specs)
    assert caught.value.rule in {"sql.join", "sql.sources"}


def test_only_used_columns_and_what_the_join_needs_are_extracted() -> None:
    plan = bound(
        "SELECT region, SUM(amount) AS s FROM visits JOIN homes USING (who) WHERE day > '2022-03-01' GROUP BY 1"
    )
    assert [source.columns for source in plan.sources] == [("day", "amount"), ("region",)]
    assert [source.unit for source in plan.sources] == [True, True]
    assert [source.entity_set for source in bound("SELECT COUNT(*) AS n FROM visits").sources] == ["resident"]
    assert VISITS.entity_set == CALLS.entity_set == "resident"
