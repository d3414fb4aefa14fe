"""The Markdown table."""

from __future__ import annotations

import math

import pytest

from benchmarks.dp.environments import PINS
from benchmarks.dp.race import FLOOR, OURS, Score
from benchmarks.dp.statements import STATEMENTS
from benchmarks.dp.table import GUARANTEES, TITLES, by_clip, markdown, notes, percent, reasons

SCORES = [
    Score(FLOOR, "q1", 32, [0.01], {"rows": [0.0]}, 70.0),
    Score("qrlew", "q2", 32, [0.5, 0.7], {"sum": [0.02, 0.04], "mean": [0.1, 0.1]}, 400.0),
    Score("qrlew", "q2", 128, [0.4, 0.4], {"sum": [0.01, 0.01], "mean": [0.3, 0.3]}, 401.0),
    Score("qrlew", "q3", 32, [0.3], {"units": [9.0]}, 401.0),
    Score("tumult", "q1", 32, reason="it ended"),
]
PEAKS = {"q1": (90.0, 70.0), "q2": (100.0, 80.0)}


def row(table: str, title: str) -> list[str]:
    line = next(line for line in table.splitlines() if line.startswith(f"| {title} "))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_every_row_has_every_column() -> None:
    lines = markdown(10**6, SCORES, {}, PEAKS).splitlines()
    assert {line.count("|") for line in lines} == {len(STATEMENTS) + 3}
    assert lines[0].startswith("| 1,000,000 rows | Q1 ")


def test_a_cell_is_the_best_time_and_the_best_error_of_each_column() -> None:
    assert row(markdown(10**6, SCORES, {}, PEAKS), TITLES["qrlew"])[2] == "0.400 s / 1.0 %, 10 %"


def test_wrong_answers_and_single_runs_are_marked_and_nothing_is_a_dash() -> None:
    cells = row(markdown(10**6, SCORES, {}, PEAKS), TITLES["qrlew"])
    assert cells[1] == "-"
    assert cells[3] == "0.300 s / 900 % (wrong) (1 run)"
    assert cells[-1] == "401"


def test_our_peak_and_the_floors_are_those_measured_apart() -> None:
    mine = Score(OURS, "q1", 0, [0.02], {"rows": [0.01]})
    table = markdown(10**6, [*SCORES, mine], {}, PEAKS)
    assert (row(table, TITLES[OURS])[-1], row(table, TITLES[FLOOR])[-1]) == ("100", "80")


def test_our_clips_stand_apart_with_their_own_times() -> None:
    mine = [Score(OURS, "q1", bound, [bound / 1000 + 0.01], {"rows": [0.01]}) for bound in (0, 32)]
    lines = by_clip([*SCORES, *mine]).splitlines()
    assert [line.split("|")[1:3] for line in lines[2:]] == [
        [" learned privately ", " 0.010 s / 1.0 % (1 run) "],
        [" 32 rows per unit ", " 0.042 s / 1.0 % (1 run) "],
    ]


def test_who_could_not_be_installed_stands_below_with_the_reason() -> None:
    assert row(markdown(10**6, SCORES, {"pipelinedp": "no wheel"}, PEAKS), TITLES["pipelinedp"]) == [
        TITLES["pipelinedp"],
        "not run: no wheel",
    ]


def test_every_peer_has_a_title_and_a_word_on_its_guarantee() -> None:
    assert set(GUARANTEES) == set(PINS)
    assert set(TITLES) == {*PINS, FLOOR, OURS}
    assert notes(SCORES).count("\n") == 0
    assert "float noise" in notes(SCORES)


def test_reasons_are_told_once() -> None:
    assert reasons([*SCORES, *SCORES]) == ["tumult q1: it ended"]


@pytest.mark.parametrize(
    ("error", "text"), [(0.0042, "0.42 %"), (0.101, "10 %"), (1e-5, "0.0010 %"), (0.0, "0.00 %"), (math.inf, "-")]
)
def test_percent(error: float, text: str) -> None:
    assert percent(error) == text
