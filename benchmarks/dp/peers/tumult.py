"""Tumult Analytics 0.21 (Spark 3.5, Java): entity-level, joins of two protected tables, quantiles; local[2].

Starting Spark and reading the tables into its cache are not counted. Peak memory counts the Java process too. The mean
is its sum over its count: its own average over rows took 55 s and 12 GB."""

from __future__ import annotations

import os
import sys
import threading
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession
from tmlt.analytics import (
    AddRowsWithID,
    KeySet,
    MaxGroupsPerID,
    MaxRowsPerGroupPerID,
    MaxRowsPerID,
    PureDPBudget,
    QueryBuilder,
    Session,
)

from benchmarks.dp.protocol import Ask, Given, serve
from benchmarks.dp.statements import AMOUNT, EPSILON, GROUPS, QUARTILES, REGIONS, TOTAL, Answer, Bound, answer_of

BY_GROUP = {"grp": list(GROUPS)}
BY_REGION = {"region": list(REGIONS)}
PEAK = {"mib": 0.0}


def load(given: Given) -> dict[str, Ask]:
    """A session with an endless budget over two cached tables."""
    warnings.simplefilter("ignore")
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    threading.Thread(target=_watch, daemon=True).start()
    spark = (
        SparkSession.builder.master("local[2]")
        .config("spark.driver.memory", "8g")
        .config("spark.sql.shuffle.partitions", "4")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.warehouse.dir", str(given.folder.resolve() / "spark"))
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")
    builder = Session.Builder().with_id_space("u").with_privacy_budget(PureDPBudget(float("inf")))
    for table in ("events", "users"):
        frame = spark.read.parquet(str(given.parquet(table))).cache()
        frame.count()
        builder = builder.with_private_dataframe(table, frame, protected_change=AddRowsWithID("user_id", "u"))
    session = builder.build()
    asks = {
        "q1": _count,
        "q2": _sum_and_mean,
        "q3": _distinct,
        "q3g": _distinct_by_group,
        "q4": _quartiles,
        "q5": _join,
    }
    return {name: partial(ask, session) for name, ask in asks.items()}


def _rows(session: Session, plan: Any, epsilon: float = EPSILON) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in session.evaluate(plan, PureDPBudget(epsilon)).collect()]


def _events(bound: Bound) -> QueryBuilder:
    return QueryBuilder("events").enforce(MaxRowsPerID(bound.rows))


def _count(session: Session, bound: Bound) -> Answer:
    return answer_of("q1", _rows(session, _events(bound).groupby(KeySet.from_dict(BY_GROUP)).count()))


def _sum_and_mean(session: Session, bound: Bound) -> Answer:
    grouped = _events(bound).groupby(KeySet.from_dict(BY_GROUP))
    sums = dict(_rows(session, grouped.sum("amount", float(AMOUNT[0]), float(AMOUNT[1])), EPSILON / 2))
    counts = dict(_rows(session, grouped.count(), EPSILON / 2))
    return answer_of("q2", [(key, total, total / max(counts[key], 1)) for key, total in sums.items()])


def _distinct(session: Session, _: Bound) -> Answer:
    rows = _rows(session, QueryBuilder("events").count_distinct(columns=["user_id"]))
    return answer_of("q3", [(TOTAL, rows[0][0])])


def _distinct_by_group(session: Session, bound: Bound) -> Answer:
    once = QueryBuilder("events").enforce(MaxGroupsPerID("grp", bound.groups)).enforce(MaxRowsPerGroupPerID("grp", 1))
    return answer_of("q3g", _rows(session, once.groupby(KeySet.from_dict(BY_GROUP)).count()))


def _quartiles(session: Session, bound: Bound) -> Answer:
    share, (low, high) = EPSILON / len(QUARTILES), AMOUNT
    plans = {alpha: _events(bound).quantile("amount", alpha, float(low), float(high)) for alpha in QUARTILES}
    return answer_of("q4", [(alpha, _rows(session, plan, share)[0][0]) for alpha, plan in plans.items()])


def _join(session: Session, bound: Bound) -> Answer:
    people = QueryBuilder("users").enforce(MaxRowsPerID(1))
    joined = _events(bound).join_private(people, join_columns=["user_id"])
    return answer_of("q5", _rows(session, joined.groupby(KeySet.from_dict(BY_REGION)).count()))


def _watch() -> None:
    """Keeps the largest sum of resident memory over this process and all below it."""
    while True:
        PEAK["mib"] = max(PEAK["mib"], _resident_mib())
        time.sleep(0.2)


def _resident_mib() -> float:
    parents, sizes = {}, {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                stat = (folder / "stat").read_text(encoding="utf-8", errors="replace").rsplit(")", 1)[1].split()
            except OSError:
                continue  # it ended meanwhile
            parents[int(folder.name)], sizes[int(folder.name)] = int(stat[1]), int(stat[21])
    family = {os.getpid()}
    while below := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= below
    return sum(sizes.get(pid, 0) for pid in family) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


if __name__ == "__main__":
    serve(load, lambda: PEAK["mib"])
