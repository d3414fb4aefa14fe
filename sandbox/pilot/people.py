"""Households, residents and what hangs on them: social insurance, water and power."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from sandbox.pilot.codes import DISTRICTS, Days, Integers, Texts, resident_ids
from sandbox.pilot.columns import Mask, Rows, boolean, day, fixed, pick, skewed, whole, within
from sandbox.pilot.companies import Companies

AS_OF: Final = np.datetime64("2025-12-31", "D")
MONTHS: Final = np.arange("2025-01", "2026-01", dtype="datetime64[M]")
MAX_AGE: Final = 104

DISTRICT_WEIGHTS: Final = dict(zip(DISTRICTS, (24.0, 19.0, 16.0, 13.0, 11.0, 8.0, 6.0, 3.0), strict=True))
MEMBER_WEIGHTS: Final = {"1": 25.0, "2": 29.0, "3": 22.0, "4": 13.0, "5": 7.0, "6": 3.0, "7": 0.8, "8": 0.2}
DWELLING_WEIGHTS: Final = {"apartment": 71.0, "detached": 14.0, "shared": 9.0, "dormitory": 4.0, "other": 2.0}
TENURE_WEIGHTS: Final = {"owned": 69.0, "rented": 22.0, "public-rental": 6.0, "other": 3.0}
# Ages from the key on, up to the next key.
AGE_WEIGHTS: Final = {"0": 17.0, "15": 11.0, "25": 17.0, "35": 22.0, "50": 20.0, "65": 10.5, "80": 2.5}
EDUCATION_WEIGHTS: Final = {
    "none": 3.0,
    "primary": 14.0,
    "junior": 30.0,
    "senior": 18.0,
    "vocational": 8.0,
    "college": 13.0,
    "bachelor": 12.0,
    "master": 1.7,
    "doctor": 0.3,
}
SCHOOLING_YEARS: Final = (0, 6, 9, 12, 12, 15, 16, 19, 22)
MARITAL_WEIGHTS: Final = {"never-married": 22.0, "married": 67.0, "divorced": 5.0, "widowed": 6.0}
WORK_WEIGHTS: Final = {"employed": 66.0, "self-employed": 12.0, "unemployed": 5.0, "not-in-labour-force": 17.0}
DISABILITY_WEIGHTS: Final = {"none": 93.7, "level-1": 0.9, "level-2": 1.5, "level-3": 1.9, "level-4": 2.0}

# The floor and the ceiling of the payment base, in fen: many people stand on the floor.
BASE_FLOOR_FEN: Final = 425_000
BASE_CEILING_FEN: Final = 2_480_000
_POWER_SEASON = np.array([1.25, 1.15, 0.9, 0.8, 0.85, 1.05, 1.5, 1.6, 1.2, 0.85, 0.85, 1.1])


@dataclass
class Register:
    """Which ID numbers were given out: the next free order number by district, day of birth and sex.

    Its size does not depend on the size of the city.
    """

    _used: Integers = field(
        default_factory=lambda: np.zeros(len(DISTRICTS) * 2 * ((MAX_AGE + 2) * 366), dtype=np.int64), repr=False
    )

    def assign(self, districts: Texts, births: Days, is_male: Mask) -> Texts:
        """Distinct ID numbers, also distinct from every earlier one."""
        places = districts.astype(np.int64)
        age_days = (AS_OF - births).astype(np.int64)
        keys = ((places % 100 - 1) * 2 + is_male) * ((MAX_AGE + 2) * 366) + age_days
        order = np.argsort(keys, kind="stable")
        _, counts = np.unique(keys, return_counts=True)
        ranks = np.empty(len(keys), dtype=np.int64)
        ranks[order] = within(counts)
        numbers = self._used[keys] + ranks
        np.add.at(self._used, keys, 1)
        if len(numbers) and numbers.max() > 499:
            raise OverflowError("more births on one day in one district than order numbers")
        return resident_ids(places, births, numbers * 2 + is_male)


@dataclass(frozen=True)
class People:
    """One chunk of households with all their rows, still without defects."""

    households: Rows
    residents: Rows
    social_insurance: Rows
    utility_use: Rows
    is_insured: Mask
    is_head: Mask

    def first_heads(self) -> tuple[int, int]:
        """Positions among the residents of the first insured and the first uninsured head of a household."""
        insured = np.flatnonzero(self.is_head & self.is_insured)
        uninsured = np.flatnonzero(self.is_head & ~self.is_insured)
        return int(insured[0]), int(uninsured[0])


def settle(
    rng: np.random.Generator, register: Register, companies: Companies, first: int, limit: int, count: int
) -> People:
    """Households `first`, `first` + 1, …: `count` of them, or fewer when `limit` residents are reached."""
    members = pick(rng, MEMBER_WEIGHTS, count).astype(np.int64)
    filled = np.minimum(np.cumsum(members), limit)
    members = np.diff(filled, prepend=0)
    members = members[members > 0]
    count = len(members)
    ids = np.array([f"H{number:09d}" for number in range(first, first + count)], dtype=np.str_)
    districts = pick(rng, DISTRICT_WEIGHTS, count)
    households = {
        "household_id": ids,
        "district": districts,
        "members": whole(members),
        "dwelling": pick(rng, DWELLING_WEIGHTS, count),
        "tenure": pick(rng, TENURE_WEIGHTS, count),
        "floor_area_m2": fixed(skewed(rng, 880, 0.45, count, 80, 9000), 1),
        "minimum_allowance": boolean(rng.random(count) < 0.031),
    }
    places = within(members)
    residents, is_insured = _residents(rng, register, np.repeat(ids, members), np.repeat(districts, members), places)
    return People(
        households=households,
        residents=residents,
        social_insurance=_payments(rng, companies, residents["resident_id"][is_insured]),
        utility_use=_meters(rng, ids, members),
        is_insured=is_insured,
        is_head=places == 0,
    )


def _residents(
    rng: np.random.Generator, register: Register, household_ids: Texts, districts: Texts, places: Integers
) -> tuple[dict[str, Texts], Mask]:
    count = len(household_ids)
    ages = _ages(rng, count)
    # The first member of a household is grown up.
    ages = np.where((places == 0) & (ages < 20), ages % 20 + 25, ages)
    births = AS_OF - (ages * 365.2425 + rng.random(count) * 365).astype("timedelta64[D]")
    is_male = rng.random(count) < 0.512
    level = _education(rng, ages)
    is_student = (ages >= 6) & ((ages < 18) | (ages < 22) & (rng.random(count) < 0.6))
    work = np.select(
        [ages < 6, is_student, ages >= 60],
        ["not-in-labour-force", "student", "retired"],
        pick(rng, WORK_WEIGHTS, count),
    )
    insured_rate = np.select(
        [work == "employed", work == "self-employed", work == "unemployed"], [0.88, 0.45, 0.12], 0.0
    )
    is_insured = (rng.random(count) < insured_rate) & (ages >= 18)
    rows = {
        "resident_id": register.assign(districts, births, is_male),
        "household_id": household_ids,
        "sex": np.where(is_male, "male", "female"),
        "birth_date": day(births),
        "district": districts,
        "education": np.array(list(EDUCATION_WEIGHTS))[level],
        "schooling_years": whole(np.array(SCHOOLING_YEARS)[level]),
        "marital_status": np.where(ages < 20, "never-married", pick(rng, MARITAL_WEIGHTS, count)),
        "employment_status": work,
        "has_social_insurance": boolean(is_insured),
        "disability": pick(rng, DISABILITY_WEIGHTS, count),
    }
    return rows, is_insured


def _ages(rng: np.random.Generator, count: int) -> Integers:
    starts = [int(age) for age in AGE_WEIGHTS]
    ends = dict(zip(starts, [*starts[1:], MAX_AGE + 1], strict=True))
    low = pick(rng, AGE_WEIGHTS, count).astype(np.int64)
    high = np.array([ends.get(age, age) for age in range(MAX_AGE + 1)])[low]
    return low + ((high - low) * rng.random(count)).astype(np.int64)


def _education(rng: np.random.Generator, ages: Integers) -> Integers:
    """Levels that fit the age: nobody under 22 has a degree, nobody under 7 finished a school."""
    position = {name: place for place, name in enumerate(EDUCATION_WEIGHTS)}
    drawn = np.vectorize(position.__getitem__, otypes=[np.int64])(pick(rng, EDUCATION_WEIGHTS, len(ages)))
    ceiling = np.select(
        [ages < 7, ages < 13, ages < 16, ages < 19, ages < 22, ages < 25, ages < 28], [0, 1, 2, 3, 5, 6, 7], 8
    )
    levels: Integers = np.minimum(drawn, ceiling)
    return levels


def _payments(rng: np.random.Generator, companies: Companies, resident_ids: Texts) -> dict[str, Texts]:
    """Monthly payments: most people paid all twelve months, the others the last few."""
    people = len(resident_ids)
    months = np.where(rng.random(people) < 0.72, 12, rng.integers(1, 12, people))
    rows = int(months.sum())
    base = skewed(rng, 610_000, 0.55, people, BASE_FLOOR_FEN, BASE_CEILING_FEN)
    paid = np.repeat(base, months)
    start = np.repeat(12 - months, months)
    arrears = np.where(rng.random(rows) < 0.06, rng.geometric(0.04, rows), 0)
    return {
        "resident_id": np.repeat(resident_ids, months),
        "month": day(MONTHS[start + within(months)]),
        "employer_id": np.repeat(companies.employers(rng, people), months),
        "payment_base": fixed(paid, 2),
        "personal_payment": fixed(paid * 8 // 100, 2),
        "employer_payment": fixed(paid * 16 // 100, 2),
        "arrears_days": whole(np.minimum(arrears, 365)),
        "work_injury": boolean(rng.random(rows) < 0.0008),
    }


def _meters(rng: np.random.Generator, household_ids: Texts, members: Integers) -> dict[str, Texts]:
    """Monthly water and power of every household; a few dwellings stand empty."""
    count = len(household_ids)
    scale = np.sqrt(members) * np.exp(rng.normal(0, 0.4, count)) * (rng.random(count) >= 0.05)
    season = np.tile(_POWER_SEASON, count)
    noise = np.exp(rng.normal(0, 0.25, count * 12))
    water = np.clip(np.repeat(scale, 12) * noise * 620, 0, 50_000).astype(np.int64)
    power = np.clip(np.repeat(scale, 12) * season * noise[::-1] * 12_500, 0, 900_000).astype(np.int64)
    return {
        "household_id": np.repeat(household_ids, 12),
        "month": day(np.tile(MONTHS, count)),
        "water_m3": fixed(water, 2),
        "power_kwh": fixed(power, 2),
        "water_fen": whole(water * 305 // 100),
        "power_fen": whole(power * 5_380 // 10_000),
        "is_overdue": boolean(rng.random(count * 12) < 0.035),
    }
