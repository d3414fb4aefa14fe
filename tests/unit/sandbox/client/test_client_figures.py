from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.client.figures import Mark, Scale, Shape, figure_of, scale_of, told, visible
from tests.support.released_tables import STEERING, by_district, days, field, table


def test_totals_are_left_out_beside_their_parts_and_kept_alone() -> None:
    assert [mark.keys for mark in figure_of(by_district()).marks] == [("[north]",), ("south",)]
    only = table(("district",), {(None,): ("38", "3")})
    assert [mark.keys for mark in figure_of(only).marks] == [("Σ",)]


def test_grouping_sets_of_equal_depth_are_all_shown() -> None:
    sets = table(("sex", "age"), {("m", None): ("1", "1"), ("f", None): ("2", "1"), (None, "old"): ("3", "1")})
    assert [mark.keys for mark in figure_of(sets).marks] == [("m", "Σ"), ("f", "Σ"), ("Σ", "old")]


def test_the_first_measure_is_drawn_unless_another_is_named() -> None:
    assert figure_of(by_district()).measure == "people"
    mean = figure_of(by_district(), "mean_income")
    assert (mean.measure, mean.unit) == ("mean_income", "income")
    assert [(mark.value, mark.half_width) for mark in mean.marks] == [
        (Decimal("1000.5"), Decimal("12.25")),
        (None, None),
    ]
    with pytest.raises(ValueError, match="people, mean_income"):
        figure_of(by_district(), "median")


def test_the_shape_follows_the_keys() -> None:
    assert figure_of(by_district()).shape is Shape.BARS
    assert figure_of(days()).shape is Shape.LINE
    assert figure_of(days(2)).shape is Shape.BARS
    assert figure_of(field()).shape is Shape.HEAT
    assert figure_of(field(2, 3)).shape is Shape.BARS
    assert figure_of(field(1, 60)).shape is Shape.BARS
    assert figure_of(table(("day",), {(f"2026-02-{day}",): ("1", "1") for day in (28, 29, 30)})).shape is Shape.BARS
    assert figure_of(table((), {(): ("1", "1")})).shape is Shape.BARS


def test_keys_cannot_steer_a_terminal_or_turn_text_around() -> None:
    assert visible(STEERING) == "�[2Jnorth�erised�"
    assert visible("中心区 A-1 <b>&") == "中心区 A-1 <b>&"
    assert visible(None) == "Σ"


def test_a_mark_in_words() -> None:
    assert told(Mark((), Decimal("1234.50"), Decimal("3"))) == "1,234.50 ± 3"
    assert told(Mark((), Decimal(-7), None)) == "-7 ± ?"
    assert told(Mark((), None, None)) == "—"


VALUES = st.decimals(-(10**12), 10**12, places=3)


@given(st.lists(st.tuples(VALUES, st.none() | VALUES.map(abs)), max_size=6))
def test_every_interval_and_zero_have_room_on_the_scale(cells: list[tuple[Decimal, Decimal | None]]) -> None:
    marks = [Mark(("k",), value, width) for value, width in cells]
    scale = scale_of([*marks, Mark(("unknown",), None, None)])
    shown = [Decimal(0), *(end for mark in marks for end in (mark.low, mark.high) if end is not None)]
    assert all(0 <= scale.part(value) <= 1 for value in shown)
    ticks = scale.ticks()
    assert 2 <= len(ticks) <= 12
    assert all(scale.low <= tick <= scale.high for tick in ticks)


def test_ticks_are_round() -> None:
    assert Scale(Decimal(0), Decimal(10642)).ticks() == [0, 5000, 10000]
    assert Scale(Decimal("-0.3"), Decimal("0.9")).ticks() == [Decimal(one) / 2 for one in (0, 1)]
