"""The one entry point of a worker: typed tasks only, and each kind of task reaches its module."""

from __future__ import annotations

import pytest

from enclave_runner.contract.codec import decode, encode
from enclave_runner.contract.dataset import ColumnType
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.job import Answer, Predicate
from enclave_runner.contract.wire import FileFormat
from enclave_runner.kinds.tasks import (
    Aggregation,
    Declined,
    Done,
    Extraction,
    Intake,
    IntakeAnswer,
    Lookup,
    LookupAnswer,
    ParsedTable,
    Parsing,
    Scoring,
    Task,
    TaskAnswer,
    Trial,
    Vectors,
)
from enclave_runner.kinds.work import work
from tests.support import onnx_models
from tests.support.enclave_home import PEOPLE, PEOPLE_CSV, rewound
from tests.support.worker_files import empty_file, on_a_thread


def answer_of(task: Task, descriptors: list[int]) -> TaskAnswer:
    answer: TaskAnswer = decode(on_a_thread(lambda: work(encode(task), descriptors)), TaskAnswer)  # type: ignore[arg-type]
    return answer


def test_every_kind_of_task_through_one_table() -> None:
    with rewound(PEOPLE_CSV.encode()) as source, empty_file() as stage, empty_file() as final:
        taken = answer_of(Intake(spec=PEOPLE, format=FileFormat.CSV, header=True), [source, stage, final])
        assert isinstance(taken, IntakeAnswer)
        assert taken.accepted == 200
        with empty_file() as extract, rewound(onnx_models.identity()) as model:
            order = Extraction(spec=PEOPLE, columns=("age",), weight_scale=1, weighted=True)
            assert answer_of(order, [final, extract]) == Done()
            counted = Aggregation(sql="SELECT count(*) FROM extract", domains=(), coarsenings=(1,))
            assert answer_of(counted, [extract]) == Vectors(vectors=((200,),))
            features = (("age", ColumnType.INTEGER, 0),)
            assert answer_of(Trial(features=features, output="score"), [model]) == Vectors(vectors=())
            assert isinstance(answer_of(Trial(features=features, output="no"), [model]), Declined)
            assert isinstance(
                answer_of(Parsing(sql="SELECT COUNT(*) AS n FROM people", features=False), []), ParsedTable
            )
            scored = Scoring(
                sql='SELECT "age", "_weight" FROM extract',
                features=features,
                output="score",
                low=0,
                high=100_000,
                bins=2,
            )
            vectors = answer_of(scored, [extract, model])
            assert isinstance(vectors, Vectors)
            assert sum(vectors.vectors[0]) == 200
        with empty_file() as extract:
            one = Extraction(spec=PEOPLE, columns=("age",), weight_scale=1, weighted=False, subject="p0")
            assert answer_of(one, [final, extract]) == Done()
            asked = Lookup(attribute="age", predicate=Predicate.EQUALS, claim=20)
            assert answer_of(asked, [extract]) == LookupAnswer(answer=Answer.YES)


@pytest.mark.parametrize("data", [b"", b"{}", b'{"type":"shell","command":"id"}', b'{"type":"trial"}', b"\xff"])
def test_anything_else_is_no_task(data: bytes) -> None:
    with pytest.raises(Refused) as caught:
        work(data, [])
    assert caught.value.rule == "wire.malformed"
