"""The exact vectors of a DP query: fixed shape, every public group, integers only."""

from __future__ import annotations

import math

import duckdb

from enclave_runner.kinds.engine import engine, load_extract
from enclave_runner.kinds.sql_gate import checked
from enclave_runner.kinds.tasks import Aggregation, CellQuery, Vectors


def run(task: Aggregation, descriptors: list[int]) -> Vectors:
    """Sum by group inside DuckDB, fill the empty groups, coarsen by flooring."""
    with engine() as connection:
        load_extract(connection, descriptors[0], task.tables)
        found = [vectors_of(connection, query) for query in task.queries]
    coarsened = [
        tuple(cell // coarsening for cell in vector)
        for vectors, coarsening in zip(found, task.coarsenings, strict=True)
        for vector in vectors
    ]
    return Vectors(vectors=tuple(coarsened))


def vectors_of(connection: duckdb.DuckDBPyConnection, query: CellQuery) -> list[list[int]]:
    """One vector per sum, over all cells in the order of the axes; rows of other keys are left out."""
    rows = connection.execute(checked(connection, query.sql)).fetchall()
    sizes = [axis if isinstance(axis, int) else len(axis) for axis in query.axes]
    places = [None if isinstance(axis, int) else {label: at for at, label in enumerate(axis)} for axis in query.axes]
    cells = math.prod(sizes)
    vectors = [[0] * cells for _ in range(query.width)]
    for row in rows:
        index = 0
        for key, size, place in zip(row, sizes, places, strict=False):
            at = key if place is None else place.get(key)
            if at is None or not 0 <= at < size:
                break
            index = index * size + at
        else:
            for vector, cell in zip(vectors, row[len(sizes) :], strict=True):
                vector[index] = int(cell)
    return vectors
