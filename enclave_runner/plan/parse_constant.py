"""Numbers, dates and names as an operator writes them: what passes, and in which one form it stands in the plan."""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal

from enclave_runner.contract.errors import Refused

MAX_DIGITS = 40
MAX_NAME = 128
NUMBER = re.compile(r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
ISO_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
LOWER = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")


def number(text: str, position: int) -> str:
    """The number without an exponent, at most 40 digits: `1e-6` → `0.000001`; what has no exponent stays as written.

    Raises:
        Refused: `sql.number` for any other text, and for a number that needs more digits.
    """
    if not NUMBER.fullmatch(text):
        raise Refused("sql.number", max=MAX_DIGITS, position=position)
    plain = f"{Decimal(text):f}" if "e" in text.lower() else text
    if sum(letter.isdigit() for letter in plain) > MAX_DIGITS:
        raise Refused("sql.number", max=MAX_DIGITS, position=position)
    return plain.removesuffix(".")


def whole(text: str, position: int, low: int, high: int) -> int:
    """A whole number of decimal digits from `low` to `high`; anything else is Refused by `sql.whole`."""
    if not re.fullmatch(r"[0-9]{1,10}", text) or not low <= int(text) <= high:
        raise Refused("sql.whole", low=low, high=high, position=position)
    return int(text)


def iso_date(text: str, position: int) -> str:
    """A day of the calendar, written YYYY-MM-DD; anything else is Refused by `sql.date`."""
    try:
        if not ISO_DATE.fullmatch(text):
            raise ValueError
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise Refused("sql.date", position=position) from None


def fraction(text: str, position: int) -> Decimal:
    """A quantile's fraction, 0 to 1; anything else is Refused by `sql.fraction`."""
    value = Decimal(number(text, position))
    if not 0 <= value <= 1:
        raise Refused("sql.fraction", position=position)
    return value


def output_name(text: str, position: int) -> str:
    """A name that can stand above a column of the result: printable and at most 128 characters, else
    `sql.output-name`."""
    if not text or len(text) > MAX_NAME or not text.isprintable():
        raise Refused("sql.output-name", name=text, position=position)
    return text


def folded(name: str) -> str:
    """The name by which two names are the same: the engine's own rule folds ASCII letters alone."""
    return name.translate(LOWER)
