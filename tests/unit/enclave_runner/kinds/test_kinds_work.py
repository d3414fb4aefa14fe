"""The one entry point of a worker: typed tasks only, and each kind of task reaches its module."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from enclave_runner.contract.codec import decode, encode
from enclave_runner.contract.dataset import ColumnType, KeyKind
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.job import Answer, Predicate
from enclave_runner.contract.wire import FileFormat
from enclave_runner.kinds import engine, extract
from enclave_runner.kinds.tasks import (
    Aggregation,
    CellQuery,
    Declined,
    Discovery,
    Done,
    Extraction,
    Finished,
    Finishing,
    Gating,
    Intake,
    IntakeAnswer,
    KeyedVectors,
    Lookup,
    LookupAnswer,
    ParsedTable,
    Parsing,
    Part,
    Rehearsal,
    Scoring,
    Spread,
    Task,
    TaskAnswer,
    Trial,
    Unpacking,
    Vectors,
)
from enclave_runner.kinds.work import ready, work
from tests.support import onnx_models
from tests.support.enclave_home import PEOPLE, PEOPLE_CSV, changed, rewound
from tests.support.worker_files import column_files, empty_file, on_a_thread, parquet_of, read_once

AGE = (("age", ColumnType.INTEGER),)
FEATURES = (("age", ColumnType.INTEGER, 0),)
MODEL = onnx_models.identity()
SCORED = 'SELECT "age", CAST(1 AS BIGINT) FROM t0'
ONLY_AGE = changed(
    PEOPLE,
    columns=tuple(item for item in PEOPLE.columns if item.name == "age"),
    entity_column="row_id",
    key_kind=KeyKind.ROW,
)


OPEN_KEYS = Discovery(
    tables=1,
    depth=1,
    most=10,
    candidates="SELECT CAST(age AS VARCHAR), count(*) FROM t0 GROUP BY CAST(age AS VARCHAR)",
)
SORTED = Finishing(
    sql="SELECT i FROM noisy ORDER BY a0 DESC", depth=1, width=1, keys=(("a",), ("b",)), values=(("1",), ("2",))
)


def answer_of(task: Task, descriptors: list[int]) -> TaskAnswer:
    answer: TaskAnswer = decode(on_a_thread(lambda: work(encode(task), descriptors)), TaskAnswer)  # type: ignore[arg-type]
    return answer


def test_reading_kinds_reach_their_modules() -> None:
    with rewound(encode(Done())) as said:
        assert answer_of(Gating(), [said]) == Done()
    assert isinstance(answer_of(Parsing(sql="SELECT COUNT(*) AS n FROM people", features=False), []), ParsedTable)
    assert answer_of(Rehearsal(sql=("SELECT sum(age) FROM t0",), tables=(AGE,)), []) == Done()


def test_noisy_columns_reach_their_module() -> None:
    assert answer_of(SORTED, []) == Finished(rows=(1, 0), computed=((), ()))


def test_an_import_through_the_table() -> None:
    task = Intake(spec=PEOPLE, format=FileFormat.CSV, header=True)
    with rewound(parquet_of("SELECT 1 AS other")) as source, rewound(b"") as head, empty_file() as output:
        wrong = Intake(spec=PEOPLE, format=FileFormat.PARQUET, header=True)
        assert isinstance(answer_of(wrong, [source, head, output]), Declined)
    answer, columns = read_once(task, PEOPLE_CSV.encode())
    assert isinstance(answer, IntakeAnswer)
    assert (answer.accepted, sorted(columns)) == (200, list(range(len(PEOPLE.columns))))
    read, write = os.pipe()
    with os.fdopen(read, "rb") as plain, rewound(gzip.compress(b"text")) as packed:
        assert answer_of(Unpacking(), [os.dup(packed), write]) == Done()
        assert plain.read() == b"text"


def test_jobs_over_an_extract_through_the_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(extract, "BUILT_AT", str(tmp_path / "built"))
    rows = [(20 + number % 3,) for number in range(200)]
    part = Part(spec=ONLY_AGE, rows=200, columns=("age",), counted=True)
    order = Extraction(parts=(part,), spread=True)
    with column_files(ONLY_AGE, rows, order.needed(part)) as files, empty_file() as target, rewound(MODEL) as model:
        assert answer_of(order, [*files, target]) == Done()
        counted = CellQuery(sql="SELECT count(*) FROM t0", axes=(), width=1)
        aggregation = Aggregation(tables=1, queries=(counted,), coarsenings=(1,))
        assert answer_of(aggregation, [target]) == Vectors(vectors=((200,),))
        assert answer_of(Spread(norm="rows", edges=(1, 2)), [target]) == Vectors(vectors=((200, 0),))
        found = answer_of(OPEN_KEYS, [target])
        assert isinstance(found, KeyedVectors)
        assert found.keys == (("20",), ("21",), ("22",))
        asked = Lookup(attribute="age", predicate=Predicate.EQUALS, claim=20)
        assert answer_of(asked, [target]) == LookupAnswer(answer=Answer.YES)
        rehearsal = Rehearsal(sql=(SCORED,), tables=(AGE,))
        good = Trial(rehearsal=rehearsal, features=FEATURES, output="score")
        assert answer_of(good, [model]) == Vectors(vectors=())
        assert isinstance(answer_of(Trial(rehearsal=rehearsal, features=FEATURES, output="no"), [model]), Declined)
        scored = Scoring(sql=SCORED, features=FEATURES, output="score", low=0, high=100_000, bins=2)
        vectors = answer_of(scored, [target, model])
        assert isinstance(vectors, Vectors)
        assert sum(vectors.vectors[0]) == 200


def test_an_engine_that_was_made_ready_serves_the_next_task_and_no_other() -> None:
    """Also on another thread than the one that opened it; twice ready is once ready."""
    ready()
    ready()
    for _ in range(2):
        assert answer_of(Rehearsal(sql=("SELECT sum(CAST(1 AS BIGINT)) FROM t0",), tables=(AGE,)), []) == Done()
    assert not engine._ready


@pytest.mark.parametrize("data", [b"", b"{}", b'{"type":"shell","command":"id"}', b'{"type":"trial"}', b"\xff"])
def test_anything_else_is_no_task(data: bytes) -> None:
    with pytest.raises(Refused) as caught:
        work(data, [])
    assert caught.value.rule == "wire.malformed"
