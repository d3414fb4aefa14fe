"""The months by which uses are billed: they end at midnight in Shanghai, where days are told at every edge."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from enclave_runner.contract.errors import Refused

SHANGHAI = ZoneInfo("Asia/Shanghai")
MONTH = re.compile(r"(20\d\d)-(0[1-9]|1[0-2])")


def month_bounds(month: str) -> tuple[datetime, datetime]:
    """The first instant of a month ("2026-11") in Shanghai and the first one after it, both in UTC.

    Raises:
        Refused: `month.malformed`.
    """
    parts = MONTH.fullmatch(month)
    if parts is None:
        raise Refused("month.malformed")
    year, number = int(parts[1]), int(parts[2])
    begin = datetime(year, number, 1, tzinfo=SHANGHAI)
    end = datetime(year + number // 12, number % 12 + 1, 1, tzinfo=SHANGHAI)
    return begin.astimezone(UTC), end.astimezone(UTC)
