"""Runs translated queries in Spark: reads asked.json, writes answers.json. A program, for its JVM to end with it."""

from __future__ import annotations

import json
import sys
from datetime import date
from decimal import Decimal
from pathlib import Path

from pyspark.sql import SparkSession, types

TYPES = {
    "BIGINT": types.LongType(),
    "UINTEGER": types.LongType(),
    "VARCHAR": types.StringType(),
    "BOOLEAN": types.BooleanType(),
    "DATE": types.DateType(),
}


def main(folder: Path) -> None:
    """Answer every case."""
    spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
    spark.conf.set("spark.sql.shuffle.partitions", "1")
    answers = []
    for case in json.loads((folder / "asked.json").read_text()):
        for index, table in enumerate(case["tables"]):
            fields = [types.StructField(name, TYPES[kind]) for name, kind in table["columns"]]
            dated = [kind == "DATE" for _, kind in table["columns"]]
            rows = [
                [
                    date.fromisoformat(cell) if is_date and cell else cell
                    for cell, is_date in zip(row, dated, strict=True)
                ]
                for row in table["rows"]
            ]
            spark.createDataFrame(rows, types.StructType(fields)).createOrReplaceTempView(f"t{index}")
        answers.append(
            [sorted((list(map(plain, row)) for row in spark.sql(q).collect()), key=str) for q in case["sql"]]
        )
    (folder / "answers.json").write_text(json.dumps(answers))
    spark.stop()


def plain(cell: object) -> object:
    """A value as JSON has it."""
    if isinstance(cell, Decimal):
        return int(cell)
    return cell.isoformat() if isinstance(cell, date) else cell


main(Path(sys.argv[1]))
