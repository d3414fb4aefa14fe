"""Yes, no, no record: every predicate on every type, and values at their edges."""

from __future__ import annotations

from datetime import date

import pytest

from enclave_runner.contract.dataset import ColumnType
from enclave_runner.contract.job import Answer, Predicate
from enclave_runner.kinds import lookup
from enclave_runner.kinds.tasks import Lookup
from enclave_runner.plan.claim import typed_claim
from tests.support.enclave_home import column
from tests.support.worker_files import stored

COLUMNS = {
    "text": column("x", ColumnType.TEXT),
    "integer": column("x", ColumnType.INTEGER),
    "decimal": column("x", ColumnType.DECIMAL, scale=2),
    "boolean": column("x", ColumnType.BOOLEAN),
    "date": column("x", ColumnType.DATE),
}


def ask(kind: str, cells: list[object], predicate: Predicate, claim: str | None = None) -> Answer:
    typed = typed_claim(claim, COLUMNS[kind]) if claim is not None else None
    with stored([COLUMNS[kind]], [(cell,) for cell in cells]) as file:
        return lookup.run(Lookup(attribute="x", predicate=predicate, claim=typed), [file]).answer


@pytest.mark.parametrize(
    ("kind", "cell", "equal", "other"),
    [
        ("text", "it's", "it's", "its"),
        ("text", "张三", "张三", "张三 "),
        ("integer", -5, "-5", "5"),
        ("decimal", 1250, "12.5", "12.51"),
        ("boolean", True, "true", "false"),
        ("boolean", False, "false", "true"),
        ("date", date(2020, 2, 29), "2020-02-29", "2020-02-28"),
    ],
)
def test_equals(kind: str, cell: object, equal: str, other: str) -> None:
    assert ask(kind, [cell], Predicate.EQUALS, equal) is Answer.YES
    assert ask(kind, [cell], Predicate.EQUALS, other) is Answer.NO


@pytest.mark.parametrize(
    ("kind", "cell", "at", "above"),
    [
        ("integer", 18, "18", "19"),
        ("integer", -5, "-5", "-4"),
        ("decimal", 1250, "12.50", "12.51"),
        ("date", date(2020, 2, 29), "2020-02-29", "2020-03-01"),
    ],
)
def test_at_least_includes_its_bound(kind: str, cell: object, at: str, above: str) -> None:
    assert ask(kind, [cell], Predicate.AT_LEAST, at) is Answer.YES
    assert ask(kind, [cell], Predicate.AT_LEAST, above) is Answer.NO


def test_one_fitting_row_of_several_is_enough() -> None:
    assert ask("integer", [1, 20, None], Predicate.AT_LEAST, "18") is Answer.YES
    assert ask("integer", [1, 2, None], Predicate.AT_LEAST, "18") is Answer.NO


def test_exists_means_a_value_and_no_row_means_no_record() -> None:
    assert ask("text", ["x"], Predicate.EXISTS) is Answer.YES
    assert ask("text", [None], Predicate.EXISTS) is Answer.NO
    for predicate in Predicate:
        claim = None if predicate is Predicate.EXISTS else "5"
        assert ask("integer", [], predicate, claim) is Answer.NO_RECORD


def test_a_missing_value_never_fits() -> None:
    assert ask("integer", [None], Predicate.EQUALS, "0") is Answer.NO
    assert ask("integer", [None], Predicate.AT_LEAST, "0") is Answer.NO
