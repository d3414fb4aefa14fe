"""The example parties."""

from __future__ import annotations

from collections import Counter

from stdnum.cn import uscc

from sandbox.domain.party import Role
from sandbox.pilot.codes import CITY
from sandbox.pilot.parties import city_parties


def test_one_bureau_two_operators_two_businesses() -> None:
    assert Counter(party.role for party in city_parties()) == {
        Role.BUREAU: 1,
        Role.DEPARTMENT: 7,
        Role.OPERATOR: 2,
        Role.BUSINESS: 2,
    }
    assert city_parties()[0].role is Role.BUREAU


def test_ids_and_codes_are_distinct_and_valid() -> None:
    parties = city_parties()
    assert len({party.party_id for party in parties}) == len({party.credit_code for party in parties}) == len(parties)
    assert all(uscc.is_valid(party.credit_code) for party in parties)


def test_codes_say_who_registered_them_and_where() -> None:
    for party in city_parties():
        authority = "11" if party.role in (Role.BUREAU, Role.DEPARTMENT) else "91"
        assert party.credit_code.startswith(f"{authority}{CITY}00")
