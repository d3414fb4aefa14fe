"""Residents: distinct numbers, whole households, ages that fit what is said of them."""

from __future__ import annotations

import numpy as np
import pytest

from sandbox.pilot.companies import Companies
from sandbox.pilot.people import AS_OF, People, Register, settle


@pytest.fixture(scope="module")
def people() -> People:
    return settle(np.random.default_rng(4), Register(), Companies(100, 4, staff=800), 0, 10_000, 2000)


def test_a_register_never_gives_a_number_twice() -> None:
    register = Register()
    districts, births = np.full(300, "590101"), np.full(300, np.datetime64("1990-01-01"))
    given = [
        *register.assign(districts, births, np.arange(300) % 2 == 0),
        *register.assign(districts, births, np.arange(300) % 2 == 0),
    ]
    assert len(set(given)) == 600


def test_a_register_says_when_a_day_is_full() -> None:
    births = np.full(501, np.datetime64("1990-01-01"))
    with pytest.raises(OverflowError, match="order numbers"):
        Register().assign(np.full(501, "590101"), births, np.full(501, True))


def test_the_number_tells_sex_birth_and_district(people: People) -> None:
    rows = people.residents
    for number, sex, birth, district in zip(
        *(rows[name].tolist() for name in ("resident_id", "sex", "birth_date", "district")), strict=True
    ):
        assert (number[:6], number[6:14]) == (district, birth.replace("-", ""))
        assert (int(number[16]) % 2 == 1) == (sex == "male")


def test_the_last_household_is_cut_at_the_limit() -> None:
    cut = settle(np.random.default_rng(4), Register(), Companies(100, 4, staff=800), 7, 101, 2000)
    assert len(cut.residents["resident_id"]) == 101
    assert cut.households["members"].astype(np.int64).sum() == 101
    assert cut.households["household_id"].tolist()[0] == "H000000007"


def test_members_are_the_residents_of_the_household(people: People) -> None:
    found = np.unique(people.residents["household_id"], return_counts=True)
    assert np.array_equal(found[0], people.households["household_id"])
    assert np.array_equal(found[1], people.households["members"].astype(np.int64))


def test_children_neither_work_nor_marry_nor_have_degrees(people: People) -> None:
    rows = people.residents
    ages = (AS_OF - rows["birth_date"].astype("datetime64[D]")).astype(np.int64) / 365.2425
    children = ages < 16
    assert set(rows["employment_status"][children].tolist()) == {"student", "not-in-labour-force"}
    assert set(rows["marital_status"][children].tolist()) == {"never-married"}
    assert not set(rows["education"][children].tolist()) & {"college", "bachelor", "master", "doctor"}
    assert ages.min() >= 0
    assert ages[people.is_head].min() > 18


def test_who_is_insured_has_payments_and_nobody_else(people: People) -> None:
    rows = people.residents
    insured = rows["resident_id"][rows["has_social_insurance"] == "true"]
    assert set(people.social_insurance["resident_id"].tolist()) == set(insured.tolist())
    first, second = people.first_heads()
    assert rows["has_social_insurance"][[first, second]].tolist() == ["true", "false"]


def test_months_are_consecutive_and_end_in_december(people: People) -> None:
    months: dict[str, list[str]] = {}
    for number, month in zip(
        people.social_insurance["resident_id"].tolist(), people.social_insurance["month"].tolist(), strict=True
    ):
        months.setdefault(number, []).append(month)
    year = [f"2025-{month:02d}-01" for month in range(1, 13)]
    assert all(paid == year[-len(paid) :] for paid in months.values())
    assert {len(paid) for paid in months.values()} == set(range(1, 13))


def test_the_payment_floor_is_crowded(people: People) -> None:
    bases = people.social_insurance["payment_base"].astype(np.float64)
    assert (bases == bases.min()).mean() > 0.15
    assert bases.max() > 2.5 * np.median(bases)
