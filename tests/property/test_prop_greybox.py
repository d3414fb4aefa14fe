"""Grey-box sensitivity: on small hostile databases, one unit less moves no exact vector by more than was promised.

What is compared stands at the door to the noise: the vector that a mechanism is handed and the sensitivity that it was
made with, both in exact integers. The vectors come from the real builders, workers and egress; a second opinion in
plain Python, which never sees SQL, must agree bit for bit.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest

from enclave_runner.contract.dataset import DatasetSpec, KeyKind
from enclave_runner.egress.shares import learned_norms
from enclave_runner.supervisor.extracts import extracts, query_extraction
from tests.support.enclave_home import changed, make_bureau, running_site
from tests.support.plan_cases import CITY, Case, make_case, shrunk
from tests.support.plan_catalogue import AREAS, KINDS, city, event, person, visit
from tests.support.plan_checks import faults, largest_moves, moves_by_sql, plain_runs, planned_rule
from tests.support.plan_engine import recorded
from tests.support.plan_expressions import Row

QUICK, THOUSANDS, BATCHES = 40, 1000, 10


def check(case: Case, databases: int = 2) -> str | None:
    """What is wrong with a case, empty when nothing is; None for a statement that is refused."""
    planned = case.planned()
    return None if planned is None else faults(case, *planned, databases)


def require_sound(case: Case, databases: int = 2) -> bool:
    """Whether the statement is accepted; then it has no fault."""
    found = check(case, databases)
    if found:
        small = shrunk(case, lambda item: bool(check(item)))
        pytest.fail(f"{found}\nsmallest: {small.sql}\n{check(small)}\n{small}")
    return found is not None


def test_random_plans_hold_their_promises_and_mean_what_they_say() -> None:
    for seed in range(QUICK):
        require_sound(make_case(seed), databases=1)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("batch", range(BATCHES))
def test_thousands_of_random_plans_hold_their_promises_and_mean_what_they_say(batch: int) -> None:
    """10⁴ plans that are accepted, each over its own database, of which every unit is removed in turn.

    Promises are checked on all; SQL, the slow part, runs beside the interpreter on every fourth.
    """
    found, seed, first = 0, 100_000 * (batch + 1), 100_000 * (batch + 1)
    while found < THOUSANDS:
        databases = 2 if seed % 8 == 0 else 1 if seed % 8 == 4 else 0
        found += require_sound(make_case(seed), databases)
        seed += 1
    assert seed - first < 1.6 * THOUSANDS  # most of what is written is accepted


EVENTS = tuple(event("u0", kind=kind) for kind in KINDS for _ in range(3))
OTHERS = (event("u1"), event("u2", amount=-10, kind=None))
JOINED = ("people", "JOIN events USING (who)")
TIGHT = {
    "a count": (Case(("COUNT(*)",), (*EVENTS, *OTHERS)), "sums"),
    "a count at exactly the clip": (Case(("COUNT(*)",), (*EVENTS[:3], *OTHERS)), "sums"),
    "a count by group": (Case(("COUNT(*)",), (*EVENTS[:6], *OTHERS), keys=("flag",)), "sums"),
    "a count under Laplace noise": (Case(("COUNT(*)",), (*EVENTS, *OTHERS), power=1), "sums"),
    "a sum": (Case(("SUM(amount)",), (*EVENTS, *OTHERS)), "sums"),
    "a sum below nothing": (Case(("SUM(-amount * 3)",), (*EVENTS, *OTHERS)), "sums"),
    "a joint vector under Laplace noise": (Case(("SUM(amount)", "SUM(fee)"), (*EVENTS, *OTHERS), power=1), "sums"),
    "a sum of one row per unit": (Case(("SUM(age)",), (person("u0"), person("u1", age=0)), source=("people",)), "sums"),
    "a count in a join": (Case(("COUNT(*)",), (*EVENTS, person("u0")), source=JOINED), "sums"),
    "a sum in a join": (Case(("SUM(age * amount)",), (*EVENTS, person("u0")), source=JOINED), "sums"),
    "a count in a join of several rows with several": (
        Case(("COUNT(*)",), (*EVENTS, *(visit("u0") for _ in range(2))), source=("events", "JOIN visits USING (who)")),
        "sums",
    ),
    "a count beside public rows": (
        Case(("COUNT(*)",), (*EVENTS, *AREAS), source=("events", "JOIN areas ON events.area = areas.code")),
        "sums",
    ),
    "units by group": (Case(("COUNT(DISTINCT who)",), EVENTS, keys=("kind",)), "units-0"),
    "units by group under Laplace noise": (Case(("COUNT(DISTINCT who)",), EVENTS, keys=("kind",), power=1), "units-0"),
    "units of one row": (
        Case(("COUNT(DISTINCT who)",), (person("u0"),), source=("people",), keys=("sex",)),
        "units-0",
    ),
    "values of a domain": (Case(("COUNT(DISTINCT kind)",), EVENTS), "values-0"),
    "a quantile": (Case(("MEDIAN(amount)",), (*EVENTS, *OTHERS)), "quantile 0"),
    "a quantile by group": (Case(("MEDIAN(amount)",), (*EVENTS[:3], *OTHERS), keys=("kind",)), "quantile 0"),
    "keys that are not public": (
        Case(("COUNT(*)",), tuple(event("u0", note=note) for note in "abcdefg"), keys=("note",)),
        "selection",
    ),
    "the number of keys": (
        Case(("COUNT(*)",), tuple(event("u0", note=note) for note in "abcdefg"), keys=("note",), power=1),
        "counting",
    ),
    "sums over keys that are not public": (Case(("COUNT(*)",), (*EVENTS, *OTHERS), keys=("note",)), "sums"),
    "a grouping set": (Case(("COUNT(*)",), EVENTS[:3], keys=("kind", "flag"), sets="CUBE ({})"), "sums of set 0"),
    "the total": (Case(("COUNT(*)",), EVENTS[:6], keys=("kind", "flag"), sets="ROLLUP ({})"), "sums of set 2"),
    "the learned clip": (Case(("COUNT(*)",), EVENTS), "learning-rows"),
    "the correction": (Case(("COUNT(*)",), EVENTS), "correction"),
}


@pytest.mark.parametrize(("case", "name"), TIGHT.values(), ids=TIGHT)
def test_a_promise_is_tight(case: Case, name: str) -> None:
    """One unit uses all of it, but for what flooring one weight costs, or the root in 2⁻¹⁰ of a count of units."""
    planned = case.planned()
    assert planned is not None
    assert faults(case, *planned) == ""
    part = moves_by_sql(case, planned[1])[name]
    assert part == largest_moves(case, *planned)[name]
    assert Fraction(999, 1000) < part <= 1


def test_a_promise_for_several_statistics_is_nearly_tight_under_gaussian_noise() -> None:
    """The joint norm is rounded up row by row, and no row is at all corners at once: four fifths are used."""
    case = Case(("SUM(amount)", "AVG(fee)"), tuple(event("u0", fee=10_000) for _ in range(5)))
    planned = case.planned()
    assert planned is not None
    assert faults(case, *planned) == ""
    assert Fraction(4, 5) ** 2 < moves_by_sql(case, planned[1])["sums"] <= 1


@pytest.mark.parametrize("rest", [-1, 0, 1, 2**20, -(2**40)])
@pytest.mark.parametrize("power", [1, 2])
def test_a_coarsened_vector_keeps_its_promise_at_every_edge(rest: int, power: int) -> None:
    wide = city(wide=(-(10**15), 10**15), cap=2 * 10**9, limit=10**6)
    rows = (event("u0", amount=10**15), event("u0", amount=-1), event("u1", amount=rest))
    for partitions in (1, 3):
        require_sound(Case(("SUM(amount)",), rows, power=power, partitions=partitions, specs=wide))
        require_sound(Case(("SUM(amount)",), rows, keys=("kind",), power=power, partitions=partitions, specs=wide))


@pytest.mark.parametrize("count", [2, 3, 4])
def test_a_unit_at_the_clip_and_one_row_around_it(count: int) -> None:
    for tightness in (1, 0.5):
        require_sound(Case(("COUNT(*)", "SUM(amount)", "MEDIAN(fee)"), (*EVENTS[:count], *OTHERS), tightness=tightness))
        require_sound(Case(("COUNT(*)",), (*EVENTS[:count], *OTHERS), options="WITH DIFFERENTIAL_PRIVACY "
                           "OPTIONS(bounds=catalogue)"))  # fmt: skip


# Defects that these tests have found, each in its smallest form.


@pytest.mark.parametrize("function", ["LEAST", "GREATEST"])
def test_an_extreme_of_values_that_may_all_be_null_is_one_of_them(function: str) -> None:
    """LEAST passes nulls over: it is no less than its one value that is there, whatever the others' bounds say."""
    rows = (person("u0", income=10**6), event("u0", amount=None), person("u1", income=-100), event("u1", amount=None))
    terms = "income + 0, amount + 0" if function == "LEAST" else "-income, 1 - amount"
    for where in ((), ("active",)):
        require_sound(Case((f"SUM({function}({terms}))",), rows, source=JOINED, where=where))
        require_sound(Case((f"MAX({function}({terms}))",), rows, source=JOINED, where=where))


