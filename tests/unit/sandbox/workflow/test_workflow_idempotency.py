from __future__ import annotations

import threading

import pytest

from enclave_runner.contract.errors import Refused
from sandbox.workflow.idempotency import Remembered, remember
from tests.support.bureau import BANK, OPERATOR, Bureau
from tests.support.refusals import refused_by


class Counted:
    """A piece of work that counts how often it was done."""

    def __init__(self) -> None:
        self.done = 0

    def __call__(self) -> bytes:
        self.done += 1
        return b"answer"


def test_the_same_request_runs_once(bureau: Bureau) -> None:
    work, actor = Counted(), bureau.actor(BANK)
    assert remember(bureau.office, actor, "key-1", "f", work) == Remembered(b"answer", False)
    assert remember(bureau.office, actor, "key-1", "f", work) == Remembered(b"answer", True)
    assert work.done == 1


def test_another_request_under_the_same_key_is_refused(bureau: Bureau) -> None:
    work, actor = Counted(), bureau.actor(BANK)
    remember(bureau.office, actor, "key-1", "f", work)
    with refused_by("idempotency.reused"):
        remember(bureau.office, actor, "key-1", "g", work)
    assert work.done == 1


def test_keys_are_of_one_person(bureau: Bureau) -> None:
    work = Counted()
    for actor in (bureau.actor(BANK, "a"), bureau.actor(BANK, "b"), bureau.actor(OPERATOR, "a")):
        assert not remember(bureau.office, actor, "key-1", "f", work).replayed
    assert work.done == 3


def test_work_that_did_not_happen_gives_its_key_back(bureau: Bureau) -> None:
    def refused() -> bytes:
        raise Refused("grant.expired", deadline="2026-01-01")

    with refused_by("grant.expired"):
        remember(bureau.office, bureau.actor(BANK), "key-1", "f", refused)
    assert not remember(bureau.office, bureau.actor(BANK), "key-1", "g", Counted()).replayed


def test_while_the_first_runs_the_second_waits_for_nothing(bureau: Bureau) -> None:
    def nested() -> bytes:
        with refused_by("idempotency.in-progress"):
            remember(bureau.office, bureau.actor(BANK), "key-1", "f", Counted())
        return b"answer"

    assert remember(bureau.office, bureau.actor(BANK), "key-1", "f", nested) == Remembered(b"answer", False)


def test_of_many_at_once_one_runs(bureau: Bureau) -> None:
    work, actor, failures = Counted(), bureau.actor(BANK), []

    def ask() -> None:
        try:
            remember(bureau.office, actor, "key-1", "f", work)
        except Refused as refused:
            failures.append(refused.rule)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert work.done == 1
    assert set(failures) <= {"idempotency.in-progress"}


def test_work_that_died_in_between_is_not_done_again(bureau: Bureau, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after kill -9: neither an answer nor a give-back was written."""
    from_store = "sandbox.workflow.idempotency.idempotency"
    work = Counted()
    with monkeypatch.context() as patched:
        patched.setattr(f"{from_store}.answer", lambda *arguments: None)
        remember(bureau.office, bureau.actor(BANK), "key-1", "f", work)
    with refused_by("idempotency.in-progress"):
        remember(bureau.office, bureau.actor(BANK), "key-1", "f", work)
    assert work.done == 1
