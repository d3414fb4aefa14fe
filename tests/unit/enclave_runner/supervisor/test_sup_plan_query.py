"""Planning: what a budget and a target come to, what the answer's identity is, and what never fits."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import msgspec
import pytest

from enclave_runner.contract.errors import Refused
from enclave_runner.contract.privacy import Budget
from enclave_runner.dp.conversion import pico_rho_of
from enclave_runner.egress.shares import share_out
from enclave_runner.egress.table import expected_half_width
from enclave_runner.supervisor import plan_query
from enclave_runner.supervisor.plan_query import PlannedQuery, answer_key, finishing_of, rehearsal_of, with_portion
from tests.support.bound_plans import DIVISIONS
from tests.support.query_site import QuerySite, query_site

COUNTS = "SELECT kind, COUNT(*) AS n FROM visits GROUP BY kind"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QuerySite]:
    with query_site(tmp_path_factory.mktemp("plan")) as found:
        yield found


def planned(site: QuerySite, sql: str, epsilon: str = "4", delta: str = "1e-6") -> PlannedQuery:
    return site.prepare(sql, epsilon, delta).query


def options(text: str, rest: str = "kind, COUNT(*) AS n FROM visits GROUP BY kind") -> str:
    return f"SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS({text}) {rest}"


def refusal(site: QuerySite, sql: str, epsilon: str = "4") -> tuple[str, dict[str, str]]:
    with pytest.raises(Refused) as caught:
        planned(site, sql, epsilon)
    return caught.value.rule, caught.value.facts


def test_the_budget_is_the_text_s_and_never_more_than_the_job_s(site: QuerySite) -> None:
    assert planned(site, COUNTS).budget == Budget(epsilon="4", delta="1e-6")
    assert planned(site, options("epsilon = 0.5, delta = 1e-8")).budget == Budget(epsilon="0.5", delta="0.00000001")
    assert refusal(site, options("epsilon = 4.1")) == ("budget.options", {"asked": "4.1", "max": "4"})
    assert refusal(site, options("delta = 1e-5"))[0] == "budget.options"


@pytest.mark.parametrize("epsilon", ["0.1", "1", "4"])
@pytest.mark.parametrize(
    "sql",
    [
        COUNTS,
        options("noise = 'laplace'"),
        options("clip_correction = true"),
        options("target_relative_error = 0.1"),
        options("bounds = 'catalogue'", "SUM(amount) AS s, MEDIAN(amount) AS m, COUNT(DISTINCT who) AS u FROM visits"),
        "SELECT shop, COUNT(*) AS n FROM visits GROUP BY shop",
        "SELECT kind, MONTH(day) AS m, COUNT(*) AS n FROM visits GROUP BY CUBE (kind, m)",
    ],
)
def test_what_is_reserved_never_exceeds_the_budget(site: QuerySite, sql: str, epsilon: str) -> None:
    query = planned(site, sql, epsilon)
    (loss,) = query.losses
    assert loss.entity_set == "resident"
    limit = pico_rho_of(Budget(epsilon=epsilon, delta="1e-6"))
    pure = math.ceil(float(epsilon) ** 2 / 2 * 10**12) + len(query.shares.noisy)
    assert 0 < loss.pico_rho <= (pure if query.plan.power == 1 else limit)
    assert loss.atto_delta <= 5 * 10**11
    assert (loss.atto_delta > 0) is query.plan.is_open


def test_auto_noise_takes_the_one_of_the_smaller_error(site: QuerySite) -> None:
    few = planned(site, options("noise = 'auto', bounds = 'catalogue'", "COUNT(*) AS n FROM visits"))
    # One person may be in each of 84 groups: 84 in L1, √84 in L2.
    many = planned(site, options("noise = 'auto'", "MONTH(day) AS m, WIDTH_BUCKET(amount, 0, 100, 5) AS b, "
                   "COUNT(DISTINCT who) AS u FROM visits GROUP BY m, b"))  # fmt: skip
    assert (few.plan.power, many.plan.power) == (1, 2)
    # A choice has no interval; that of an exponential mechanism at ε is the surer one while there are few of them.
    quartiles = ", ".join(f"QUANTILE(amount, 0.{n}) AS q{n}" for n in range(1, 10))
    choices = [
        planned(site, options("noise = 'auto'", f"{sql} FROM visits")) for sql in ("MEDIAN(amount) AS m", quartiles)
    ]
    assert [query.plan.power for query in choices] == [1, 2]
    assert planned(site, options("noise = 'laplace'")).plan.power == 1


@pytest.mark.parametrize("noise", ["gaussian", "laplace"])
@pytest.mark.parametrize("target", [300, 900])
def test_an_absolute_target_is_reached_by_the_least_loss(site: QuerySite, noise: str, target: int) -> None:
    query = planned(site, options(f"target_absolute_error = {target}, noise = '{noise}', bounds = 'catalogue'"))
    width = expected_half_width(query.plan, query.shares, query.plan.estimates[0])
    assert width is not None
    assert 0.99 * target <= width <= target
    less = share_out(query.plan, query.budget, Fraction(query.shares.pico_rho * 9, pico_rho_of(query.budget) * 10))
    missed = expected_half_width(query.plan, less, query.plan.estimates[0])
    assert missed is None or missed > target or noise == "laplace"


def test_a_target_that_is_out_of_reach_is_refused_with_what_can_be_had(site: QuerySite) -> None:
    rule, facts = refusal(site, options("target_absolute_error = 0.5"))
    assert (rule, facts["asked"]) == ("budget.target", "0.5")
    gives = float(facts["gives"])
    assert planned(site, options(f"target_absolute_error = {gives + 0.1:.2f}")).reserved > 0
    means = options("target_absolute_error = 5", "AVG(amount) AS a FROM visits")
    assert refusal(site, means)[0] == "budget.target-unknown"


def test_a_relative_target_reserves_its_pre_estimate_as_well(site: QuerySite) -> None:
    query = planned(site, options("target_relative_error = 0.1"))
    assert query.first is not None
    assert query.reserved == query.first.pico_rho + query.shares.pico_rho
    assert query.first.pico_rho == pytest.approx(pico_rho_of(query.budget) / 10, rel=1e-6)
    assert planned(site, COUNTS).first is None


def test_a_portion_is_a_portion_of_every_share(site: QuerySite) -> None:
    query = planned(site, COUNTS)
    half = with_portion(query, Fraction(1, 2))
    assert half.shares.pico_rho == pytest.approx(query.shares.pico_rho / 2, rel=1e-9)
    assert half.plan == query.plan


SAME = [
    ("SELECT kind, COUNT(*) AS n FROM visits GROUP BY kind", "select KIND, count( * ) AS n\nFROM visits\tGROUP BY 1"),
    (
        "SELECT COUNT(*) AS n FROM visits WHERE amount > 5",
        "SELECT COUNT(*) AS n FROM visits AS v WHERE (v.amount > 5.00)",
    ),
    ("SELECT COUNT(*) AS n FROM visits", "WITH x AS (SELECT * FROM visits) SELECT COUNT(*) AS n FROM x"),
    (
        "SELECT kind, COUNT(*) AS n FROM visits GROUP BY kind ORDER BY n LIMIT 2",
        "SELECT kind, COUNT(*) AS n FROM visits GROUP BY kind ORDER BY COUNT(*) ASC LIMIT 2",
    ),
]
OTHER = [
    COUNTS.replace("AS n", "AS m"),
    COUNTS.replace("COUNT(*)", "COUNT(amount)"),
    COUNTS.replace("COUNT(*)", "COUNT(DISTINCT who)"),
    COUNTS.replace("FROM visits", "FROM visits WHERE amount > 5"),
    COUNTS + " HAVING COUNT(*) > 5",
    COUNTS + " LIMIT 2",
    COUNTS + " ORDER BY n",
    COUNTS + " ORDER BY n DESC",
    "SELECT COUNT(*) AS n, kind FROM visits GROUP BY kind",
    "SELECT COUNT(*) AS n FROM visits GROUP BY kind",
    "SELECT kind, COUNT(*) AS n FROM visits GROUP BY ROLLUP (kind)",
    options("bounds = 'catalogue'"),
    options("noise = 'laplace'"),
    options("max_rows_contributed = 2"),
    options("clip_correction = true"),
    options("epsilon = 3"),
    options("target_relative_error = 0.5"),
]


@pytest.mark.parametrize(("first", "second"), SAME)
def test_the_same_question_in_other_words_has_the_same_key(site: QuerySite, first: str, second: str) -> None:
    second = second.replace("KIND", "kind")
    assert site.prepare(first).answer_key == site.prepare(second).answer_key


@pytest.mark.parametrize("sql", OTHER)
def test_another_question_has_another_key(site: QuerySite, sql: str) -> None:
    assert site.prepare(sql).answer_key != site.prepare(COUNTS).answer_key


def test_all_other_questions_differ_from_one_another(site: QuerySite) -> None:
    keys = [site.prepare(sql).answer_key for sql in (COUNTS, *OTHER)]
    assert len(set(keys)) == len(keys)


def test_data_budget_and_rules_are_part_of_the_key_and_the_grant_s_wording_is_not(site: QuerySite) -> None:
    query, pack = planned(site, COUNTS), "00" * 32
    key = answer_key(query, pack)
    newer = tuple(replace(version, version="another") for version in query.held)
    assert answer_key(replace(query, held=newer), pack) != key
    assert answer_key(query, "11" * 32) != key
    for budget in (Budget(epsilon="3", delta="1e-6"), Budget(epsilon="4", delta="1e-7")):
        assert answer_key(planned(site, COUNTS, budget.epsilon, budget.delta), pack) != key
    scopes = tuple(msgspec.structs.replace(scope, columns=scope.columns[::-1]) for scope in reversed(site.grant.scopes))
    assert (
        answer_key(planned(replace(site, grant=msgspec.structs.replace(site.grant, scopes=scopes)), COUNTS), pack)
        == key
    )


def test_what_is_rehearsed_is_what_will_run(site: QuerySite) -> None:
    query = planned(site, "SELECT kind, COUNT(*) AS n, COUNT(DISTINCT who) AS u, MEDIAN(amount) AS m FROM visits "
                    "GROUP BY kind HAVING COUNT(*) > 3")  # fmt: skip
    rehearsal = rehearsal_of(query)
    assert len(rehearsal.sql) == 3
    assert rehearsal.sql == plan_query.rendered(query.plan)
    finishing = finishing_of(query)
    assert finishing is not None
    assert (finishing.depth, finishing.width, finishing.keys, finishing.values) == (1, 3, (), ())
    assert finishing_of(planned(site, COUNTS)) is None
    opened = planned(site, "SELECT shop, COUNT(*) AS n FROM visits GROUP BY shop")
    assert len(rehearsal_of(opened).sql) == 2


def test_more_than_a_worker_may_carry_or_the_pack_allows_is_refused(site: QuerySite) -> None:
    cells = "SELECT MONTH(day) AS m, WIDTH_BUCKET(amount, 0, 100, 900) AS b, COUNT(*) AS n FROM visits GROUP BY m, b"
    assert refusal(site, cells) == ("sql.cells", {"max": "10000"})
    assert site.prepare("SELECT WIDTH_BUCKET(amount, 0, 100, 9000) AS b, COUNT(*) AS n FROM visits GROUP BY b")
    limit = site.site.enclave.limits.max_aggregates
    many = ", ".join(f"SUM(amount * {n}) AS s{n}" for n in range(1, limit + 2))
    assert refusal(site, f"SELECT {many} FROM visits") == ("sql.aggregates", {"max": str(limit)})


def test_a_public_table_costs_nothing_by_itself(site: QuerySite) -> None:
    query = planned(
        site, "SELECT city, COUNT(*) AS n FROM visits JOIN divisions ON visits.division = divisions.code GROUP BY city"
    )
    assert [loss.entity_set for loss in query.losses] == ["resident"]
    assert query.held[1].spec == DIVISIONS