def test_a_partition_without_candidates_for_a_key_still_adds_to_its_sums() -> None:
    """Else one unit that counts in the key would bring the rows of all units of its partition that do not."""
    rows = (*(event(f"u{n}", note=note) for n in range(5) for note in "xy"), event("w0"), event("w4"))
    options = "WITH DIFFERENTIAL_PRIVACY OPTIONS(max_groups_contributed=1)"
    require_sound(Case(("COUNT(*)", "SUM(amount)"), rows, keys=("note",), options=options, partitions=3))


def test_constants_of_different_scales_are_different_sums() -> None:
    require_sound(Case(("SUM(5)", "SUM(0.5)"), OTHERS))


def test_the_clip_is_learned_from_the_table_that_has_the_rows() -> None:
    """Whichever table is named first."""
    case = Case(("COUNT(*)",), (*EVENTS, person("u0")), source=JOINED)
    planned = case.planned()
    assert planned is not None
    require_sound(case)
    assert planned[1].root == 1


def test_a_clip_beyond_64_bits_is_no_fault() -> None:
    wide = city(wide=(-(10**15), 10**15), limit=10**6)
    require_sound(Case(("SUM(amount)",), (event("u0", amount=10**15), event("u1")), specs=wide))


@pytest.mark.parametrize(("count", "power"), [(3, 1), (6, 2)])
def test_a_row_whose_norm_would_leave_62_bits_is_refused_before_any_data(count: int, power: int) -> None:
    """As an overflow it would tell, without noise, that some row has large values."""
    wide = city(wide=(-(10**15), 10**15))
    terms = tuple(f"SUM(amount * {4000 - n})" for n in range(count))
    assert planned_rule(Case(terms, OTHERS, power=power, specs=wide)) == "sql.overflow"
    require_sound(Case(terms[:2], (event("u0", amount=10**15),), power=power, specs=wide))


