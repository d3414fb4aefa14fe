"""Days at the edge: people think in Asia/Shanghai, everything inside is UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

SHANGHAI = ZoneInfo("Asia/Shanghai")


def start_of(day: datetime) -> datetime:
    """The first instant of that day in Shanghai, in UTC."""
    return day.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=SHANGHAI).astimezone(UTC)


def end_of(day: datetime) -> datetime:
    """The first instant after that day in Shanghai, in UTC."""
    return start_of(day) + timedelta(days=1)


def month_of(moment: datetime) -> str:
    """The Shanghai month of a moment, "2026-11"."""
    return moment.astimezone(SHANGHAI).strftime("%Y-%m")
