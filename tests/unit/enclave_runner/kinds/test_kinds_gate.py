"""The output gate: honest answers come out as they went in, hostile ones not at all."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_runner.contract.codec import decode, encode
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.job import Answer
from enclave_runner.contract.wire import Rejection
from enclave_runner.jail.launcher import MemoryFile
from enclave_runner.kinds import gate
from enclave_runner.kinds.gate import ImproperAnswerError
from enclave_runner.kinds.tasks import (
    Declined,
    Done,
    Finding,
    Finished,
    Gating,
    IntakeAnswer,
    KeyedVectors,
    LookupAnswer,
    Outcome,
    ProbeReport,
    TaskAnswer,
    Vectors,
)
from enclave_runner.kinds.work import work

MANY = 1 << 17
REJECTION = Rejection(row=1, column="age", rule="row.type")


def said_again(answer: bytes) -> TaskAnswer:
    """What the gate makes of a worker's bytes."""
    with MemoryFile(answer) as file:
        return gate.run([file.descriptor])


def keyed(**fields: object) -> KeyedVectors:
    given = {"keys": (("a", "b"), ("a", "")), "units": (3, 0), "vectors": ((1, -2), (0, (1 << 62) - 1))}
    return KeyedVectors(**{**given, **fields})  # type: ignore[arg-type]


HONEST: tuple[TaskAnswer, ...] = (
    Done(),
    Vectors(vectors=((0, -1, (1 << 62) - 1), ())),
    LookupAnswer(answer=Answer.NO_RECORD),
    keyed(),
    KeyedVectors(keys=(), units=(), vectors=((), ())),
    Finished(rows=(2, 0, 2), computed=(("1", None), ("", "x"), ("NaN", "y"))),
    Finished(rows=(), computed=()),
    IntakeAnswer(accepted=3, rejected=1, rejections=(REJECTION,), entities=2),
    Declined(rule="import.header", facts={"column": "#3"}),
)


@pytest.mark.parametrize("answer", HONEST, ids=lambda answer: type(answer).__name__)
def test_an_honest_answer_is_said_again(answer: TaskAnswer) -> None:
    assert said_again(encode(answer)) == answer


def test_the_gate_is_a_task_like_any_other() -> None:
    with MemoryFile(encode(HONEST[1])) as file:
        assert work(encode(Gating()), [file.descriptor]) == encode(HONEST[1])


@pytest.mark.parametrize(
    "answer",
    [
        Vectors(vectors=((1 << 62,),)),
        Vectors(vectors=((-(1 << 62),),)),
        Vectors(vectors=((0,),) * (gate.MAX_VECTORS + 1)),
        Vectors(vectors=((0,) * (gate.MAX_CELLS + 1),)),
        keyed(units=(3,)),
        keyed(units=(3, -1)),
        keyed(units=(3, 1 << 62)),
        keyed(vectors=((1, 2), (1,))),
        keyed(vectors=((1, 2), (1, 2, 3))),
        keyed(vectors=((1, 1 << 62),)),
        keyed(vectors=((1, -(1 << 62)),)),
        keyed(vectors=((1, 2),) * (gate.MAX_VECTORS + 1)),
        keyed(keys=(("a", "b"), ("a", "b"))),
        keyed(keys=(("a", "b"), ("a", "x" * 201))),
        keyed(keys=(("a", "b"), ("a", "\n"))),
        keyed(keys=(("a", "b"), ("a", "\x1b[2J"))),
        keyed(keys=(("a",), ("a", "b"))),
        KeyedVectors(keys=tuple((str(n),) for n in range(MANY)), units=(0,) * MANY, vectors=((0,) * MANY,) * 8),
        Finished(rows=(0,), computed=()),
        Finished(rows=(-1,), computed=((),)),
        Finished(rows=(gate.MAX_CELLS,), computed=((),)),
        Finished(rows=(0,) * (gate.MAX_CELLS + 1), computed=((),) * (gate.MAX_CELLS + 1)),
        Finished(rows=(0,), computed=(("x" * 129,),)),
        Finished(rows=(0,), computed=(("a\nb",),)),
        Finished(rows=(0, 1), computed=(("1",), ("1", "2"))),
        IntakeAnswer(accepted=-1, rejected=0, rejections=(), entities=0),
        IntakeAnswer(accepted=0, rejected=0, rejections=(), entities=1 << 62),
        IntakeAnswer(accepted=0, rejected=2000, rejections=(REJECTION,) * 1001, entities=0),
        IntakeAnswer(accepted=2, rejected=0, rejections=(REJECTION,), entities=2),
        IntakeAnswer(accepted=2, rejected=1, rejections=(REJECTION,) * 2, entities=2),
        IntakeAnswer(accepted=0, rejected=1, rejections=(Rejection(row=0, column="", rule="x"),), entities=0),
        IntakeAnswer(accepted=0, rejected=1, rejections=(Rejection(row=1, column="x" * 200, rule="x"),), entities=0),
        IntakeAnswer(accepted=0, rejected=1, rejections=(Rejection(row=1, column="a\nb", rule="x"),), entities=0),
        Declined(rule="r" * 129, facts={}),
        Declined(rule="r", facts={"what": "x" * 401}),
        Declined(rule="r", facts={f"n{number}": "x" for number in range(9)}),
        Declined(rule="r\x00", facts={}),
        Declined(rule="r", facts={"what": "a\x00b"}),
        Declined(rule="r", facts={"what": "a\n"}),
        Declined(rule="r", facts={"what": "a\u200bb"}),
        ProbeReport(findings=()),
        ProbeReport(findings=(Finding(name="a", layer="b", outcome=Outcome.BLOCKED, detail="a row"),)),
    ],
)
def test_an_answer_beyond_its_limits_does_not_leave(answer: TaskAnswer) -> None:
    with pytest.raises(ImproperAnswerError):
        said_again(encode(answer))


