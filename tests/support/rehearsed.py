"""DuckDB with empty tables t0, t1, … as a rehearsal has them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import duckdb

from enclave_runner.contract.dataset import DatasetSpec
from enclave_runner.kinds.rehearsal import SQL_TYPES


@contextmanager
def empty_engine(specs: Sequence[DatasetSpec]) -> Iterator[duckdb.DuckDBPyConnection]:
    """An engine with one empty table for each spec, with what the builder of an extract adds."""
    with duckdb.connect() as connection:
        for index, spec in enumerate(specs):
            columns = [f'"{item.name}" {SQL_TYPES[item.type]}' for item in spec.columns]
            columns += ["_unit UINTEGER", "_rows BIGINT", "_norm BIGINT"]
            connection.execute(f"CREATE TABLE t{index} ({', '.join(columns)})")
        yield connection
