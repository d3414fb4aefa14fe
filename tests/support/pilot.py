"""Reading the pilot city's files back."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from stdnum.cn import ric


def read_table(path: Path) -> dict[str, list[str]]:
    """Column name → values, in file order."""
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file, strict=True)
        header = next(reader)
        columns: dict[str, list[str]] = {name: [] for name in header}
        for row in reader:
            for name, value in zip(header, row, strict=True):
                columns[name].append(value)
    return columns


def has_valid_check(resident_id: str) -> bool:
    """GB 11643 form and check digit, by python-stdnum; the place is left aside, since it was never issued."""
    return (
        len(resident_id) == 18 and resident_id[:17].isdigit() and ric.calc_check_digit(resident_id) == resident_id[-1]
    )


def count_by(values: Iterable[str]) -> dict[str, int]:
    """How often each value occurs."""
    counts: dict[str, int] = defaultdict(int)
    for value in values:
        counts[value] += 1
    return dict(counts)