def test_a_unit_beyond_62_bits_counts_for_nothing_and_is_no_fault() -> None:
    wide = city(wide=(-(10**15), 10**15), limit=10**6)
    rows = (*(event("u0", amount=10**15) for _ in range(3)), event("u1", amount=10**15))
    case = Case(("SUM(amount * 2000)",), rows, specs=wide)
    require_sound(case)
    planned = case.planned()
    assert planned is not None
    assert moves_by_sql(case, planned[1])["sums"] > 0


def test_no_join_compares_columns_of_different_types() -> None:
    """The engine would convert, which fails on some values and makes different keys equal on others."""
    join = ("events", "JOIN areas ON events.amount = areas.code")
    assert planned_rule(Case(("COUNT(*)",), OTHERS, source=join)) == "sql.join"


def test_no_join_by_numbers_that_the_enclave_gave_to_rows() -> None:
    """Row 7 of one table is not row 7 of another; and one row less would renumber all that follow."""
    specs = tuple(
        spec
        if spec.public
        else changed(spec, entity_column="row_id", key_kind=KeyKind.ROW, unique=True, rows_per_entity=1)
        for spec in CITY
    )
    join = ("events", "JOIN people ON events.row_id = people.row_id")
    assert planned_rule(Case(("COUNT(*)",), (), source=join, specs=specs)) == "sql.join"


