"""Counters that only grow: exact under concurrency, durable with the receipt, alarms over all businesses."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from enclave_runner.contract.errors import Failed
from enclave_runner.supervisor import guesses
from enclave_runner.supervisor.database import Database
from enclave_runner.supervisor.guesses import GUESSES, OverLimitError, Scope, Tallies, Tally, milli_bits, write

SCOPE = Scope(GUESSES, "people", "city", "v1")


def tally(subject: str = "a", caller: str = "caller-1", scope: Scope = SCOPE) -> Tally:
    return Tally(scope, subject.encode(), caller)


@pytest.fixture
def book(tmp_path: Path) -> Iterator[tuple[Database, Tallies]]:
    with closing(Database(tmp_path / "ledger.db")) as database:
        database.create(guesses.SCHEMA)
        with closing(Tallies(tmp_path / "ledger.db")) as tallies:
            yield database, tallies


def commit(database: Database, amounts: dict[Tally, int], sequence: int = 1) -> None:
    with database.transaction() as connection:
        write(connection, [(amounts, sequence)])


@pytest.mark.parametrize(("outcomes", "expected"), [(2, 1000), (3, 1585), (4, 2000), (251, 7972), (1 << 40, 40_000)])
def test_an_answer_tells_the_logarithm_of_the_answers_rounded_up(outcomes: int, expected: int) -> None:
    assert milli_bits(outcomes) == expected


def test_reserving_all_or_nothing(book: tuple[Database, Tallies]) -> None:
    _, tallies = book
    tallies.reserve({tally("a"): 900}, 1000)
    with pytest.raises(OverLimitError) as over:
        tallies.reserve({tally("b"): 500, tally("a"): 101}, 1000)
    assert (over.value.tally, over.value.left) == (tally("a"), 100)
    assert (tallies.total(tally("a")), tallies.total(tally("b"))) == (900, 0)
    tallies.reserve({tally("a"): 100}, 1000)  # exactly up to the limit


def test_what_was_told_to_nobody_is_not_counted(book: tuple[Database, Tallies]) -> None:
    _, tallies = book
    tallies.reserve({tally(): 700}, 1000)
    tallies.release({tally(): 700}, is_durable=False)
    assert tallies.total(tally()) == 0


def test_what_is_durable_counts_after_the_call_and_after_a_restart(
    book: tuple[Database, Tallies], tmp_path: Path
) -> None:
    database, tallies = book
    tallies.reserve({tally(): 700}, 1000)
    commit(database, {tally(): 700})
    assert tallies.total(tally()) == 700  # not twice, while it is both durable and reserved
    tallies.release({tally(): 700}, is_durable=True)
    assert tallies.total(tally()) == 700
    with closing(Tallies(tmp_path / "ledger.db")) as again, pytest.raises(OverLimitError):
        again.reserve({tally(): 301}, 1000)


def test_each_business_subject_attribute_and_version_counts_alone(book: tuple[Database, Tallies]) -> None:
    database, tallies = book
    commit(database, {tally(): 1000})
    others = [
        tally("b"),
        tally(caller="caller-2"),
        tally(scope=SCOPE._replace(attribute="age")),
        tally(scope=SCOPE._replace(version="v2")),
        tally(scope=SCOPE._replace(dataset_id="firms")),
        tally(scope=SCOPE._replace(kind="evaluations")),
    ]
    for other in others:
        tallies.reserve({other: 1000}, 1000)
    with pytest.raises(OverLimitError):
        tallies.reserve({tally(): 1}, 1000)


def test_calls_at_once_never_pass_the_limit_together(book: tuple[Database, Tallies]) -> None:
    """Each thread reserves, commits or gives up, and releases; what is durable in the end is exactly the limit."""
    database, tallies = book
    limit, passed = 40, []

    def call(number: int) -> None:
        for turn in range(20):
            amounts = {tally("x"): 1}
            try:
                tallies.reserve(amounts, limit)
            except OverLimitError:
                continue
            assert tallies.total(tally("x")) <= limit
            is_durable = (number + turn) % 3 != 0
            if is_durable:
                commit(database, amounts)
                passed.append(1)
            tallies.release(amounts, is_durable)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(passed) == limit == tallies.total(tally("x"))


def test_points_are_counted_once_for_good(book: tuple[Database, Tallies]) -> None:
    database, tallies = book
    first = tallies.reserve_up_to(frozenset({tally()}), 9000)
    at_once = tallies.reserve_up_to(frozenset({tally()}), 9000)
    assert (first, at_once) == ({tally(): 9000}, {tally(): 0})
    commit(database, first)
    tallies.release(first, is_durable=True)
    tallies.release(at_once, is_durable=False)
    assert tallies.reserve_up_to(frozenset({tally()}), 9000) == {tally(): 0}


def test_no_counter_can_be_lowered_or_removed(book: tuple[Database, Tallies], tmp_path: Path) -> None:
    database, _ = book
    commit(database, {tally(): 5})
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as raw:
        for statement in ("UPDATE tallies SET amount = 4", "DELETE FROM tallies", "UPDATE tallies SET caller_id = 'x'"):
            with pytest.raises(sqlite3.IntegrityError):
                raw.execute(statement)


def test_alarms_sum_over_businesses_and_name_only_pseudonyms(book: tuple[Database, Tallies]) -> None:
    database, tallies = book
    commit(database, {tally("a", f"caller-{number}"): 900 for number in range(3)}, sequence=1)
    commit(database, {tally("b", f"caller-{number}"): 1400 for number in range(2)}, sequence=2)
    commit(database, {tally("c"): 2000, tally("d", scope=SCOPE._replace(kind="evaluations")): 99_999}, sequence=3)
    found = tallies.alarms(2000)
    assert [(item.pseudonym, item.milli_bits, item.callers) for item in found] == [
        (b"b".hex(), 2800, 2),
        (b"a".hex(), 2700, 3),
    ]
    assert (found[0].dataset_id, found[0].attribute, found[0].data_version) == ("people", "city", "v1")


def test_a_file_that_cannot_be_read_is_a_fault(book: tuple[Database, Tallies]) -> None:
    _, tallies = book
    tallies.close()
    with pytest.raises(Failed, match=r"ledger\.read"):
        tallies.total(tally())
