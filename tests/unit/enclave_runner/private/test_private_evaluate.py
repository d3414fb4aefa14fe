"""Cells: what a client that had its keyword evaluated finds again, in parts as in one piece."""

from __future__ import annotations

import os
from contextlib import ExitStack

import pytest

from enclave_runner.contract.protocols import cell, oprf
from enclave_runner.contract.protocols.canonical import keyword
from enclave_runner.contract.protocols.cell import LEVEL, NO, YES
from enclave_runner.kinds.tasks import Done
from enclave_runner.private import evaluate
from enclave_runner.private.evaluate import cells_of
from enclave_runner.private.tasks import CELL_BYTES, KEYWORD_BYTES, Evaluating
from tests.support.private_tables import content, memory

KEY = oprf.new_key()
CODES = {"a": YES, "b": NO, "c": LEVEL + 250}
RECORDS = b"".join(keyword(subject) + code.to_bytes(2, "little") for subject, code in CODES.items())


def test_a_cell_opens_with_the_output_of_its_keyword_alone() -> None:
    cells = cells_of(RECORDS, KEY, "v1")
    assert len(cells) == 3 * CELL_BYTES
    outputs = {subject: oprf.evaluate_directly(KEY, keyword(subject)) for subject in (*CODES, "d")}
    entries = b"".join(cells[at + 8 : at + CELL_BYTES] for at in range(0, len(cells), CELL_BYTES))
    for place, (subject, code) in enumerate(CODES.items()):
        label = cell.find(entries, outputs[subject], "v1")
        assert label is not None
        assert cell.code_of(label) == code
        word = int.from_bytes(cells[place * CELL_BYTES :][:8], "little")
        assert word == cell.entry(outputs[subject], "v1").word
        assert cell.find(entries, outputs[subject], "v2") is None
    assert cell.find(entries, outputs["d"], "v1") is None


def test_parts_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "BLOCK", 2)
    records = b"".join(keyword(str(number)) + YES.to_bytes(2, "little") for number in range(11))
    with ExitStack() as owner:
        source, target = memory(owner, records), memory(owner)
        for first, count in ((0, 5), (5, 1), (6, 5)):
            order = Evaluating(key=KEY, version="v", first=first, count=count)
            assert evaluate.run(order, [source, target]) == Done()
        assert content(target) == cells_of(records, KEY, "v")


def test_more_than_there_is_breaks() -> None:
    with ExitStack() as owner:
        source, target = memory(owner, RECORDS), memory(owner)
        order = Evaluating(key=KEY, version="v", first=2, count=2)
        with pytest.raises(ValueError, match="fewer records"):
            evaluate.run(order, [source, target])
        assert os.fstat(target).st_size == 0


def test_no_code_but_a_labels_is_sealed() -> None:
    with pytest.raises(ValueError, match="code"):
        cells_of(bytes(32) + (3).to_bytes(2, "little"), KEY, "v")
    assert KEYWORD_BYTES == 34
