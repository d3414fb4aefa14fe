"""The exact vector of a DP table: fixed shape, every public group, integers only."""

from __future__ import annotations

from itertools import product

from enclave_runner.kinds.engine import engine, load_extract
from enclave_runner.kinds.sql_gate import checked
from enclave_runner.kinds.tasks import Aggregation, Vectors


def run(task: Aggregation, descriptors: list[int]) -> Vectors:
    """Sum by group inside DuckDB (HUGEINT), fill the empty groups, coarsen by flooring."""
    with engine() as connection:
        load_extract(connection, descriptors[0])
        rows = connection.execute(checked(connection, task.sql)).fetchall()
    depth = len(task.domains)
    sums = {tuple(row[:depth]): row[depth:] for row in rows}
    empty = (0,) * len(task.coarsenings)
    cells = [sums.get(key, empty) for key in product(*task.domains)]
    return Vectors(
        vectors=tuple(
            tuple(int(cell[index]) // coarsening for cell in cells) for index, coarsening in enumerate(task.coarsenings)
        )
    )
