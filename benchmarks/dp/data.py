"""The benchmark's tables: events(user_id, grp, amount, d) in arrival order and users(user_id, region, age), one row per
unit. Activity is log-normal (median 6 rows, 99th percentile 63, at most 200), groups follow rank^-0.8, amounts are
log-normal and cut at 5000: heavy tails, or truncation would look free. The same seed gives the same tables."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
from rich.progress import Progress

from benchmarks.dp.protocol import Given
from benchmarks.dp.statements import GROUPS, REGIONS, STATEMENTS, Answer, answer_of

FOLDER = Path("build/bench/dp")
SEED, VERSION = 7, "1"
MAX_ROWS_PER_UNIT, MAX_AMOUNT, DAYS = 200, 5000, 365
STEPS = ("draw the units", "draw the events", "write the database", "write Parquet", "write CSV")


@dataclass(frozen=True)
class Size:
    """Rows aimed at (the draw ends a little above or below) and units."""

    name: str
    rows: int
    units: int


SIZES = {name: Size(name, 10**power, 10 ** (power - 1)) for name, power in (("xs", 5), ("s", 6), ("m", 7), ("l", 8))}


def data_set(size: Size, folder: Path = FOLDER) -> Given:
    """The files of that size, written now unless a finished set of this version lies there already."""
    home = folder / size.name
    stamp = home / "version"
    if not (stamp.is_file() and stamp.read_text(encoding="ascii") == VERSION):
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        _write(size, Given(home))
        stamp.write_text(VERSION, encoding="ascii")
    return Given(home)


def _write(size: Size, given: Given) -> None:
    with Progress(transient=True) as progress, duckdb.connect(str(given.database)) as connection:
        task = progress.add_task(f"{size.rows:,} rows", total=len(STEPS))
        steps: tuple[Callable[[], object], ...] = (
            lambda: connection.register("raw_users", users(size)),
            lambda: connection.register("raw_events", events(size)),
            lambda: _tables(connection),
            lambda: _parquet(connection, given),
            lambda: _csv(connection, given.folder),
        )
        for title, step in zip(STEPS, steps, strict=True):
            progress.update(task, description=f"{size.rows:,} rows: {title}")
            step()
            progress.advance(task)


def events(size: Size) -> pa.Table:
    """Rows of (user_id, g, amount, d), shuffled so that a unit's rows lie scattered over the table."""
    random = np.random.default_rng(SEED)
    activity = np.exp(random.normal(0, 1.0, size.units))
    rows_of = random.poisson(activity / activity.sum() * size.rows).clip(1, MAX_ROWS_PER_UNIT)
    unit = np.repeat(np.arange(1, size.units + 1, dtype=np.int64), rows_of)
    random.shuffle(unit)
    popularity = (np.arange(len(GROUPS)) + 1) ** -0.8
    group = random.choice(len(GROUPS), len(unit), p=popularity / popularity.sum()).astype(np.int8)
    amount = np.round(np.minimum(np.exp(random.normal(3, 0.8, len(unit))), MAX_AMOUNT), 2)
    day = random.integers(0, DAYS, len(unit)).astype(np.int16)
    return pa.table({"user_id": unit, "g": group, "amount": amount, "d": day})


def users(size: Size) -> pa.Table:
    """One row of (user_id, region, age) per unit."""
    random = np.random.default_rng([SEED, 1])
    region = random.integers(0, len(REGIONS), size.units).astype(np.int8)
    age = random.normal(45, 16, size.units).clip(18, 95).astype(np.int32)
    return pa.table({"user_id": np.arange(1, size.units + 1, dtype=np.int64), "region": region, "age": age})


def _tables(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(
        "CREATE TABLE events AS SELECT user_id, printf('g%02d', g::INT) AS grp, amount::DECIMAL(12, 2) AS amount, "
        "d::INT AS d FROM raw_events"
    )
    connection.execute("CREATE TABLE users AS SELECT user_id, printf('r%d', region::INT) AS region, age FROM raw_users")


def _parquet(connection: duckdb.DuckDBPyConnection, given: Given) -> None:
    events_as_floats = "SELECT user_id, grp, amount::DOUBLE AS amount, d FROM events"
    connection.execute(f"COPY ({events_as_floats}) TO '{given.parquet('events')}' (FORMAT parquet)")
    connection.execute(f"COPY users TO '{given.parquet('users')}' (FORMAT parquet)")


def _csv(connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
    for table in ("events", "users"):
        connection.execute(f"COPY {table} TO '{folder / table}.csv' (HEADER)")


def exact_answer(given: Given, statement: str) -> Answer:
    """What the whole table says, unbounded except for the amounts' range."""
    with duckdb.connect(str(given.database), read_only=True) as connection:
        return answer_of(statement, connection.execute(STATEMENTS[statement].exact).fetchall())
