from __future__ import annotations

from datetime import UTC, datetime

import pytest

from sandbox.rules.months import month_bounds
from tests.support.refusals import refused_by

CLOSE = datetime(2026, 11, 30, 16, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("month", "begin", "end"),
    [
        ("2026-11", datetime(2026, 10, 31, 16, tzinfo=UTC), CLOSE),
        ("2026-12", CLOSE, datetime(2026, 12, 31, 16, tzinfo=UTC)),
        ("2028-02", datetime(2028, 1, 31, 16, tzinfo=UTC), datetime(2028, 2, 29, 16, tzinfo=UTC)),
    ],
)
def test_a_month_begins_and_ends_at_midnight_in_shanghai(month: str, begin: datetime, end: datetime) -> None:
    assert month_bounds(month) == (begin, end)


@pytest.mark.parametrize("month", ["", "2026-13", "2026-00", "2026-1", "26-11", "2026-11-01", "2026-11\n", "1999-01"])
def test_anything_else_is_no_month(month: str) -> None:
    with refused_by("month.malformed"):
        month_bounds(month)
