#!/usr/bin/env python3
"""Make data/adult.csv.gz from the original adult.data: the same input always gives the same bytes.

python tools/make_adult.py adult.data data/adult.csv.gz
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
from collections.abc import Iterable, Iterator
from pathlib import Path

HEADER = (
    "age",
    "workclass",
    "fnlwgt",
    "education",
    "education_num",
    "marital_status",
    "occupation",
    "relationship",
    "race",
    "sex",
    "capital_gain",
    "capital_loss",
    "hours_per_week",
    "native_country",
    "income",
)


def clean_rows(lines: Iterable[str]) -> Iterator[list[str]]:
    """Yield the rows without padding, "?" as empty, blank lines left out; ValueError when a row has not 15 fields."""
    for number, row in enumerate(csv.reader(lines), start=1):
        if not row:
            continue
        if len(row) != len(HEADER):
            raise ValueError(f"line {number} has {len(row)} fields, not {len(HEADER)}")
        fields = [field.strip() for field in row]
        yield ["" if field == "?" else field for field in fields]


def compact(text: str) -> tuple[bytes, int]:
    """Return the gzip file (no name and no time in it) and its number of rows."""
    plain = io.StringIO(newline="")
    writer = csv.writer(plain, lineterminator="\n")
    writer.writerow(HEADER)
    rows = 0
    for row in clean_rows(io.StringIO(text)):
        writer.writerow(row)
        rows += 1
    return gzip.compress(plain.getvalue().encode(), compresslevel=9, mtime=0), rows


def main() -> None:
    """Read the source, write the compact file, say how many rows it holds."""
    parser = argparse.ArgumentParser(description="Make the compact Adult file.")
    parser.add_argument("source", type=Path, help="adult.data as published: no header, comma and space")
    parser.add_argument("target", type=Path, help="the gzip file to write")
    arguments = parser.parse_args()
    data, rows = compact(arguments.source.read_text(encoding="ascii"))
    arguments.target.write_bytes(data)
    print(f"{arguments.target}: {rows} rows, {len(data)} bytes")


if __name__ == "__main__":
    main()
