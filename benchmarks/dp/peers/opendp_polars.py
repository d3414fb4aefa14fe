"""OpenDP 0.16 through Polars: identifiers, truncation, margins, public keys. It joins no two protected tables.

Its truncation of groups keeps one group fewer than stated, so rows per unit is the fair bound. Counts are unsigned and
clamped at zero. The mean is its sum over its count, which errs less than its own mean."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import opendp.prelude as dp
import polars as pl

from benchmarks.dp.protocol import Ask, Given, serve
from benchmarks.dp.statements import AMOUNT, EPSILON, GROUPS, QUARTILES, TOTAL, Answer, Bound, answer_of

MAX_ROWS = 200_000_000
CANDIDATES = [cents / 100 for cents in range(AMOUNT[0] * 100, AMOUNT[1] * 100 + 1)]


def load(given: Given) -> dict[str, Ask]:
    """The plans over a table in memory."""
    warnings.simplefilter("ignore")
    dp.enable_features("contrib", "honest-but-curious")
    cents = (pl.col.amount * 100).round().cast(pl.Int64).alias("cents")  # its planner knows no round()
    frame = pl.read_parquet(given.parquet("events")).with_columns(cents).lazy()
    asks = {"q1": _count, "q2": _sum_and_mean, "q3": _distinct, "q3g": _distinct_by_group, "q4": _quartiles}
    return {name: partial(ask, frame) for name, ask in asks.items()}


def _query(frame: pl.LazyFrame) -> Any:
    context = dp.Context.compositor(
        data=frame,
        privacy_unit=dp.unit_of(contributions=1, identifier=pl.col("user_id")),
        privacy_loss=dp.loss_of(epsilon=EPSILON),
        split_evenly_over=1,
        margins=[
            dp.polars.Margin(max_length=MAX_ROWS),
            dp.polars.Margin(by=["grp"], max_groups=len(GROUPS), max_length=MAX_ROWS),
        ],
    )
    return context.query()


def _released(plan: Any) -> list[tuple[Any, ...]]:
    keys = pl.LazyFrame({"grp": list(GROUPS)})
    frame = plan.with_keys(keys).release().collect()
    return list(frame.select("grp", *(column for column in frame.columns if column != "grp")).rows())


def _count(frame: pl.LazyFrame, bound: Bound) -> Answer:
    plan = _query(frame).truncate_per_group(bound.rows).group_by("grp").agg(dp.len().alias("rows"))
    return answer_of("q1", _released(plan))


def _sum_and_mean(frame: pl.LazyFrame, bound: Bound) -> Answer:
    cents = pl.col.cents.fill_null(0).dp.sum((AMOUNT[0] * 100, AMOUNT[1] * 100)).alias("cents")
    plan = _query(frame).truncate_per_group(bound.rows).group_by("grp").agg(cents, dp.len().alias("rows"))
    rows = [(key, cents / 100, cents / 100 / max(rows, 1)) for key, cents, rows in _released(plan)]
    return answer_of("q2", rows)


def _distinct(frame: pl.LazyFrame, _: Bound) -> Answer:
    plan = _query(frame).truncate_per_group(1).select(dp.len())
    return answer_of("q3", [(TOTAL, plan.release().collect().row(0)[0])])


def _distinct_by_group(frame: pl.LazyFrame, bound: Bound) -> Answer:
    once = _query(frame).truncate_per_group(1, by=["grp"])
    plan = once.truncate_num_groups(bound.groups, by=["grp"], keep="first").group_by("grp")
    return answer_of("q3g", _released(plan.agg(dp.len().alias("units"))))


def _quartiles(frame: pl.LazyFrame, bound: Bound) -> Answer:
    amount = pl.col.amount.fill_null(0.0).fill_nan(0.0)
    asked = [amount.dp.quantile(alpha, CANDIDATES).alias(str(alpha)) for alpha in QUARTILES]
    row = _query(frame).truncate_per_group(bound.rows).select(*asked).release().collect().row(0, named=True)
    return answer_of("q4", list(row.items()))


if __name__ == "__main__":
    serve(load)
