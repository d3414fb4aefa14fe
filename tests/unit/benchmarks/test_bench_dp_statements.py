"""The error measure and the shape of an answer."""

from __future__ import annotations

import pytest

from benchmarks.dp.statements import answer_of, relative_error


def test_the_error_is_the_median_over_the_keys() -> None:
    exact = {"a": 100.0, "b": 10.0, "c": -4.0}
    assert relative_error({"a": 101.0, "b": 12.0, "c": -6.0}, exact) == pytest.approx(0.2)
    assert relative_error(exact, exact) == 0


def test_a_key_without_an_answer_counts_as_zero() -> None:
    assert relative_error({}, {"a": 100.0, "b": 10.0}) == 1
    assert relative_error({"a": 100.0}, {"a": 100.0, "b": 10.0, "c": 1.0}) == 1


def test_a_key_that_does_not_exist_is_not_looked_at() -> None:
    assert relative_error({"a": 100.0, "x": 5.0}, {"a": 100.0}) == 0


def test_an_answer_has_one_dictionary_per_column() -> None:
    assert answer_of("q2", [("g00", 5, 2.5), ("g01", None, 1)]) == {
        "sum": {"g00": 5.0},
        "mean": {"g00": 2.5, "g01": 1.0},
    }


def test_an_answer_with_other_columns_is_none() -> None:
    with pytest.raises(ValueError, match="zip"):
        answer_of("q2", [("g00", 5)])
