"""What a worker that was taken over may answer: the output gate says it again in canonical form, or nothing at all."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator

import pytest

from enclave_runner.contract.codec import decode, encode
from enclave_runner.contract.errors import Failed
from enclave_runner.jail.launcher import MemoryFile, Zygote
from enclave_runner.kinds.gate import MAX_CELLS, MAX_INTEGER, MAX_VECTORS
from enclave_runner.kinds.tasks import Declined, Finished, Gating, IntakeAnswer, KeyedVectors, TaskAnswer, Vectors
from tests.support.hostile_program import bounded
from tests.support.tally import TALLY

PROFILE = bounded(memory_mb=1024)
HONEST = b'{"type":"vectors","vectors":[[1,2,3]]}'
COUNTS = {"type": "intake-answer", "accepted": 1, "rejected": 1, "rejections": [], "entities": 1}


def vectors(cell: str) -> bytes:
    return b'{"type":"vectors","vectors":[[' + cell.encode() + b"]]}"


def counts(**fields: object) -> bytes:
    return json.dumps({**COUNTS, **fields}).encode()


def rejection(**fields: object) -> bytes:
    return counts(rejections=[{"row": 1, "column": "age", "rule": "row.type", **fields}])


def declined(rule: str = "sql.form", **facts: object) -> bytes:
    return json.dumps({"type": "declined", "rule": rule, "facts": facts}).encode()


def keyed(**fields: object) -> bytes:
    return json.dumps({"type": "keyed-vectors", "keys": [["a"]], "units": [1], "vectors": [[2]], **fields}).encode()


def finished(**fields: object) -> bytes:
    return json.dumps({"type": "finished", "rows": [0], "computed": [["1.5"]], **fields}).encode()


HOSTILE = {
    "nothing": b"", "half": HONEST[:-1], "two": HONEST + HONEST, "two-lines": HONEST + b"\n" + HONEST,
    "length-first": len(HONEST).to_bytes(4, "big") + HONEST, "pickle": pickle.dumps([[1, 2, 3]]),
    "arrow": b"ARROW1\x00\x00" + HONEST, "not-utf8": vectors('"\xff"').replace(b"\xc3\xbf", b"\xff"),
    "nan": vectors("NaN"), "infinity": vectors("Infinity"), "overflow": vectors("1e999"), "float": vectors("1.5"),
    "low-bits": vectors("1.0000000000000002"), "negative-zero": vectors("-0.0"), "huge": vectors("9" * 5000),
    "too-large": vectors(str(MAX_INTEGER)), "too-small": vectors(str(-MAX_INTEGER)), "text": vectors('"row"'),
    "null": vectors("null"), "true": vectors("true"), "nested": vectors("[1]"), "object": vectors("{}"),
    "deep": b"[" * 100_000 + b"]" * 100_000, "unknown-type": b'{"type":"rows","vectors":[[1]]}',
    "no-type": b'{"vectors":[[1]]}', "number-as-type": b'{"type":1,"vectors":[[1]]}', "list": b"[[1,2,3]]",
    "undeclared-field": b'{"type":"vectors","vectors":[[1]],"note":"a row"}',
    "null-shape": b'{"type":"vectors","vectors":null}',
    "many-vectors": b'{"type":"vectors","vectors":[' + b"[],".join([b""] * (MAX_VECTORS + 2)) + b"[]]}",
    "many-cells": b'{"type":"vectors","vectors":[[' + b"1," * MAX_CELLS + b"1]]}",
    "negative-count": counts(accepted=-1), "count-too-large": counts(entities=MAX_INTEGER),
    "long-column": rejection(column="x" * 129), "column-with-a-line": rejection(column="a\nb"),
    "column-with-control": rejection(column="a\x1b[2J"), "row-zero": rejection(row=0),
    "rule-with-a-line": rejection(rule="a\r\nb"),
    "many-rejections": counts(rejected=2000, rejections=[{"row": 1, "column": "a", "rule": "b"}] * 1001),
    "rejections-of-none": counts(rejected=0, rejections=[{"row": 1, "column": "a", "rule": "b"}]),
    "fact-with-control": declined(what="a\x00b"), "probe-report": b'{"type":"probe-report","findings":[]}',
    "long-rule": declined("x" * 129), "rule-with-a-line-of-refusal": declined("sql.form\n"),
    "long-fact": declined(what="x" * 401), "many-facts": declined(**{f"f{number}": "x" for number in range(9)}),
    "a-row-as-a-key": keyed(keys=[["x" * 201]]), "key-with-control": keyed(keys=[["a\x1b[2J"]]),
    "key-twice": keyed(keys=[["a"], ["a"]], units=[1, 1], vectors=[[2, 2]]), "key-no-text": keyed(keys=[[1]]),
    "more-units": keyed(units=[1, 2]), "negative-units": keyed(units=[-1]), "huge-units": keyed(units=[MAX_INTEGER]),
    "longer-vector": keyed(vectors=[[2, 3]]), "keyed-float": keyed(vectors=[[2.5]]), "keyed-note": keyed(note="a row"),
    "row-below-zero": finished(rows=[-1]), "row-beyond": finished(rows=[MAX_CELLS]), "computed-none": finished(rows=[]),
    "long-computed": finished(computed=[["9" * 129]]), "computed-control": finished(computed=[["1\n"]]),
    "number-as-fact": declined(what=1), "lone-surrogate": b'{"type":"declined","rule":"a","facts":{"what":"\\ud800"}}',
}  # fmt: skip
HONEST_ANSWERS = {
    "vectors": Vectors(vectors=((1, -2, MAX_INTEGER - 1), ())),
    "keyed": KeyedVectors(keys=(("男", ""),), units=(3,), vectors=((-1,), (MAX_INTEGER - 1,))),
    "finished": Finished(rows=(1, 0), computed=((None,), ("-1.5e300",))),
    "counts": IntakeAnswer(accepted=1, rejected=0, rejections=(), entities=1),
    "declined": Declined(rule="sql.form", facts={"what": "名"}),
}


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    """The enclave's own."""
    with Zygote() as running:
        yield running


