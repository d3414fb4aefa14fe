"""The generated tables: their shape, their tails, and that a seed says all."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from benchmarks.dp.data import MAX_AMOUNT, MAX_ROWS_PER_UNIT, Size, data_set, events, exact_answer, users
from benchmarks.dp.protocol import Given
from benchmarks.dp.statements import GROUPS, QUARTILES, REGIONS, STATEMENTS

SMALL = Size("t", 20_000, 2_000)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Given:
    return data_set(SMALL, tmp_path_factory.mktemp("bench"))


def asked(given: Given, sql: str) -> list[tuple[object, ...]]:
    with duckdb.connect(str(given.database), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def test_the_same_seed_gives_the_same_tables() -> None:
    assert events(SMALL).equals(events(SMALL))
    assert users(SMALL).equals(users(SMALL))


def test_every_unit_has_rows_and_one_line_in_users(given: Given) -> None:
    assert asked(given, "SELECT count(*), count(DISTINCT user_id) FROM users") == [(SMALL.units, SMALL.units)]
    least, most, units = asked(
        given, "SELECT min(c), max(c), count(*) FROM (SELECT count(*) c FROM events GROUP BY user_id)"
    )[0]
    assert (least, units) == (1, SMALL.units)
    assert 100 < int(str(most)) <= MAX_ROWS_PER_UNIT


def test_activity_has_a_heavy_tail_so_that_bounds_cost_something(given: Given) -> None:
    total, over_32, over_128 = asked(
        given,
        "SELECT sum(c), sum(greatest(c - 32, 0)), sum(greatest(c - 128, 0)) "
        "FROM (SELECT count(*) c FROM events GROUP BY user_id)",
    )[0]
    assert 0.05 < int(str(over_32)) / int(str(total)) < 0.15
    assert 0 < int(str(over_128)) / int(str(total)) < 0.01


def test_rows_of_a_unit_are_scattered(given: Given) -> None:
    together = asked(
        given, "SELECT avg((user_id = lead)::INT) FROM (SELECT user_id, lead(user_id) OVER () AS lead FROM events)"
    )
    assert float(str(together[0][0])) < 0.02  # sorted by unit it would be 0.9


def test_groups_regions_and_amounts_lie_in_their_domains(given: Given) -> None:
    assert {key for (key,) in asked(given, "SELECT DISTINCT grp FROM events")} == set(GROUPS)
    assert {key for (key,) in asked(given, "SELECT DISTINCT region FROM users")} == set(REGIONS)
    low, high, above = asked(given, "SELECT min(amount), max(amount), avg((amount > 100)::INT) FROM events")[0]
    assert 0 <= float(str(low)) < 100 < float(str(high)) <= MAX_AMOUNT
    assert 0.015 < float(str(above)) < 0.03


def test_every_file_holds_the_same_rows(given: Given) -> None:
    expected = asked(given, "SELECT count(*), sum(user_id), sum(amount) FROM events")
    for source in (f"read_parquet('{given.parquet('events')}')", f"read_csv('{given.folder / 'events.csv'}')"):
        assert asked(given, f"SELECT count(*), sum(user_id), sum(amount::DECIMAL(12, 2)) FROM {source}") == expected


def test_a_finished_set_is_kept_and_a_half_written_one_is_not(tmp_path: Path) -> None:
    first = data_set(Size("t", 200, 20), tmp_path)
    mark = first.database.stat().st_mtime_ns
    assert data_set(Size("t", 200, 20), tmp_path).database.stat().st_mtime_ns == mark
    (first.folder / "version").unlink()
    assert data_set(Size("t", 200, 20), tmp_path).database.stat().st_mtime_ns != mark


@pytest.mark.parametrize("key", STATEMENTS)
def test_exact_answers_have_all_keys(given: Given, key: str) -> None:
    keys = {"q1": GROUPS, "q2": GROUPS, "q3": ("",), "q3g": GROUPS, "q4": tuple(map(str, QUARTILES)), "q5": REGIONS}
    answer = exact_answer(given, key)
    assert tuple(answer) == STATEMENTS[key].columns
    assert all(set(values) == set(keys[key]) for values in answer.values())


def test_exact_answers_are_right(given: Given) -> None:
    rows = asked(given, "SELECT grp, amount FROM events")
    clipped = [min(float(str(amount)), 100.0) for key, amount in rows if key == "g03"]
    answer = exact_answer(given, "q2")
    assert answer["sum"]["g03"] == pytest.approx(sum(clipped))
    assert answer["mean"]["g03"] == pytest.approx(sum(clipped) / len(clipped))
    assert exact_answer(given, "q1")["rows"]["g03"] == len(clipped)
    assert sum(exact_answer(given, "q5")["rows"].values()) == len(rows)
