"""What is wrong with the pilot city's files, and how often, declared so that a test knows what import rejects.

A row has at most one defect, so that the number of rows to reject is the sum over the defects. Missing values stand in
nullable columns and are no defect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from sandbox.pilot.codes import Texts, with_wrong_check
from sandbox.pilot.columns import Rows, take

# The rules of the import that reject the rows.
KEY: Final = "row.key"
DUPLICATE: Final = "row.duplicate"
BOUNDS: Final = "row.bounds"
DOMAIN: Final = "row.domain"
MISSING_VALUE: Final = "row.missing"
TYPE: Final = "row.type"


@dataclass(frozen=True)
class Defect:
    """At most `permille` of 1000 rows break `rule` in `column`; `value` is what stands there instead.

    Without a value the check character is wrong, or, for a duplicate key, the whole row comes twice.
    """

    rule: str
    column: str
    permille: float
    value: str | None = None


DEFECTS: Final[Mapping[str, tuple[Defect, ...]]] = {
    "residents": (
        Defect(KEY, "resident_id", 4),
        Defect(DUPLICATE, "resident_id", 2),
        Defect(BOUNDS, "schooling_years", 3, "99"),
        Defect(DOMAIN, "education", 2, "phd?"),
    ),
    "households": (
        Defect(DUPLICATE, "household_id", 1),
        Defect(BOUNDS, "floor_area_m2", 3, "99999.9"),
    ),
    "enterprises": (
        Defect(KEY, "enterprise_id", 5),
        Defect(DUPLICATE, "enterprise_id", 2),
        Defect(BOUNDS, "registered_capital_fen", 3, "-1"),
    ),
    "business_licences": (Defect(KEY, "enterprise_id", 3),),
    "credit_events": (
        Defect(KEY, "enterprise_id", 3),
        Defect(DOMAIN, "event_kind", 2, "other?"),
    ),
    "social_insurance": (
        Defect(KEY, "resident_id", 2),
        Defect(BOUNDS, "payment_base", 3, "999999.00"),
    ),
    "utility_use": (
        Defect(MISSING_VALUE, "household_id", 1, ""),
        Defect(BOUNDS, "power_kwh", 4, "1000000.00"),
    ),
    "permits": (
        Defect(KEY, "enterprise_id", 3),
        Defect(BOUNDS, "working_days", 2, "-5"),
        Defect(TYPE, "applied_on", 1, "2025-02-30"),
    ),
}

# How many of 1000 values are missing.
MISSING: Final[Mapping[str, Mapping[str, float]]] = {
    "residents": {"education": 12, "marital_status": 8},
    "households": {"floor_area_m2": 20},
    "enterprises": {"employees": 30},
    "business_licences": {"expires_on": 150},
    "credit_events": {"amount_fen": 250},
    "social_insurance": {"arrears_days": 40},
    "utility_use": {"water_m3": 15, "power_kwh": 10},
    "permits": {"decided_on": 60},
}


def spoil(rng: np.random.Generator, table: str, rows: Rows, spare: int = 0) -> tuple[dict[str, Texts], dict[str, int]]:
    """Return the rows with missing values and defects, and the number of defective rows per rule.

    The first `spare` rows stay as they are. A repeated row follows its original at once. The declared rates are never
    exceeded: a share of a row is no row.
    """
    spoiled = dict(rows)
    count = len(next(iter(spoiled.values())))
    spared = np.arange(count) < spare
    for column, permille in MISSING[table].items():
        is_missing = (rng.random(count) * 1000 < permille) & ~spared
        spoiled[column] = np.where(is_missing, "", spoiled[column])
    lot = np.where(spared, np.inf, (rng.permutation(count) + 1) * 1000 / max(count, 1))
    counts: dict[str, int] = {}
    repeats = np.ones(count, dtype=np.int64)
    floor = 0.0
    for defect in DEFECTS[table]:
        is_hit = (lot > floor) & (lot <= floor + defect.permille)
        floor += defect.permille
        counts[defect.rule] = int(is_hit.sum())
        values = spoiled[defect.column]
        if defect.rule == DUPLICATE:
            repeats += is_hit
        elif defect.value is None:
            spoiled[defect.column] = np.where(is_hit, with_wrong_check(values), values)
        else:
            spoiled[defect.column] = np.where(is_hit, defect.value, values)
    return take(spoiled, np.repeat(np.arange(count), repeats)), counts
