"""Whatever the input, codes keep their form and their check characters."""

from __future__ import annotations

from datetime import date

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from stdnum.cn import ric, uscc

from sandbox.pilot.codes import DISTRICTS, MAX_SERIAL, credit_codes, resident_ids, with_wrong_check
from tests.support.pilot import has_valid_check

PLACES = st.sampled_from([int(code) for code in DISTRICTS])


@given(PLACES, st.dates(date(1900, 1, 1), date(2099, 12, 31)), st.integers(0, 999))
def test_resident_ids_round_trip(place: int, birth: date, order: int) -> None:
    numbers = resident_ids(np.array([place]), np.array([birth], dtype="datetime64[D]"), np.array([order]))
    (number,) = numbers.tolist()
    assert has_valid_check(number)
    assert (number[:6], ric.get_birth_date(number), int(number[14:17])) == (str(place), birth, order)
    assert not has_valid_check(with_wrong_check(numbers).tolist()[0])


@given(
    st.sampled_from([11, 91]), PLACES, st.lists(st.integers(0, MAX_SERIAL - 1), unique=True, min_size=1, max_size=30)
)
def test_credit_codes_are_valid_and_distinct(authority: int, place: int, serials: list[int]) -> None:
    codes = credit_codes(authority, np.full(len(serials), place), np.array(serials))
    assert all(uscc.is_valid(code) for code in codes.tolist())
    assert len(set(codes.tolist())) == len(serials)
    assert not any(uscc.is_valid(code) for code in with_wrong_check(codes).tolist())
