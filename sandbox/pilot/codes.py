"""Identity codes of people and organisations that do not exist.

Check characters are valid (GB 11643-1999, GB 11714-1997, GB 32100-2015). The province number 59 stands in no edition of
GB/T 2260, so that no real resident and no real organisation can carry one of these codes. Numbers beginning with 9
would not do: residence cards of foreigners use them.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Texts = NDArray[np.str_]
Days = NDArray[np.datetime64]

CITY: Final = "5901"
DISTRICTS: Final = tuple(f"{CITY}{number:02d}" for number in range(1, 9))
CREDIT_ALPHABET: Final = "0123456789ABCDEFGHJKLMNPQRTUWXY"
MAX_SERIAL: Final = 31**6

_RESIDENT_WEIGHTS = np.array([2 ** (17 - place) % 11 for place in range(17)])
_RESIDENT_CHECK = np.frombuffer(b"10X98765432", np.uint8)
_CREDIT_WEIGHTS = np.array([3**place % 31 for place in range(17)])
_CREDIT_BYTES = np.frombuffer(CREDIT_ALPHABET.encode(), np.uint8)
_ORGANISATION_WEIGHTS = np.array([3, 7, 9, 10, 5, 8, 4, 2])
# The character values of GB 11714 (0-9, A-Z in full), by index in the shorter alphabet of GB 32100.
_ORGANISATION_VALUES = np.array([int(letter, 36) for letter in CREDIT_ALPHABET])
_ORGANISATION_CHECK = np.array([CREDIT_ALPHABET.index(letter) for letter in "0123456789X"])
# New organisations are numbered from "MA".
_MA = [CREDIT_ALPHABET.index(letter) for letter in "MA"]


def resident_ids(places: Integers, births: Days, orders: Integers) -> Texts:
    """ID numbers with a valid check digit; `orders` are 0 to 999, odd for men."""
    months = births.astype("datetime64[M]")
    year = births.astype("datetime64[Y]").astype(np.int64) + 1970
    month = months.astype(np.int64) % 12 + 1
    day = (births - months).astype(np.int64) + 1
    digits = _digits(places * 10**11 + (year * 10_000 + month * 100 + day) * 1000 + orders, 17, 10)
    check = _RESIDENT_CHECK[digits @ _RESIDENT_WEIGHTS % 11]
    return _texts(np.column_stack([digits + ord("0"), check]))


def credit_codes(authority: int, places: Integers, serials: Integers) -> Texts:
    """Credit codes with valid check characters; `authority` is the first two digits, `serials` are below MAX_SERIAL."""
    head = _digits(authority * 10**6 + places, 8, 10)
    letters = np.full((len(serials), 2), _MA)
    body = np.column_stack([letters, _digits(serials, 6, 31)])
    remainder = _ORGANISATION_VALUES[body] @ _ORGANISATION_WEIGHTS % 11
    organisation = _ORGANISATION_CHECK[(11 - remainder) % 11]
    code = np.column_stack([head, body, organisation])
    check = (31 - code @ _CREDIT_WEIGHTS % 31) % 31
    return _texts(_CREDIT_BYTES[np.column_stack([code, check])])


def with_wrong_check(codes: Texts) -> Texts:
    """The same codes, each with another and therefore wrong last character."""
    wrong = codes.astype("U18").view(np.uint32).reshape(len(codes), 18)
    last = wrong[:, 17]
    is_digit_below_9 = (last >= ord("0")) & (last < ord("9"))
    wrong[:, 17] = np.where(is_digit_below_9, last + 1, ord("0"))
    return wrong.reshape(-1).view("U18")


def _digits(numbers: Integers, width: int, base: int) -> Integers:
    powers = base ** np.arange(width - 1, -1, -1, dtype=np.int64)
    digits: Integers = numbers[:, None] // powers % base
    return digits


def _texts(characters: NDArray[np.integer]) -> Texts:
    return np.ascontiguousarray(characters, dtype=np.uint32).reshape(-1).view("U18")
