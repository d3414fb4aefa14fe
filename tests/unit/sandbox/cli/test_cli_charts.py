from __future__ import annotations

from decimal import Decimal

from sandbox.cli.charts import bars


def test_the_largest_value_fills_the_width_and_others_are_in_proportion() -> None:
    assert bars([Decimal(8), Decimal(4), Decimal(1)], width=8) == ["████████", "████", "█"]


def test_an_eighth_of_a_cell_is_seen() -> None:
    assert bars([Decimal(64), Decimal(1), Decimal(12)], width=8) == ["████████", "▏", "█▌"]


def test_what_is_not_above_zero_has_no_bar() -> None:
    assert bars([Decimal(-3), Decimal(0), Decimal(2)], width=2) == ["", "", "██"]
    assert bars([Decimal(-3), Decimal(-1)]) == ["", ""]
    assert bars([]) == []
