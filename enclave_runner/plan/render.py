"""Bound plan → the SQL that runs. Names come from the catalogue, constants are escaped; no text of the operator's.

Every query gives exact integers: group keys as text, then one sum per statistic. Only DuckDB is spoken here; the forms
are those that translate word for word (`//` is DIV elsewhere).
"""

from __future__ import annotations

from enclave_runner.plan.bound import (
    UNIT,
    WEIGHT_SCALE,
    BoundFeatures,
    BoundSelect,
    Clipping,
    Histogram,
    NormKind,
    Statistic,
    Units,
    Values,
)
from enclave_runner.plan.scalar import SAFE, number, text
from enclave_runner.plan.statistics import both
from enclave_runner.plan.tables import quote

KEY_SALT = "yunei"  # which keys of a unit count is fixed by a digest: the same in every run, and nobody's choice


def render_sums(plan: BoundSelect, *clips: int) -> str:
    """One row per non-empty group: its keys, then the weighted sum of each statistic, clip by clip."""
    if plan.sums is None:
        raise ValueError("the plan has no sums")
    sums = [_weighted(item, plan.sums.clipping, clip) for clip in clips for item in plan.sums.statistics]
    return _grouped(plan, sums, None)


def render_units(plan: BoundSelect, units: Units) -> str:
    """One row per non-empty group: its keys, then how many units have rows in it."""
    return _grouped(plan, [_unit_count(plan)], units.condition)


def render_candidates(plan: BoundSelect) -> str:
    """One row per key that occurs: how many units count in it, each in at most `open_groups` keys."""
    keys = ", ".join(f"k{index}" for index in range(len(plan.axes)))
    if _counts_rows(plan):
        return _grouped(plan, ["count(*)"], None)
    outputs = [f"{axis.sql} AS k{index}" for index, axis in enumerate(plan.axes)]
    inner = f"SELECT DISTINCT t{plan.root}.{UNIT} AS u, {', '.join(outputs)} FROM {plan.origin}{_where(plan, None)}"
    rank = f"row_number() OVER (PARTITION BY u ORDER BY {_shuffled(keys)}, {keys})"
    ranked = f"SELECT {keys}, {rank} AS r FROM ({inner}) AS d"
    return f"SELECT {keys}, count(*) FROM ({ranked}) AS s WHERE r <= {number(plan.open_groups)} GROUP BY {keys}"


def render_values(plan: BoundSelect, values: Values) -> str:
    """One row per value that occurs: how many units show it, each showing at most `limit` values."""
    where = _where(plan, both(values.condition, f"({values.sql}) IS NOT NULL"))
    if _counts_rows(plan):
        return f"SELECT {values.sql}, count(*) FROM {plan.origin}{where} GROUP BY {values.sql}"
    inner = f"SELECT DISTINCT t{plan.root}.{UNIT} AS u, {values.sql} AS k0 FROM {plan.origin}{where}"
    rank = f"row_number() OVER (PARTITION BY u ORDER BY {_shuffled('k0')}, k0)"
    ranked = f"SELECT k0, {rank} AS r FROM ({inner}) AS d"
    return f"SELECT k0, count(*) FROM ({ranked}) AS s WHERE r <= {number(values.limit)} GROUP BY k0"


def render_histogram(plan: BoundSelect, histogram: Histogram, clip: int) -> str:
    """One row per non-empty bin of a group: its keys, the bin, and the weights in it."""
    position = f"({histogram.sql} - {number(histogram.low)}) // {number(histogram.step)}"
    weight = _weight(histogram.clipping, clip)
    total = f"sum({weight})" if histogram.clipping.kind is not NormKind.NONE else "count(*)"
    return _grouped(plan, [total], histogram.condition, position)


def render_features(plan: BoundFeatures) -> str:
    """One row per kept record: the features in order, then the weight."""
    columns = [f"t0.{quote(name)}" for name, _, _ in plan.features]
    columns.append(_weight(plan.clipping, plan.clipping.limit))
    text = f"SELECT {', '.join(columns)} FROM t0"
    return f"{text} WHERE {plan.condition}" if plan.condition else text


def literal(value: int | str) -> str:
    """An SQL constant."""
    return number(value) if isinstance(value, int) else text(value)


def _grouped(plan: BoundSelect, sums: list[str], condition: str | None, extra: str | None = None) -> str:
    keys = [axis.sql for axis in plan.axes] + ([extra] if extra is not None else [])
    text = f"SELECT {', '.join([*keys, *sums])} FROM {plan.origin}{_where(plan, condition)}"
    return f"{text} GROUP BY {', '.join(keys)}" if keys else text


def _where(plan: BoundSelect, condition: str | None) -> str:
    """The conditions of the query. A key outside its public domain is left out by whoever reads the rows."""
    opened = [f"({axis.sql}) IS NOT NULL" for axis in plan.axes if axis.is_open]
    conditions = [*opened, *(item for item in (plan.condition, condition) if item is not None)]
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""


def _counts_rows(plan: BoundSelect) -> bool:
    """Whether every unit has one row at most, so that rows are units."""
    return not plan.sources[plan.root].unit


def _unit_count(plan: BoundSelect) -> str:
    return "count(*)" if _counts_rows(plan) else f"count(DISTINCT t{plan.root}.{UNIT})"


def _shuffled(keys: str) -> str:
    return f"md5(concat_ws({literal(KEY_SALT)}, {keys}))"


def _weight(clipping: Clipping, clip: int) -> str:
    """floor(S · min(1, clip / norm)) as an integer; a norm that does not exceed the clip is not divided by."""
    scale = number(WEIGHT_SCALE)
    if clipping.kind is NormKind.NONE:
        return number(1)
    product = clip * WEIGHT_SCALE
    reduced = f"{number(product)} // {clipping.norm}"
    if "HUGEINT" in clipping.norm or product >= SAFE:
        scale, reduced = f"CAST({WEIGHT_SCALE} AS HUGEINT)", f"CAST({product} AS HUGEINT) // {clipping.norm}"
    return f"CASE WHEN {clipping.norm} <= {number(clip)} THEN {scale} ELSE {reduced} END"


def _weighted(item: Statistic, clipping: Clipping, clip: int) -> str:
    """The sum of one statistic; never null, in 128 bits where 64 would not do."""
    if clipping.kind is NormKind.NONE:
        return "count(*)" if item.sql == number(1) else f"coalesce(sum({item.sql}), {number(0)})"
    weight = _weight(clipping, clip)
    if item.sql == number(1):
        return f"coalesce(sum({weight}), {number(0)})"
    if item.magnitude * WEIGHT_SCALE >= SAFE or "HUGEINT" in weight:
        weight = f"CAST({weight} AS HUGEINT)"
    return f"coalesce(sum({item.sql} * {weight}), {number(0)})"
