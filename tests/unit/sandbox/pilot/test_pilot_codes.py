"""Codes are valid, distinct and of a place never issued."""

from __future__ import annotations

import re
from importlib.resources import files

import numpy as np
import pytest
from stdnum import numdb
from stdnum.cn import ric, uscc

from sandbox.pilot.codes import (
    CITY,
    CREDIT_ALPHABET,
    DISTRICTS,
    MAX_SERIAL,
    credit_codes,
    resident_ids,
    with_wrong_check,
)
from tests.support.pilot import has_valid_check


def issued_provinces() -> set[str]:
    table = files("stdnum").joinpath("cn/loc.dat").read_text(encoding="utf-8")
    return set(re.findall(r"^(\d{2}) ", table, flags=re.MULTILINE))


def test_the_place_table_is_the_real_one() -> None:
    assert {"11", "31", "44", "65", "71", "81", "82"} <= issued_provinces()
    assert numdb.get("cn/loc").info("110101")[0][1]["province"] == "北京市"


def test_no_entry_of_the_place_table_begins_like_the_city() -> None:
    assert CITY[:2] not in issued_provinces()


@pytest.mark.parametrize("district", [f"{CITY}00", *DISTRICTS])
def test_a_lookup_of_a_district_finds_nothing(district: str) -> None:
    assert not any(properties for _, properties in numdb.get("cn/loc").info(district))


def test_a_foreigners_number_is_not_hit() -> None:
    assert CITY[0] != "9"


def test_known_numbers() -> None:
    # The samples of GB 11643-1999, one with the digit X.
    births = np.array(["1949-12-31", "1880-01-01"], dtype="datetime64[D]")
    assert resident_ids(np.array([110105, 440524]), births, np.array([2, 1])).tolist() == [
        "11010519491231002X",
        "440524188001010014",
    ]


def test_stdnum_agrees_except_for_the_place() -> None:
    births = np.array(["2000-02-29", "1957-11-03"], dtype="datetime64[D]")
    for number in resident_ids(np.array([590101, 590108]), births, np.array([7, 998])).tolist():
        assert has_valid_check(number)
        assert not ric.is_valid(number)


def test_a_number_shows_birth_and_sex() -> None:
    (number,) = resident_ids(
        np.array([590103]), np.array(["2001-03-04"], dtype="datetime64[D]"), np.array([21])
    ).tolist()
    assert number[:17] == "59010320010304021"
    assert ric.get_birth_date(number).isoformat() == "2001-03-04"


@pytest.mark.parametrize("serial", [0, 1, MAX_SERIAL - 1, 123_456])
def test_credit_codes_pass_stdnum(serial: int) -> None:
    (code,) = credit_codes(91, np.array([590102]), np.array([serial])).tolist()
    assert uscc.is_valid(code)
    assert code.startswith("91590102MA")
    assert set(code) <= set(CREDIT_ALPHABET)


def test_the_organisation_part_has_its_own_check_character() -> None:
    # GB 11714: the tenth remainder is written X, the eleventh 0.
    codes = credit_codes(91, np.full(2000, 590101), np.arange(2000)).tolist()
    weights = (3, 7, 9, 10, 5, 8, 4, 2)
    for code in codes:
        rest = sum(int(letter, 36) * weight for letter, weight in zip(code[8:16], weights, strict=True))
        assert code[16] == "0123456789X0"[11 - rest % 11]
    assert {code[16] for code in codes} == set("0123456789X")


def test_no_codes_from_nothing() -> None:
    none = np.array([], dtype=np.int64)
    assert resident_ids(none, none.astype("datetime64[D]"), none).tolist() == []
    assert credit_codes(91, none, none).tolist() == []


def test_wrong_checks_are_wrong_for_every_last_character() -> None:
    births = np.full(400, np.datetime64("1990-05-05"))
    ids = resident_ids(np.full(400, 590101), births, np.arange(400))
    assert {number[-1] for number in ids.tolist()} == set("0123456789X")
    assert not any(has_valid_check(number) for number in with_wrong_check(ids).tolist())
    codes = credit_codes(91, np.full(2000, 590101), np.arange(2000))
    assert {code[-1] for code in codes.tolist()} == set(CREDIT_ALPHABET)
    assert not any(uscc.is_valid(code) for code in with_wrong_check(codes).tolist())


def test_spoiling_leaves_its_input_alone() -> None:
    codes = credit_codes(91, np.array([590101]), np.array([5]))
    before = codes.tolist()
    with_wrong_check(codes)
    assert codes.tolist() == before
