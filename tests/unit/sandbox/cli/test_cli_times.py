from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
import typer

from sandbox.cli.times import end_of, month_of, start_of


def test_a_day_is_a_day_in_shanghai() -> None:
    day = datetime(2026, 11, 24, 13, 45)
    assert start_of(day) == datetime(2026, 11, 23, 16, tzinfo=UTC)
    assert end_of(day) == datetime(2026, 11, 24, 16, tzinfo=UTC)
    assert start_of(day).tzinfo is UTC


def test_days_follow_one_another() -> None:
    day = datetime(2027, 2, 28)
    assert end_of(day) == start_of(day + timedelta(days=1))


def test_a_month_ends_at_midnight_in_shanghai() -> None:
    assert month_of(datetime(2026, 11, 30, 15, 59, 59, tzinfo=UTC)) == "2026-11"
    assert month_of(datetime(2026, 11, 30, 16, tzinfo=UTC)) == "2026-12"
    assert month_of(datetime(2026, 12, 1, 1, tzinfo=timezone(timedelta(hours=9)))) == "2026-12"


def test_the_ends_of_the_calendar() -> None:
    assert end_of(datetime(9999, 12, 31)) == datetime(9999, 12, 31, 16, tzinfo=UTC)
    for moment in (start_of, end_of):
        with pytest.raises(typer.BadParameter, match="0001-01-02"):
            moment(datetime(1, 1, 1))
