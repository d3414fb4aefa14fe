"""Noisy means of blocks: what a block may have said, how far one block can move the sums, what is released."""

from __future__ import annotations

import math
import random

import pytest

from enclave_runner.contract.errors import Failed
from enclave_runner.contract.privacy import Budget
from enclave_runner.contract.script import ScriptJob, ScriptOutput
from enclave_runner.egress.blocks import block_cells, release_means, script_measures, sensitivity
from enclave_runner.egress.histogram import histogram_loss
from enclave_runner.kinds.tasks import CELL_BYTES, STEPS

MIDDLE = STEPS // 2


def job(*outputs: tuple[str, str, str], epsilon: str = "4", blocks: int = 40) -> ScriptJob:
    named = tuple(ScriptOutput(name=name, low=low, high=high) for name, low, high in outputs)
    return ScriptJob(
        sql="SELECT a FROM t", budget=Budget(epsilon=epsilon), script_sha256="0" * 64, outputs=named, blocks=blocks
    )


def said(*cells: int) -> bytes:
    return b"".join(cell.to_bytes(CELL_BYTES, "big") for cell in cells)


@pytest.mark.parametrize(
    "answer",
    [None, b"", b"\0", said(1), said(1, 2, 3), said(1, STEPS + 1), said(2**64 - 1, 0), said(1, 2) + b"\0", b"x" * 16],
)
def test_what_is_no_answer_counts_as_the_middle_of_every_range(answer: bytes | None) -> None:
    assert block_cells(answer, 2) == (MIDDLE, MIDDLE)


def test_an_answer_within_the_range_is_taken_as_it_is() -> None:
    assert block_cells(said(0, STEPS, 7), 3) == (0, STEPS, 7)


@pytest.mark.parametrize("outputs", [1, 2, 3, 7, 100])
def test_one_block_moves_the_sums_by_at_most_the_sensitivity_and_it_is_tight(outputs: int) -> None:
    bound = sensitivity(outputs)
    assert bound**2 >= outputs * STEPS**2 > (bound - 1) ** 2
    source = random.Random(outputs)
    for _ in range(200):
        one = block_cells(source.randbytes(CELL_BYTES * outputs), outputs)
        other = block_cells(said(*(source.randint(0, STEPS) for _ in range(outputs))), outputs)
        assert sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) <= bound**2


def test_the_noisy_means_lie_around_the_means_in_the_unit_of_each_output() -> None:
    order = job(("age", "0", "120"), ("rate", "-1", "1"), epsilon="4", blocks=400)
    blocks = [(STEPS // 4, STEPS * 3 // 4)] * 400
    found = [release_means(order, "resident", blocks) for _ in range(300)]
    for at, (true, span) in enumerate(((30.0, 120.0), (0.5, 2.0))):
        values = [float(table.rows[at][1] or "nan") for table in found]
        width = float(found[0].half_widths[at][0] or "nan")
        assert abs(sum(values) / len(values) - true) < width  # six standard deviations of that mean and more
        covered = sum(abs(value - true) <= width for value in values)
        assert 260 <= covered <= 299 or covered == 300
        expected = 1.96 * math.sqrt(2) / math.sqrt(2 * histogram_loss(order.budget) / 1e12) / 400 * span
        assert width == pytest.approx(expected, rel=0.01)
    assert [row[0] for row in found[0].rows] == ["age", "rate"]
    assert (found[0].keys, found[0].noise, found[0].loss.entity_set) == (("output",), "gaussian", "resident")
    assert len({table.rows for table in found}) > 290


def test_the_quoted_half_widths_are_the_released_ones() -> None:
    order = job(("n", "0", "1e12"), ("tiny", "0", "1e-9"), blocks=8)
    table = release_means(order, "resident", [(0, STEPS)] * 8)
    assert [item.half_width for item in script_measures(order)] == [row[0] for row in table.half_widths]
    assert all(float(item.half_width) > 0 for item in script_measures(order))


@pytest.mark.parametrize("blocks", [[(1,)] * 7, [(1,)] * 9, [(1, 1)] * 8, [(STEPS + 1,)] * 8, [(-1,)] * 8, [()] * 8])
def test_another_shape_than_the_job_fixes_is_not_released(blocks: list[tuple[int, ...]]) -> None:
    with pytest.raises(Failed):
        release_means(job(("a", "0", "1"), blocks=8), "resident", blocks)
