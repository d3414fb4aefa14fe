"""Keys that are not public, with the exact numbers that decide, once they are noisy, whether each may be told."""

from __future__ import annotations

from enclave_runner.kinds.engine import engine, load_extract
from enclave_runner.kinds.sql_gate import checked
from enclave_runner.kinds.tasks import Discovery, KeyedVectors

MAX_KEY = 200
Row = tuple[object, ...]


class TooManyKeysError(Exception):
    """More keys than the noisy count of them, which was looked at before, let expect."""


def run(task: Discovery, descriptors: list[int]) -> KeyedVectors:
    """Every key with its units, in the order of the key; or, of the keys that are told, each query's sums, 0 where a
    query has no row.

    Keys that are longer than 200 characters or cannot be printed are left out.
    """
    with engine() as connection:
        load_extract(connection, descriptors[0], task.tables)

        def found(sql: str) -> dict[Row, Row]:
            rows = connection.execute(checked(connection, sql)).fetchall()
            return {row[: task.depth]: row[task.depth :] for row in rows}

        if task.keys:
            vectors: list[tuple[int, ...]] = []
            for query in task.queries:
                sums, empty = found(query.sql), (0,) * query.width
                for index in range(query.width):
                    vectors.append(tuple(int(str(sums.get(key, empty)[index])) // task.coarsening for key in task.keys))
            return KeyedVectors(keys=task.keys, units=(0,) * len(task.keys), vectors=tuple(vectors))
        units = found(task.candidates)
    keys = sorted(tuple(map(str, key)) for key in units if all(map(_is_printable, key)))
    if len(keys) > task.most:
        raise TooManyKeysError
    return KeyedVectors(keys=tuple(keys), units=tuple(int(str(units[key][0])) for key in keys), vectors=())


def _is_printable(key: object) -> bool:
    return isinstance(key, str) and len(key) <= MAX_KEY and key.isprintable()
