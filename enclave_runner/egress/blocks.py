"""The noisy means of a script's outputs over its blocks (sample and aggregate: Nissim, Raskhodnikova, Smith 2007).

Every output of every block is a whole number of steps, 0 to 2^20, of its range. Adding or removing one entity changes
one block, and so each of the m sums by at most 2^20: by 2^20·√m in L2 together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction

from enclave_runner.contract.errors import Failed
from enclave_runner.contract.privacy import PrivacyLoss, number
from enclave_runner.contract.receipt import DPTable, Measure
from enclave_runner.contract.script import ScriptJob, ScriptOutput
from enclave_runner.dp.conversion import epsilon_of
from enclave_runner.dp.mechanism import Mechanism, gaussian
from enclave_runner.egress.histogram import histogram_loss
from enclave_runner.egress.table import fraction_text, width_text
from enclave_runner.kinds.tasks import CELL_BYTES, STEPS

PLACES = 6  # decimals below the size of an output's range


def script_measures(job: ScriptJob) -> tuple[Measure, ...]:
    """Each output with the half width of the 95 % interval that its noise alone gives."""
    return tuple(Measure(name=output.name, unit="", half_width=_width(job, output)) for output in job.outputs)


def block_cells(answer: bytes | None, outputs: int) -> tuple[int, ...]:
    """A block's answer, whoever wrote it: the middle of every range unless it is exactly that many steps."""
    middle = (STEPS // 2,) * outputs
    if answer is None or len(answer) != CELL_BYTES * outputs:
        return middle
    cells = tuple(int.from_bytes(answer[at : at + CELL_BYTES], "big") for at in range(0, len(answer), CELL_BYTES))
    return cells if max(cells) <= STEPS else middle


def release_means(job: ScriptJob, entity_set: str, blocks: Sequence[Sequence[int]]) -> DPTable:
    """The noisy mean of every output.

    Raises:
        Failed: `egress.shape` when there are not as many blocks, outputs and steps as the job fixes.
    """
    outputs = len(job.outputs)
    if len(blocks) != job.blocks or any(len(cells) != outputs for cells in blocks):
        raise Failed("egress.shape")
    if any(not 0 <= cell <= STEPS for cells in blocks for cell in cells):
        raise Failed("egress.shape")
    noisy = _mechanism(job).add([sum(column) for column in zip(*blocks, strict=True)])
    loss = histogram_loss(job.budget)
    return DPTable(
        keys=("output",),
        measures=(Measure(name="value", unit="", half_width=""),),
        rows=tuple(
            (output.name, fraction_text(_value(job, output, total), _digits(output)))
            for output, total in zip(job.outputs, noisy, strict=True)
        ),
        half_widths=tuple((_width(job, output),) for output in job.outputs),
        loss=PrivacyLoss(entity_set=entity_set, pico_rho=loss),
        epsilon=f"{epsilon_of(loss, float(number(job.budget.delta))):.4f}",
        delta=job.budget.delta,
    )


def sensitivity(outputs: int) -> int:
    """L2, in steps, rounded up: of all the sums together."""
    return math.isqrt(STEPS * STEPS * outputs - 1) + 1


def _mechanism(job: ScriptJob) -> Mechanism:
    return gaussian(sensitivity(len(job.outputs)), histogram_loss(job.budget))


def _value(job: ScriptJob, output: ScriptOutput, total: int) -> Fraction:
    low, high = Fraction(number(output.low)), Fraction(number(output.high))
    return low + (high - low) * Fraction(total, STEPS * job.blocks)


def _width(job: ScriptJob, output: ScriptOutput) -> str:
    span = float(number(output.high) - number(output.low))
    return width_text(_mechanism(job).half_width / (STEPS * job.blocks) * span, _digits(output), is_whole=False) or ""


def _digits(output: ScriptOutput) -> int:
    span: Decimal = number(output.high) - number(output.low)
    return min(30, max(0, PLACES - span.adjusted()))
