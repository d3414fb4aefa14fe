"""Key checks in SQL against python-stdnum, on random codes and on every one-character slip."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stdnum.cn import ric, uscc

from enclave_runner.contract.dataset import ColumnType, DatasetSpec, KeyKind
from enclave_runner.kinds.checks import CREDIT_ALPHABET, row_checks
from tests.support.enclave_home import column

TEXTS = st.text(alphabet="0123456789XxABIOSVZ-１ \n'", max_size=19)


def spec_of(kind: KeyKind) -> DatasetSpec:
    return DatasetSpec(
        dataset_id="keys",
        columns=(column("key", ColumnType.TEXT),),
        entity_set="resident",
        entity_column="key",
        key_kind=kind,
        population_cap=10,
        rows_per_entity=1,
    )


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        yield opened


def broken_keys(connection: duckdb.DuckDBPyConnection, kind: KeyKind, keys: list[str]) -> list[bool]:
    connection.execute("CREATE OR REPLACE TABLE keys (n INTEGER, key VARCHAR)")
    connection.executemany("INSERT INTO keys VALUES (?, ?)", [[n, key] for n, key in enumerate(keys)])
    marks = connection.execute(f"SELECT {row_checks(spec_of(kind))} FROM keys ORDER BY n").fetchall()
    assert {mark for (mark,) in marks} <= {None, "key:row.key"}
    return [mark is not None for (mark,) in marks]


def is_resident_id(text: str) -> bool:
    """stdnum's check digit and birth date; its list of places is left aside, as the enclave leaves it."""
    if len(text) != 18 or not (text[:17].isascii() and text[:17].isdigit()) or text[17] not in "0123456789X":
        return False
    try:
        date(int(text[6:10]), int(text[10:12]), int(text[12:14]))
    except ValueError:
        return False
    return ric.calc_check_digit(text) == text[17]


def is_credit_code(text: str) -> bool:
    """stdnum, without its stripping of spaces and its upper-casing: a stored key is exactly the code."""
    if len(text) != 18 or any(character not in CREDIT_ALPHABET for character in text):
        return False
    return uscc.calc_check_digit(text[:17]) == text[17]


@given(
    st.lists(
        st.builds(
            lambda place, day, number: f"{place:06d}{day:%Y%m%d}{number:03d}",
            st.integers(0, 999_999),
            st.dates(date(1000, 1, 1), date(2100, 1, 1)),
            st.integers(0, 999),
        ),
        min_size=1,
        max_size=20,
    )
)
@settings(max_examples=30, deadline=None)
def test_resident_ids_with_the_right_check_pass_and_with_any_other_fail(bodies: list[str]) -> None:
    with duckdb.connect() as connection:
        keys = [body + check for body in bodies for check in "0123456789X"]
        expected = [not is_resident_id(key) for key in keys]
        assert sum(not broken for broken in expected) == len(bodies)
        assert broken_keys(connection, KeyKind.RESIDENT_ID, keys) == expected


@given(st.lists(st.text(alphabet=CREDIT_ALPHABET, min_size=17, max_size=17), min_size=1, max_size=10))
@settings(max_examples=30, deadline=None)
def test_credit_codes_with_the_right_check_pass_and_with_any_other_fail(bodies: list[str]) -> None:
    with duckdb.connect() as connection:
        keys = [body + check for body in bodies for check in CREDIT_ALPHABET]
        expected = [not is_credit_code(key) for key in keys]
        assert sum(not broken for broken in expected) == len(bodies)
        assert broken_keys(connection, KeyKind.CREDIT_CODE, keys) == expected


@given(st.lists(TEXTS, min_size=1, max_size=50))
@settings(max_examples=50, deadline=None)
def test_any_text_is_judged_and_never_raises(keys: list[str]) -> None:
    keys = [key.replace("\0", "") for key in keys]
    with duckdb.connect() as connection:
        assert broken_keys(connection, KeyKind.RESIDENT_ID, keys) == [not is_resident_id(key) for key in keys]
        assert broken_keys(connection, KeyKind.CREDIT_CODE, keys) == [not is_credit_code(key) for key in keys]
        assert broken_keys(connection, KeyKind.OPAQUE, keys) == [not is_opaque_key(key) for key in keys]


def is_opaque_key(key: str) -> bool:
    """1 to 64 printable ASCII characters without blanks, so that one person has one spelling."""
    return 1 <= len(key) <= 64 and all("!" <= character <= "~" for character in key)


def test_an_opaque_key_has_one_spelling(connection: duckdb.DuckDBPyConnection) -> None:
    good = ["1", "p-1", "!", "~", "'--", "x" * 64]
    bad = ["", " ", "p 1", " p1", "p1 ", "p\t1", "p1\n", "x" * 65, "ｐ1", "p\u00a01", "p1\u200b", "é", "\x7f"]
    assert broken_keys(connection, KeyKind.OPAQUE, good + bad) == [False] * len(good) + [True] * len(bad)


def test_birth_dates_that_never_were(connection: duckdb.DuckDBPyConnection) -> None:
    days = ["20230229", "20240229", "20231301", "20230431", "19000229", "20000229"]
    bodies = [f"990001{day}001" for day in days]
    keys = [body + ric.calc_check_digit(body + "0") for body in bodies]
    assert broken_keys(connection, KeyKind.RESIDENT_ID, keys) == [True, False, True, True, True, False]


def test_every_one_character_slip_of_a_resident_id_is_caught(connection: duckdb.DuckDBPyConnection) -> None:
    body = f"990001{date(1990, 3, 7) + timedelta(days=1):%Y%m%d}123"
    key = body + ric.calc_check_digit(body + "0")
    slips = [key[:at] + other + key[at + 1 :] for at in range(17) for other in "0123456789" if other != key[at]]
    assert broken_keys(connection, KeyKind.RESIDENT_ID, [key, *slips]) == [False, *[True] * len(slips)]


def test_a_missing_key_is_missing_and_a_generated_one_is_not_checked(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("CREATE OR REPLACE TABLE keys (key VARCHAR)")
    connection.execute("INSERT INTO keys VALUES (NULL)")
    checks = row_checks(spec_of(KeyKind.OPAQUE))
    assert connection.execute(f"SELECT {checks} FROM keys").fetchall() == [("key:row.missing",)]


def test_a_domain_and_a_bound_with_quotes_and_signs_are_escaped(connection: duckdb.DuckDBPyConnection) -> None:
    spec = DatasetSpec(
        dataset_id="odd",
        columns=(
            column("note", ColumnType.TEXT, domain=("it's", '"x"', "a;--"), nullable=True),
            column("n", ColumnType.INTEGER, bounds=(-5, -2), nullable=True),
        ),
        entity_set="resident",
        entity_column="row_id",
        key_kind=KeyKind.ROW,
        population_cap=10,
        unique=True,
        rows_per_entity=1,
    )
    values = "('it''s', '-5'), ('\"x\"', '-2'), ('a;--', NULL), ('its', '-3'), (NULL, '-1'), (NULL, '-6')"
    marks = connection.execute(f"SELECT {row_checks(spec)} FROM (VALUES {values}) AS t(note, n)").fetchall()
    assert [mark for (mark,) in marks] == [None, None, None, "note:row.domain", "n:row.bounds", "n:row.bounds"]