def test_units_of_keys_that_are_not_public_have_no_condition_of_their_own() -> None:
    """They are the units by which the key was found: a FILTER would be passed over in silence."""
    counted = "COUNT(DISTINCT who) FILTER (WHERE flag)"
    assert planned_rule(Case((counted,), OTHERS, keys=("note",))) == "dataset.domain-missing"
    assert planned_rule(Case((counted,), OTHERS, keys=("kind",))) == ""


def test_the_promises_of_the_city_hold_for_every_clip_of_the_grid() -> None:
    """Clips that do not divide anything: weights are floored, never rounded."""
    rows = (*EVENTS[:7], *(event("u1", kind="b") for _ in range(11)), *OTHERS)
    for limit, power in ((1, 1), (2, 2), (6, 1), (7, 2), (8, 1), (10, 2), (11, 1), (12, 2)):
        for aggregates in (("COUNT(*)", "SUM(amount)"), ("COUNT(*)",)):
            require_sound(Case(aggregates, rows, keys=("kind",), power=power, specs=city(limit=limit)))


JAILED = (
    Case(("COUNT(*)", "SUM(amount)", "AVG(fee)"), (*EVENTS, *OTHERS), keys=("kind",)),
    Case(("SUM(amount * 3)", "MEDIAN(money)"), (*EVENTS, *OTHERS), where=("flag",), power=1, partitions=3),
    Case(("COUNT(*)", "COUNT(DISTINCT who)"), (*EVENTS, event("u1", note="y")), keys=("note",), partitions=3),
    Case(("SUM(age * amount)",), (*EVENTS, *OTHERS, person("u0"), person("u1")), source=JOINED, keys=("sex",)),
    Case(("COUNT(*)",), (*EVENTS, visit("u0"), visit("u0")), source=("events", "JOIN visits USING (who)")),
    Case(("COUNT(DISTINCT kind)",), (*EVENTS, *OTHERS)),
)


def test_the_jailed_worker_gives_what_the_interpreter_says(tmp_path: Path) -> None:
    """The whole way: imported, encrypted, extracted into sealed memory, summed by workers in their jails."""
    with running_site(make_bureau(tmp_path)) as site:
        for case in JAILED:
            for spec in case.specs:
                rows = case.database[spec.dataset_id] or dict(FILLERS)[spec.dataset_id]
                assert site.import_csv(spec, csv_of(spec, rows)).rejected == 0
            plan, bound = case.bind()
            held = tuple(site.enclave.holdings.find(source.dataset_id) for source in bound.sources)
            order = query_extraction(bound, held, bool(learned_norms(bound)), case.partitions)  # type: ignore[arg-type]
            clips, high = case.clips(bound)
            with extracts(site.enclave, order, held) as made:  # type: ignore[arg-type]
                found = recorded(bound, site.enclave, made, clips, high)
            wanted = plain_runs(case, plan, bound)[0].draws
            apart = bound.is_open and case.partitions > 1  # keys are counted in every partition
            assert [d for d in found if not apart or d.name != "counting"] == [
                d for d in wanted if not apart or d.name != "counting"
            ]


FILLERS = tuple((name, (row,)) for name, row in (event("u9"), person("u9"), visit("u9"), AREAS[0]))


def csv_of(spec: DatasetSpec, rows: Sequence[Row]) -> str:
    """The rows as a file to import."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([column.name for column in spec.columns])
    for row in rows:
        writer.writerow([_written(cell, column.scale) for cell, column in zip(row, spec.columns, strict=True)])
    return text.getvalue()


def _written(cell: object, scale: int) -> object:
    if isinstance(cell, bool) or not isinstance(cell, int):
        return {None: "", True: "true", False: "false"}.get(cell, cell)  # type: ignore[call-overload]
    return f"{Decimal(cell).scaleb(-scale):f}"
