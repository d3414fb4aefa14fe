"""Bars beside numbers, where people would rather look than read."""

from __future__ import annotations

from decimal import Decimal

from enclave_runner.contract.receipt import DPTable

WIDTH = 32
EIGHTHS = " ▏▎▍▌▋▊▉"


def bars(values: list[Decimal], width: int = WIDTH) -> list[str]:
    """One bar per value, the largest `width` cells long; noise may make a value negative, which has no bar."""
    largest = max([*values, Decimal(0)])
    return [_bar(value, largest, width) for value in values]


def bars_of(release: DPTable) -> list[str]:
    """Bars of a table's first measure."""
    return bars([Decimal(row[len(release.keys)]) for row in release.rows])


def _bar(value: Decimal, largest: Decimal, width: int) -> str:
    if value <= 0 or largest <= 0:
        return ""
    eighths = int(value * width * 8 / largest)
    return "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()
