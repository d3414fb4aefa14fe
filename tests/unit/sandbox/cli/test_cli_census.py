from __future__ import annotations

import csv
import gzip

from sandbox.cli.census import CATALOGUE, CENSUS, exact_people_and_hours
from sandbox.cli.datasets import read_catalogue


def test_the_exact_answers_are_those_of_the_file() -> None:
    with gzip.open(CENSUS, "rt", encoding="utf-8", newline="") as file:
        rows = [(row["sex"], int(row["age"]), int(row["hours_per_week"])) for row in csv.DictReader(file)]
    exact = exact_people_and_hours()
    assert set(exact) == {sex for sex, _, _ in rows}
    for sex, (people, hours) in exact.items():
        adults = [worked for kind, age, worked in rows if kind == sex and age >= 18]
        assert (people, hours) == (len(adults), sum(adults))
    assert 0 < sum(people for people, _ in exact.values()) < len(rows)


def test_the_file_fits_its_entry() -> None:
    with gzip.open(CENSUS, "rt", encoding="utf-8", newline="") as file:
        header = next(csv.reader(file))
    assert header == [column.name for column in read_catalogue(CATALOGUE).spec.columns]
