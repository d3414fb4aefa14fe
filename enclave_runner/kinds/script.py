"""An operator's script inside the jail: dealing entities to blocks, trying the script, running it over one block.

A block's worker holds its own block and the script, and nothing of any other block. Whatever the script does to its own
process, it can change the few numbers of that one block and nothing else.
"""

from __future__ import annotations

import hashlib
import math
import os
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from enclave_runner.contract.dataset import Column, ColumnType
from enclave_runner.kinds.engine import engine, load_extract
from enclave_runner.kinds.sql_gate import checked
from enclave_runner.kinds.tasks import CELL_BYTES, MAX_FACT, STEPS, Dealing, Declined, Done, ScriptBlock, ScriptTrial

NAME = "script.py"
MADE_UP_ROWS = 24
UNIT_NUMBER_BYTES = 8
Data = dict[str, np.ndarray]


class ScriptError(Exception):
    """What a script has done other than it should, in words that hold none of its data."""


def deal(task: Dealing, descriptors: list[int]) -> Done:
    """Write the blocks `first`, `first` + 1, … as Arrow streams into the descriptors behind the extract (0).

    Each entity's block is drawn by SHAKE-256 of the job's secret: independent and uniform, so that adding one entity
    moves no other one. Rows of a block stand in the order of their own values: not even their order tells of others.
    """
    extract, *targets = descriptors
    with engine() as connection:
        load_extract(connection, extract)
        table: pa.Table = connection.execute(checked(connection, task.sql)).to_arrow_table()
    names = [f"c{index}" for index in range(table.num_columns)]
    table = table.rename_columns(names)
    units = np.asarray(table.column(names[-1])) if task.unit else np.arange(table.num_rows)
    rows = table.drop_columns(names[-1:]) if task.unit else table
    dealt = _dealt(bytes.fromhex(task.secret), int(units.max()) + 1 if len(units) else 0, task.blocks)
    owners = dealt[units.astype(np.int64)]
    for index, target in enumerate(targets):
        own = rows.filter(pa.array(owners == task.first + index))
        _write(own.sort_by([(name, "ascending") for name in names[: rows.num_columns]]), task.names, target)
    return Done()


def attempt(task: ScriptTrial) -> Done | Declined:
    """Compile the script and run it over made-up rows, before anything is spent: what it raises may be told."""
    try:
        values = _run(task.script, _made_up(task.columns), len(task.ranges))
        for value in values:
            float(value)
    except ScriptError as error:
        return Declined.quoting("script.trial", {"what": str(error)})
    except SyntaxError as error:
        what = f"{type(error).__name__} in line {error.lineno or 0}: {error.msg}"
        return Declined.quoting("script.trial", {"what": what[:MAX_FACT].rstrip(".")})
    except BaseException as error:
        return Declined.quoting("script.trial", {"what": _told(error)})
    return Done()


def run(task: ScriptBlock, descriptors: list[int]) -> bytes:
    """Each output as so many steps of its range, eight bytes each; the middle for all of them when anything fails.

    No exception leaves: which block failed is nobody's business.
    """
    middle = [STEPS // 2] * len(task.ranges)
    try:
        values = _run(task.script, _read(task.columns, descriptors[0]), len(task.ranges))
        steps = [_step(float(value), low, high) for value, (low, high) in zip(values, task.ranges, strict=True)]
    except BaseException:
        steps = middle
    return b"".join(step.to_bytes(CELL_BYTES, "big") for step in steps)


def _run(script: str, data: Data, outputs: int) -> Sequence[Any]:
    warnings.simplefilter("ignore")
    scope: dict[str, Any] = {"__name__": "script", "__builtins__": __builtins__}
    exec(compile(script, NAME, "exec", dont_inherit=True), scope)  # noqa: S102  # the jail is the boundary
    main: Callable[[Data], Any] | None = scope.get("main")
    if not callable(main):
        raise ScriptError("it defines no main(data)")
    answer = main(data)
    values = [answer] if np.ndim(answer) == 0 else list(answer)
    if len(values) != outputs:
        raise ScriptError(f"main(data) gave {len(values)} numbers, and {outputs} outputs are declared")
    return values


def _step(value: float, low: float, high: float) -> int:
    if not math.isfinite(value):
        raise ScriptError("no finite number")
    return min(max(math.floor((min(max(value, low), high) - low) / (high - low) * STEPS), 0), STEPS)


def _told(error: BaseException) -> str:
    """The class and the line of the operator's own text."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == NAME]
    place = f" in line {lines[-1]}" if lines else ""
    return f"{type(error).__name__}{place}: {error}"[:MAX_FACT].rstrip(".")


def _dealt(secret: bytes, units: int, blocks: int) -> np.ndarray:
    drawn = hashlib.shake_256(secret).digest(UNIT_NUMBER_BYTES * units)
    return (np.frombuffer(drawn, dtype="<u8") % np.uint64(blocks)).astype(np.int64)


def _write(table: pa.Table, names: tuple[str, ...], target: int) -> None:
    sink = pa.BufferOutputStream()
    renamed = table.rename_columns(list(names))
    with pa.ipc.new_stream(sink, renamed.schema) as writer:
        writer.write_table(renamed)
    left = memoryview(sink.getvalue())
    while left:
        left = left[os.write(target, left) :]


def _read(columns: tuple[tuple[str, ColumnType, int], ...], descriptor: int) -> Data:
    content = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    table = pa.ipc.open_stream(content).read_all()
    return {name: _array(table.column(name).to_pylist(), kind, scale) for name, kind, scale in columns}


def _array(cells: Sequence[Any], kind: ColumnType, scale: int) -> np.ndarray:
    """Numbers and truths as float64 in their own unit (missing: NaN), dates as days (NaT), texts as objects ("")."""
    if kind is ColumnType.TEXT:
        return np.array(["" if cell is None else cell for cell in cells], dtype=object)
    if kind is ColumnType.DATE:
        return np.array(cells, dtype="datetime64[D]")
    numbers = np.array([math.nan if cell is None else cell for cell in cells], dtype=np.float64)
    return numbers / 10**scale if kind is ColumnType.DECIMAL else numbers


def _made_up(columns: tuple[Column, ...]) -> Data:
    """A block from the catalogue alone: values spread over each column's bounds or domain."""
    return {column.name: _made_up_column(column) for column in columns}


def _made_up_column(column: Column) -> np.ndarray:
    low, high = column.bounds or (0, 10 * 10**column.scale)
    spread: list[Any] = [low + (high - low) * row // (MADE_UP_ROWS - 1) for row in range(MADE_UP_ROWS)]
    if column.domain is not None:
        spread = [column.domain[row % len(column.domain)] for row in range(MADE_UP_ROWS)]
    if column.type is ColumnType.TEXT:
        spread = [str(cell) for cell in spread]
    elif column.type is ColumnType.BOOLEAN:
        spread = [row % 2 for row in range(MADE_UP_ROWS)]
    elif column.domain is not None:
        spread = [float(cell) for cell in spread]
    return _array(spread, column.type, column.scale)
