"""The one entry point of a worker: typed tasks of this zygote only, and each kind reaches its module."""

from __future__ import annotations

import os
from contextlib import ExitStack

import pytest

from enclave_runner.contract.check import CheckKind
from enclave_runner.contract.codec import decode, encode
from enclave_runner.contract.dataset import ColumnType
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.protocols import oprf
from enclave_runner.contract.scoring import Feature, Scorecard
from enclave_runner.he.tasks import Scoring
from enclave_runner.kinds.tasks import Declined, Done, Gating, Lookup
from enclave_runner.private.tasks import Assembled, Assembling, Evaluating, Hinting, Serving, Task, TaskAnswer
from enclave_runner.private.work import work
from tests.support.private_tables import check_of, column_of, memory, subject_of, tables_of


def answer_of(task: Task, descriptors: list[int]) -> TaskAnswer:
    """What a worker answers."""
    answer: TaskAnswer = decode(work(encode(task), descriptors), TaskAnswer)  # type: ignore[arg-type]
    return answer


def test_every_kind_reaches_its_module() -> None:
    card = Scorecard(features=(Feature(name="f", weight=1, low=0, high=1),))
    with ExitStack() as owner:
        made = [memory(owner) for _ in range(3)]
        assert answer_of(Gating(), [memory(owner, encode(Done()))]) == Done()
        assert answer_of(Evaluating(key=oprf.new_key(), version="v", first=0, count=0), made[:2]) == Done()
        assert isinstance(answer_of(Assembling(k_min=1), made[:2]), Assembled)
        shape = {"height": 1, "columns": 1, "first": 0, "count": 1}
        assert answer_of(Hinting(seed=bytes(16), **shape), [memory(owner, b"x"), made[2]]) == Done()  # type: ignore[arg-type]
        nothing = [memory(owner) for _ in range(3)]
        assert answer_of(Scoring(model=card, subjects=1), nothing) == Declined(rule="scoring.length", facts={})


def test_a_serving_worker_is_done_when_nobody_can_ask_it_any_more() -> None:
    subject = subject_of(check_of(CheckKind.EXISTS), column_of(ColumnType.INTEGER))
    with tables_of(subject, [("a", 1)]) as tables:
        ask, worker = os.pipe()
        os.close(worker)
        assert answer_of(Serving(subject=subject, opening_secret=bytes(32)), [tables.plain, ask]) == Done()
        os.close(ask)


@pytest.mark.parametrize(
    "task",
    [b"", b"{}", encode(Done()), encode(Lookup(attribute="a", predicate="exists", claim=None))],  # type: ignore[arg-type]
)
def test_no_other_task_is_taken(task: bytes) -> None:
    with pytest.raises(Refused) as caught:
        work(task, [])
    assert caught.value.rule == "wire.malformed"
