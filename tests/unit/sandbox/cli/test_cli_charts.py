from __future__ import annotations

import io
from decimal import Decimal

import pytest
from rich.console import Console

from sandbox.cli.charts import ASCII, UNICODE, Glyphs, day_lines, draw, glyphs_of, heat_table, interval_bars, spent_bar
from sandbox.client.figures import Mark, figure_of
from tests.support.released_tables import by_district, days, field


def bars(*cells: tuple[float | None, float | None], glyphs: Glyphs = UNICODE, width: int = 8) -> list[str]:
    return interval_bars([Mark(("k",), _decimal(value), _decimal(half)) for value, half in cells], glyphs, width)


def _decimal(value: float | None) -> Decimal | None:
    return None if value is None else Decimal(str(value))


def test_the_largest_value_fills_the_width_and_others_are_in_proportion() -> None:
    assert bars((8, 0), (4, None), (1, 0)) == ["████████", "████", "█"]


def test_an_eighth_of_a_cell_is_seen() -> None:
    assert bars((64, None), (1, None), (12, None)) == ["████████", "▏", "█▌"]


def test_an_interval_of_two_cells_or_more_lies_over_its_bar() -> None:
    assert bars((8, 2), (4, 2), (4, 0.1), width=10) == ["██████├─┼┤", "██├─┼─┤", "████"]


def test_below_zero_bars_go_to_the_left_of_the_zero_line() -> None:
    assert bars((-4, None), (4, None), (0, None)) == ["████│", "    │███", "    │"]


def test_an_unknown_value_has_no_bar() -> None:
    assert bars((None, None), (2, None), width=2) == ["", "██"]
    assert bars() == []


def test_plain_ascii_where_the_terminal_cannot_do_more() -> None:
    drawn = bars((8, 2), (-2, 1), (3, None), glyphs=ASCII, width=20) + day_lines(figure_of(days()), ASCII)
    assert "".join(drawn).isascii()
    assert "#" in drawn[0]
    assert "+" in drawn[0]


@pytest.mark.parametrize(("encoding", "glyphs"), [("utf-8", UNICODE), ("gb18030", ASCII), ("ascii", ASCII)])
def test_the_encoding_of_the_terminal_decides(encoding: str, glyphs: Glyphs) -> None:
    console = Console(file=io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    assert glyphs_of(console) is glyphs


def test_days_stand_to_scale_with_their_intervals_and_a_gap_for_the_unknown() -> None:
    lines = day_lines(figure_of(days()), width=46)
    assert lines[0] == "people (rows)"
    assert sum(line.count("●") for line in lines) == 9
    assert lines[-1].split() == ["2026-03-01", "2026-03-10"]
    field_of = [line.partition("│")[2].ljust(46) for line in lines[1:-1]]
    columns = [index for index in range(46) if any(row[index] == "●" for row in field_of)]
    assert columns == [0, 5, 15, 20, 25, 30, 35, 40, 45]
    assert any(row[0] == "│" for row in field_of)


def shown(figure_table: object, width: int = 120) -> str:
    out = io.StringIO()
    Console(file=out, width=width, markup=False).print(figure_table)
    return out.getvalue()


def test_a_field_has_every_number_and_a_shade_beside_it() -> None:
    text = shown(heat_table(figure_of(field())))
    assert all(f" {10 * row + column} " in text for row in range(6) for column in range(5))
    assert "██ 54" in text
    assert all(f"a{column}" in text for column in range(5))


def test_only_figures_of_their_own_are_drawn_below_the_table() -> None:
    out = io.StringIO()
    console = Console(file=out, width=100, markup=False)
    draw(console, figure_of(by_district()))
    assert out.getvalue() == ""
    draw(console, figure_of(days()))
    assert "●" in out.getvalue()


def test_a_budget_shows_what_is_spent_what_is_asked_and_what_is_left() -> None:
    assert spent_bar(0.5, 0.25, width=8) == "████▒▒··"
    assert spent_bar(0.0, 0.001, width=4) == "▒···"
    assert spent_bar(0.9, 0.5, width=4) == "████"
    assert spent_bar(0.25, 0.25, ASCII, width=4) == "#:.."