def gate(zygote: Zygote, said: bytes) -> bytes:
    """The second jail."""
    with MemoryFile(said) as file:
        return zygote.run(encode(Gating()), [file.descriptor], PROFILE)


@pytest.mark.parametrize("name", HONEST_ANSWERS)
def test_an_honest_answer_passes_the_gate(zygote: Zygote, name: str) -> None:
    said = encode(HONEST_ANSWERS[name])
    assert gate(zygote, said) == said
    assert decode(said, TaskAnswer) == HONEST_ANSWERS[name]  # type: ignore[arg-type]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_answer_does_not_and_the_next_one_does(zygote: Zygote, name: str) -> None:
    with pytest.raises(Failed) as caught:
        gate(zygote, HOSTILE[name])
    assert caught.value.code in {"job.broken", "job.limit"}
    assert gate(zygote, HONEST) == HONEST
    TALLY.count("OUT")


@pytest.mark.parametrize(
    "said",
    [
        b'{"vectors":[[9]],"type":"vectors","vectors":[[1,2,3]]}',
        b' { "type" : "vectors" , "vectors" : [ [ 1 , 2 , 3 ] ] } ',
        b'{"type":"vectors","vectors":[[1.0,2,3]]}'.replace(b"1.0", b"1"),
        b'{"type":"\\u0076ectors","vectors":[[1,2,3]]}',
    ],
)
def test_spelling_carries_nothing(zygote: Zygote, said: bytes) -> None:
    """A key twice, blanks, escapes: whatever a worker could say with them, one form comes out."""
    assert gate(zygote, said) == HONEST
    TALLY.count("OUT")
