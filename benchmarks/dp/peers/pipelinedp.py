"""PipelineDP 0.3.1 with its local backend: pure Python, rows as tuples (its Beam and Spark backends are not measured).

Rows are bounded per unit over all groups (`max_contributions`), which keeps more of them than its usual groups × rows.
It joins nothing."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import duckdb
import pipeline_dp as pdp

from benchmarks.dp.protocol import Ask, Given, serve
from benchmarks.dp.statements import AMOUNT, DELTA, EPSILON, GROUPS, QUARTILES, TOTAL, Answer, Bound, answer_of

Row = tuple[int, str, float]


def load(given: Given) -> dict[str, Ask]:
    """The rows as Python tuples."""
    warnings.simplefilter("ignore")
    with duckdb.connect(str(given.database), read_only=True) as connection:
        rows = connection.execute("SELECT user_id, grp, amount::DOUBLE FROM events").fetchall()
    asks = {"q1": _count, "q2": _sum_and_mean, "q3": _distinct, "q3g": _distinct_by_group, "q4": _quartiles}
    return {name: partial(ask, rows) for name, ask in asks.items()}


def _aggregate(rows: Sequence[Row], metrics: list[Any], keys: Sequence[str], **bounds: float) -> list[tuple[str, Any]]:
    """The noisy metrics by key: by group, or all rows under the only key."""
    partition: Callable[[Row], str] = operator.itemgetter(1) if len(keys) > 1 else lambda _: keys[0]
    extractors = pdp.DataExtractors(
        privacy_id_extractor=operator.itemgetter(0),
        partition_extractor=partition,
        value_extractor=operator.itemgetter(2),
    )
    accountant = pdp.NaiveBudgetAccountant(total_epsilon=EPSILON, total_delta=DELTA)
    engine = pdp.DPEngine(accountant, pdp.LocalBackend())
    params = pdp.AggregateParams(
        metrics=metrics,
        noise_kind=pdp.NoiseKind.LAPLACE,
        **bounds,
    )
    lazy = engine.aggregate(rows, params, extractors, public_partitions=list(keys))
    accountant.compute_budgets()
    return list(lazy)


def _count(rows: Sequence[Row], bound: Bound) -> Answer:
    found = _aggregate(rows, [pdp.Metrics.COUNT], GROUPS, max_contributions=bound.rows)
    return {"rows": {key: value.count for key, value in found}}


def _sum_and_mean(rows: Sequence[Row], bound: Bound) -> Answer:
    metrics = [pdp.Metrics.SUM, pdp.Metrics.MEAN]
    found = _aggregate(rows, metrics, GROUPS, max_contributions=bound.rows, min_value=AMOUNT[0], max_value=AMOUNT[1])
    return answer_of("q2", [(key, value.sum, value.mean) for key, value in found])


def _distinct(rows: Sequence[Row], _: Bound) -> Answer:
    return _units(rows, (TOTAL,), 1)


def _distinct_by_group(rows: Sequence[Row], bound: Bound) -> Answer:
    return _units(rows, GROUPS, bound.groups)


def _units(rows: Sequence[Row], keys: Sequence[str], groups: int) -> Answer:
    bounds = {"max_partitions_contributed": groups, "max_contributions_per_partition": 1}
    found = _aggregate(rows, [pdp.Metrics.PRIVACY_ID_COUNT], keys, **bounds)
    return {"units": {key: value.privacy_id_count for key, value in found}}


def _quartiles(rows: Sequence[Row], bound: Bound) -> Answer:
    percents = {str(alpha): round(alpha * 100) for alpha in QUARTILES}
    metrics = [pdp.Metrics.PERCENTILE(percent) for percent in percents.values()]
    bounds = {"max_partitions_contributed": 1, "max_contributions_per_partition": bound.rows}
    found = _aggregate(rows, metrics, (TOTAL,), min_value=AMOUNT[0], max_value=AMOUNT[1], **bounds)[0][1]
    return {"quartile": {alpha: getattr(found, f"percentile_{percent}") for alpha, percent in percents.items()}}


if __name__ == "__main__":
    serve(load)
