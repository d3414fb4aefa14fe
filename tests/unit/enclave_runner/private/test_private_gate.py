"""The gate of the serving zygote: an honest answer passes, nothing else does."""

from __future__ import annotations

import json
from contextlib import ExitStack

import pytest

from enclave_runner.contract.codec import decode, encode
from enclave_runner.contract.errors import Refused
from enclave_runner.he.tasks import Scored
from enclave_runner.kinds.gate import ImproperAnswerError
from enclave_runner.kinds.tasks import Declined, Done
from enclave_runner.private import gate
from enclave_runner.private.tasks import Assembled, Tabulated, TaskAnswer
from tests.support.private_tables import memory

SHAPE = {"type": "assembled", "height": 2048, "columns": 30, "bucket_columns": 15, "k": 1024}
ROWS = {"type": "tabulated", "rows": 10, "records": 9}
HONEST = (
    Done(), Scored(), Tabulated(rows=10**9, records=0), Declined(rule="verification.many-rows", facts={}),
    Assembled(height=4096, columns=1 << 20, bucket_columns=1 << 20, k=0),
)  # fmt: skip
HOSTILE = {
    "nothing": b"", "half": b'{"type":"done"', "two": b'{"type":"done"}{"type":"done"}',
    "probe-report": b'{"type":"probe-report","findings":[]}', "a-jobs": b'{"type":"vectors","vectors":[[1]]}',
    "note": json.dumps({**ROWS, "note": "a row"}).encode(),
    **{f"rows-{n}": json.dumps({**ROWS, **change}).encode() for n, change in enumerate((
        {"rows": -1}, {"records": -1}, {"records": 11}, {"rows": 1 << 41}, {"rows": 1.5}, {"rows": "1"}, {"rows": True},
    ))},
    **{f"shape-{n}": json.dumps({**SHAPE, **change}).encode() for n, change in enumerate((
        {"height": 0}, {"height": 1 << 17}, {"columns": 0}, {"columns": (1 << 20) + 1}, {"bucket_columns": 0},
        {"bucket_columns": 31}, {"bucket_columns": 7}, {"k": -1}, {"k": 1 << 41},
    ))},
    "long-rule": json.dumps({"type": "declined", "rule": "x" * 129, "facts": {}}).encode(),
    "control": json.dumps({"type": "declined", "rule": "a", "facts": {"b": "\x1b"}}).encode(),
    "many-facts": json.dumps({"type": "declined", "rule": "a", "facts": {f"f{n}": "" for n in range(9)}}).encode(),
}  # fmt: skip


def gated(said: bytes) -> TaskAnswer:
    """What the second jail says of it."""
    with ExitStack() as owner:
        return gate.run([memory(owner, said)])


@pytest.mark.parametrize("answer", HONEST, ids=lambda item: type(item).__name__)
def test_an_honest_answer_passes(answer: TaskAnswer) -> None:
    assert gated(encode(answer)) == answer
    assert decode(encode(answer), TaskAnswer) == answer  # type: ignore[arg-type]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_answer_does_not(name: str) -> None:
    with pytest.raises((ImproperAnswerError, Refused)):
        gated(HOSTILE[name])
