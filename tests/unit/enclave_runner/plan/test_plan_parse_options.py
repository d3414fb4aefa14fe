"""OPTIONS as BigQuery writes them and as we extend them: what they become, and what is no option."""

from __future__ import annotations

import pytest

from enclave_runner.contract.errors import Refused
from enclave_runner.plan.nodes import Bounds, Noise, Options
from enclave_runner.plan.parse import parse_select
from tests.support.plan_printer import without_positions


def asked(options: str) -> Options:
    return parse_select(f"SELECT WITH DIFFERENTIAL_PRIVACY {options} COUNT(*) FROM t").options


def test_nothing_said_is_nothing_known() -> None:
    assert parse_select("SELECT COUNT(*) FROM t").options == Options() == asked("") == asked("OPTIONS()")


def test_every_option_in_full() -> None:
    text = """OPTIONS (epsilon=1.0, delta=1e-6, privacy_unit_column=user_id, max_groups_contributed=3, noise='laplace',
        bounds='auto', max_rows_contributed=64, clip_correction=true, target_absolute_error=100,
        target_relative_error=0.01)"""
    assert asked(text) == Options(
        epsilon="1.0", delta="0.000001", unit_column="user_id", groups=3, noise=Noise.LAPLACE, bounds=Bounds.AUTO,
        rows=64, correction=True, absolute_error="100", relative_error="0.01",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("option", "field", "value"),
    [
        ("EPSILON = 2", "epsilon", "2"), ("epsilon = 1e1", "epsilon", "10"), ("delta = 0", "delta", "0"),
        ("noise = gaussian", "noise", Noise.GAUSSIAN), ("noise = 'AUTO'", "noise", Noise.AUTO),
        ("bounds = 'catalogue'", "bounds", Bounds.CATALOGUE), ("clip_correction = FALSE", "correction", False),
        ('privacy_unit_column = "身份"', "unit_column", "身份"), ("max_rows_contributed = 1", "rows", 1),
    ],
)  # fmt: skip
def test_one_option(option: str, field: str, value: object) -> None:
    assert getattr(asked(f"options ({option})"), field) == value


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ("^gamma = 1", "sql.option"), ("epsilon = 1, ^epsilon = 1", "sql.option"),
        ("epsilon = 1, ^EPSILON = 2", "sql.option"), ("^group_selection_strategy = PUBLIC_GROUPS", "sql.option"),
        ("^'epsilon' = 1", "sql.option"), ("epsilon = ^0", "sql.option-value"), ("epsilon = ^-1", "sql.option-value"),
        ("epsilon = ^'1'", "sql.option-value"), ("epsilon = ^x", "sql.option-value"),
        ("epsilon = ^1 + 1", "sql.option-value"), ("epsilon = ^NULL", "sql.option-value"),
        ("epsilon = ^1e20", "sql.option-value"), ("epsilon = ^1e999", "sql.number"), ("delta = ^1", "sql.option-value"),
        ("noise = ^'none'", "sql.option-value"), ("bounds = ^'data'", "sql.option-value"),
        ("clip_correction = ^1", "sql.option-value"), ("clip_correction = ^'true'", "sql.option-value"),
        ("max_rows_contributed = ^0", "sql.whole"), ("max_rows_contributed = ^1.5", "sql.whole"),
        ("max_groups_contributed = ^1000001", "sql.whole"), ("max_rows_contributed = ^'3'", "sql.option-value"),
        ("privacy_unit_column = ^'id'", "sql.option-value"), ("privacy_unit_column = ^7", "sql.option-value"),
        ("epsilon ^1, delta = 0", "sql.syntax"), ("epsilon ^=> 1", "sql.syntax"),
    ],
)  # fmt: skip
def test_what_is_no_option_is_refused_where_it_stands(options: str, rule: str) -> None:
    head = "SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS ("
    with pytest.raises(Refused) as caught:
        parse_select(head + options.replace("^", "") + ") COUNT(*) FROM t")
    assert caught.value.rule == rule
    assert int(caught.value.facts["position"]) == len(head) + options.index("^") + 1


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS (epsilon = 1 COUNT(*) FROM t",
        "SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS (epsilon = 1, ",
        "SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS (epsilon",
        "SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS (",
        "SELECT WITH DIFFERENTIAL_PRIVACY",
        "SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS epsilon = 1 COUNT(*) FROM t",
        "SELECT WITH ANONYMIZATION OPTIONS (epsilon = 1) COUNT(*) FROM t",
        "SELECT WITH DIFFERENTIAL_PRIVACY COUNT(*), (SELECT WITH DIFFERENTIAL_PRIVACY COUNT(*) FROM t) FROM t",
    ],
)
def test_a_broken_clause_is_refused(sql: str) -> None:
    with pytest.raises(Refused):
        parse_select(sql)


def test_the_clause_stands_behind_a_cte_too_and_leaves_positions_alone() -> None:
    head = "WITH c AS (SELECT a FROM t) SELECT WITH DIFFERENTIAL_PRIVACY OPTIONS (epsilon = 2)"
    sql = f"{head} a, COUNT(*) FROM c GROUP BY a"
    plan = parse_select(sql)
    assert plan.options.epsilon == "2"
    assert plan.aggregates[0].position == sql.index("COUNT") + 1


def test_bounds_of_rows_are_a_clamp_that_keeps_null() -> None:
    for name in ("clamp", "contribution_bounds_per_row"):
        given = parse_select(f"SELECT SUM(x, {name} => (-1, 9.5)) AS s FROM t")
        written = parse_select(
            "SELECT SUM(CASE WHEN x IS NULL THEN NULL ELSE GREATEST(LEAST(x, 9.5), -1) END) AS s FROM t"
        )
        assert without_positions(given) == without_positions(written)
