"""Answers once given: found by the same grant and key only, never changed, and only where something was released."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from enclave_runner.contract.codec import decode
from enclave_runner.contract.errors import Failed
from enclave_runner.contract.receipt import Receipt
from enclave_runner.supervisor.answers import Answered
from tests.support.ledgers import Book, budgeted, lost, open_book

GRANT, OTHER = budgeted(grant_id="grant-a"), budgeted(grant_id="grant-b")


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    with open_book(tmp_path) as opened:
        yield opened


def receipt_id(book: Book, ticket_id: str) -> str:
    signed = book.ledger.settlement(ticket_id).receipt
    assert signed is not None
    return decode(signed.payload, Receipt).receipt_id


def test_the_same_question_of_the_same_grant_finds_the_first_answer(book: Book) -> None:
    assert book.ledger.answered("grant-a", "key") is None
    ticket = book.open(GRANT, 5)
    assert book.ledger.answered("grant-a", "key") is None  # it runs
    book.close(ticket, GRANT, b"first", answer_key="key")
    first = Answered(ticket.ticket_id, receipt_id(book, ticket.ticket_id), b"first")
    assert book.ledger.answered("grant-a", "key") == first
    assert book.ledger.answered("grant-b", "key") is None
    assert book.ledger.answered("grant-a", "other key") is None


def test_of_two_answers_the_first_stays(book: Book) -> None:
    first, second = book.open(GRANT, 5), book.open(GRANT, 5)
    book.close(second, GRANT, b"second", answer_key="key")
    book.close(first, GRANT, b"first", answer_key="key")
    found = book.ledger.answered("grant-a", "key")
    assert found is not None
    assert (found.ticket_id, found.release) == (second.ticket_id, b"second")


@pytest.mark.parametrize("end", ["failed", "no key", "open"])
def test_what_was_not_released_is_not_kept(book: Book, end: str) -> None:
    ticket = book.open(GRANT, 5)
    if end != "open":
        book.close(ticket, GRANT, None if end == "failed" else b"{}", answer_key="key" if end == "failed" else None)
    assert book.ledger.answered("grant-a", "key") is None
    retried = book.open(GRANT, 5)
    book.close(retried, GRANT, b"again", answer_key="key")
    found = book.ledger.answered("grant-a", "key")
    assert found is not None
    assert found.release == b"again"


def test_an_empty_release_is_a_release(book: Book) -> None:
    book.close(book.open(GRANT, 5), GRANT, b"", answer_key="key")
    found = book.ledger.answered("grant-a", "key")
    assert found is not None
    assert found.release == b""


def test_a_close_that_is_undone_keeps_nothing(book: Book) -> None:
    ticket = book.open(GRANT, 5)
    with pytest.raises(Failed):
        book.close(ticket, GRANT, b"{}", spent=(lost(6),), answer_key="key")
    assert book.ledger.answered("grant-a", "key") is None


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM answers",
        "UPDATE answers SET grant_id = 'grant-b'",
        "INSERT INTO answers VALUES ('grant-b', 'key', 7)",
        "INSERT OR REPLACE INTO answers VALUES ('grant-a', 'key', 1)",
    ],
)
def test_the_file_itself_refuses_another_answer(book: Book, statement: str) -> None:
    book.close(book.open(GRANT, 5), GRANT, b"first", answer_key="key")
    book.close(book.open(OTHER, 5), OTHER, b"other", answer_key="key")
    with pytest.raises(Failed), book.database.transaction() as connection:
        connection.execute(statement)
    found = book.ledger.answered("grant-a", "key")
    assert found is not None
    assert found.release == b"first"


def test_answers_are_there_after_a_restart(tmp_path: Path) -> None:
    with open_book(tmp_path) as book:
        book.close(book.open(GRANT, 5), GRANT, b"first", answer_key="key")
        before = book.ledger.answered("grant-a", "key")
    with open_book(tmp_path) as book:
        assert book.ledger.answered("grant-a", "key") == before is not None