GOOD = b'{"type":"vectors","vectors":[[1]]}'
MALFORMED = {
    "nothing": b"",
    "no JSON": b"\x80\x04pickle",
    "NaN": b'{"type":"vectors","vectors":[[NaN]]}',
    "infinity": b'{"type":"vectors","vectors":[[1e999]]}',
    "a float": b'{"type":"vectors","vectors":[[1.5]]}',
    "a text for a number": b'{"type":"vectors","vectors":[["1"]]}',
    "an undeclared field": b'{"type":"vectors","vectors":[[1]],"note":"p17"}',
    "two answers": GOOD + GOOD,
    "an answer and a tail": GOOD + b" tail",
    "a type of another name": b'{"type":"rows","vectors":[[1]]}',
    "no type": b'{"vectors":[[1]]}',
    "deep nesting": b'{"type":"vectors","vectors":' + b"[" * 5000 + b"]" * 5000 + b"}",
    "a lone surrogate": b'{"type":"declined","rule":"\\ud800","facts":{}}',
    "not UTF-8": b'{"type":"declined","rule":"\xff","facts":{}}',
    "an integer of 5000 digits": b'{"type":"vectors","vectors":[[' + b"9" * 5000 + b"]]}",
    "a truncated answer": GOOD[:-2],
}


@pytest.mark.parametrize("answer", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_no_answer_does_not_leave(answer: bytes) -> None:
    with pytest.raises((Refused, ImproperAnswerError)) as caught:
        said_again(answer)
    assert "p17" not in str(caught.value)


def test_two_spellings_become_one() -> None:
    """Whitespace, order and a repeated key are a channel; what leaves has one spelling."""
    for spelling in (
        b'{ "vectors" : [[ 1 ]], "type":"vectors"}',
        b'{"type":"vectors","vectors":[[7]],"vectors":[[1]]}',
        b'{"type":"\\u0076ectors","vectors":[[1]]}',
        b'{"type":"vectors","vectors":[[1]]}\n',
    ):
        assert encode(said_again(spelling)) == encode(Vectors(vectors=((1,),)))


@given(st.binary(max_size=200))
def test_any_bytes_either_fit_a_type_or_stay(data: bytes) -> None:
    try:
        answer = said_again(data)
    except (Refused, ImproperAnswerError):
        return
    assert decode(encode(answer), TaskAnswer) == answer  # type: ignore[arg-type]


@given(st.lists(st.lists(st.integers(-(1 << 62) + 1, (1 << 62) - 1), max_size=8).map(tuple), max_size=8).map(tuple))
def test_every_vector_inside_the_limits_passes(vectors: tuple[tuple[int, ...], ...]) -> None:
    raw = json.dumps({"type": "vectors", "vectors": vectors}).encode()
    assert said_again(raw) == Vectors(vectors=vectors)


def test_a_refusal_that_quotes_a_strange_text_passes() -> None:
    """Otherwise an operator's line break would become a fault without a cause."""
    quoted = Declined.quoting("sql.unsupported", {"what": "a\nb\x00" + "c" * 500})
    assert quoted.facts["what"].startswith("a?b?ccc")
    assert said_again(encode(quoted)) == quoted
