"""Plans and rehearsals are found once for each grant, and never for another; what is refused is not remembered."""

from __future__ import annotations

import pytest

from enclave_runner.contract.receipt import Outcome
from enclave_runner.kinds.tasks import Done, Parsing, Rehearsal, Task
from enclave_runner.supervisor.enclave import Enclave
from enclave_runner.supervisor.remembered import Remembered
from tests.support.enclave_home import Site, make_grant, query


def test_the_one_not_asked_for_longest_makes_room() -> None:
    remembered = Remembered(2)
    for name in ("a", "b"):
        remembered.keep("grant", name, Done())
    assert remembered.find("grant", "a") == Done()
    remembered.keep("grant", "c", Done())
    assert [remembered.find("grant", name) for name in ("a", "b", "c")] == [Done(), None, Done()]
    assert remembered.find("another", "a") is None


@pytest.fixture
def asked(site: Site, monkeypatch: pytest.MonkeyPatch) -> list[type[Task]]:
    """The kinds of tasks that workers get."""
    kinds: list[type[Task]] = []
    real = Enclave.work

    def work(enclave: Enclave, task: Task, *rest: object) -> object:
        kinds.append(type(task))
        return real(enclave, task, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Enclave, "work", work)
    return kinds


def test_a_text_is_planned_and_rehearsed_once_for_each_grant(site: Site, asked: list[type[Task]]) -> None:
    sql = "SELECT sex, SUM(income) AS s FROM people WHERE age >= 21 GROUP BY sex"
    first, second = make_grant(), make_grant()
    for grant, new in ((first, 1), (first, 0), (second, 1), (first, 0)):
        asked.clear()
        assert site.order(query(sql), grant).outcome is Outcome.RELEASED
        assert (asked.count(Parsing), asked.count(Rehearsal)) == (new, new)


def test_a_refused_text_is_read_again(site: Site, asked: list[type[Task]]) -> None:
    grant = make_grant()
    for _ in range(2):
        asked.clear()
        assert site.order(query("SELECT 1"), grant).outcome is Outcome.REFUSED
        assert asked.count(Parsing) == 1
