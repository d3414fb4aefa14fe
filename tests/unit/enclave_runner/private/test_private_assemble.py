"""Assembling as a task: every cell is found where its word says, in a file of the shape that is told."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np

from enclave_runner.contract.protocols import cell, oprf
from enclave_runner.contract.protocols.canonical import keyword
from enclave_runner.contract.protocols.cell import YES
from enclave_runner.private import assemble
from enclave_runner.private.evaluate import cells_of
from enclave_runner.private.tasks import Assembling
from tests.support.private_tables import content, memory

KEY = oprf.new_key()


def test_every_cell_is_in_its_column_and_the_shape_is_the_files() -> None:
    subjects = [str(number) for number in range(600)]
    records = b"".join(keyword(subject) + YES.to_bytes(2, "little") for subject in subjects)
    with ExitStack() as owner:
        cells, target = memory(owner, cells_of(records, KEY, "v")), memory(owner)
        shape = assemble.run(Assembling(k_min=100), [cells, target])
        matrix = np.frombuffer(content(target), np.uint8).reshape(shape.height, shape.columns)
    assert 100 <= shape.k <= 600
    assert shape.columns % shape.bucket_columns == 0
    for subject in subjects[::7]:
        output = oprf.evaluate_directly(KEY, keyword(subject))
        column = matrix[:, cell.entry(output, "v").column(shape.columns)].tobytes()
        assert cell.find(column, output, "v") == cell.label(YES)


def test_no_cells_at_all_make_a_table_of_nobody() -> None:
    with ExitStack() as owner:
        target = memory(owner)
        shape = assemble.run(Assembling(k_min=4), [memory(owner), target])
        assert len(content(target)) == shape.height * shape.columns
        assert shape.k == 0
