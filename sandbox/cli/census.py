"""The public census file of the demo, and exact answers from it: public data, so the demo may show the true error."""

from __future__ import annotations

import csv
import gzip
from collections import Counter
from pathlib import Path

import sandbox

_CHECKOUT = Path(sandbox.__path__[0]).parent / "data"
_PACKAGED = Path(sandbox.__path__[0]) / "_data"
FOLDER = _CHECKOUT if (_CHECKOUT / "adult.csv.gz").exists() else _PACKAGED
CENSUS, CATALOGUE = FOLDER / "adult.csv.gz", FOLDER / "adult.toml"


def exact_people_and_hours() -> dict[str, tuple[int, int]]:
    """By sex: how many people of 18 or more, and their weekly hours."""
    people: Counter[str] = Counter()
    hours: Counter[str] = Counter()
    with gzip.open(CENSUS, "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if int(row["age"]) >= 18:
                people[row["sex"]] += 1
                hours[row["sex"]] += int(row["hours_per_week"])
    return {sex: (people[sex], hours[sex]) for sex in people}
