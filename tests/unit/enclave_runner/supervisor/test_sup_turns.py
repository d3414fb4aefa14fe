"""Equal questions take turns; others do not wait for them."""

from __future__ import annotations

import threading

import pytest

from enclave_runner.supervisor.turns import Turns


def test_equal_questions_run_one_at_a_time_and_nothing_is_left() -> None:
    turns, inside, most, order = Turns(), 0, 0, threading.Lock()

    def ask() -> None:
        nonlocal inside, most
        with turns.of("grant", "key"):
            with order:
                inside += 1
                most = max(most, inside)
            threading.Event().wait(0.002)
            with order:
                inside -= 1

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, inside, turns.count()) == (1, 0, 0)


@pytest.mark.parametrize("other", [("grant", "other"), ("other", "key"), ("grant", None)])
def test_other_questions_do_not_wait(other: tuple[str, str | None]) -> None:
    turns = Turns()
    entered = threading.Event()

    def ask() -> None:
        with turns.of(*other):
            entered.set()

    with turns.of("grant", "key"):
        thread = threading.Thread(target=ask)
        thread.start()
        assert entered.wait(30)
        thread.join()
    assert turns.count() == 0


def test_who_fails_gives_the_turn_to_the_next() -> None:
    turns = Turns()
    with pytest.raises(RuntimeError), turns.of("grant", "key"):
        raise RuntimeError
    with turns.of("grant", "key"):
        assert turns.count() == 1
