"""Days at the edge: people think in Asia/Shanghai, everything inside is UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import typer

from sandbox.rules.months import SHANGHAI


def start_of(day: datetime) -> datetime:
    """The first instant of that day in Shanghai, in UTC; typer.BadParameter before the calendar's second day."""
    try:
        return day.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=SHANGHAI).astimezone(UTC)
    except OverflowError:
        raise typer.BadParameter("a day from 0001-01-02 on") from None


def end_of(day: datetime) -> datetime:
    """The first instant after that day in Shanghai, in UTC; typer.BadParameter as `start_of`."""
    return start_of(day) + timedelta(days=1)


def month_of(moment: datetime) -> str:
    """The Shanghai month of a moment, "2026-11"."""
    return moment.astimezone(SHANGHAI).strftime("%Y-%m")
