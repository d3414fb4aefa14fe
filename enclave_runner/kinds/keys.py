"""The entity keys of an import, while it streams by: how many there are, and which rows repeat one.

Only 128-bit digests are kept, in a table that DuckDB may spill; they are compared in slices, so that memory stays
bounded for files of any length.
"""

from __future__ import annotations

import duckdb
import numpy as np
import pyarrow as pa

SLICE_ROWS = 2_000_000
DIGEST_BITS = 128
SLICE_BITS = 10
COMPACT_ROWS = 8_000_000


class Keys:
    """The keys seen so far. With `unique`, each is kept with its row; otherwise only which keys there are."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, unique: bool) -> None:
        self._connection, self._unique = connection, unique
        self._held = self._compacted = 0
        connection.execute("CREATE TABLE keys (digest UHUGEINT, number BIGINT)")

    def add(self, keys: pa.ChunkedArray, numbers: np.ndarray) -> None:
        """The keys of the good rows with these numbers."""
        self._connection.register("batch", pa.table({"key": keys, "number": numbers}))
        number = "number" if self._unique else "NULL"
        self._connection.execute(f"INSERT INTO keys SELECT md5_number(CAST(key AS VARCHAR)), {number} FROM batch")
        self._connection.unregister("batch")
        self._held += len(numbers)
        if not self._unique and self._held > 2 * self._compacted + COMPACT_ROWS:
            self._connection.execute("CREATE OR REPLACE TABLE keys AS SELECT DISTINCT digest, number FROM keys")
            self._held = self._compacted = self._count("SELECT count(*) FROM keys")

    def count(self) -> int:
        """How many different keys."""
        return sum(self._count(f"SELECT count(DISTINCT digest) FROM keys {where}") for where in self._slices())

    def repeated(self) -> np.ndarray:
        """The numbers of the rows whose key an earlier row has, ascending: of rows with one key the first is kept.

        Which of them is right is the department's to say.
        """
        found = [
            self._connection.execute(
                "SELECT k.number FROM keys k JOIN (SELECT digest, min(number) AS first FROM keys "
                f"{where} GROUP BY digest HAVING count(*) > 1) d USING (digest) WHERE k.number > d.first"
            ).fetchnumpy()["number"]
            for where in self._slices()
        ]
        numbers: np.ndarray = np.sort(np.concatenate(found).astype(np.uint64))
        return numbers

    def _slices(self) -> list[str]:
        slices = max(1, min(1 << SLICE_BITS, -(-self._held // SLICE_ROWS)))
        if slices == 1:
            return [""]
        step = (1 << DIGEST_BITS) // slices
        edges = [number * step for number in range(slices)]
        last = [f"AND digest < {edge}::UHUGEINT" for edge in edges[1:]]
        return [f"WHERE digest >= {low}::UHUGEINT {high}" for low, high in zip(edges, [*last, ""], strict=True)]

    def _count(self, sql: str) -> int:
        (number,) = self._connection.execute(sql).fetchall()[0]
        return int(number)
