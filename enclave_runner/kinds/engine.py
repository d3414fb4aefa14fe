"""DuckDB inside the jail, locked down as defence in depth; the jail is the boundary."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

OPEN_SETTINGS = (
    "SET autoinstall_known_extensions = false",
    "SET autoload_known_extensions = false",
    "SET allow_community_extensions = false",
    "SET allow_persistent_secrets = false",
    "SET python_enable_replacements = false",
    "SET python_scan_all_frames = false",
    "SET enable_external_file_cache = false",
    "SET enable_logging = false",
    "SET catalog_error_max_schemas = 0",
    "SET max_expression_depth = 250",
    "SET temp_directory = '/scratch/spill'",
    "SET max_temp_directory_size = '48MB'",
    "SET threads = 2",
    "SET memory_limit = '2GB'",
    "SET TimeZone = 'UTC'",
)
# Order matters: external access first, then the file system, then the lock that refuses every later change.
LOCK_SETTINGS = (
    "SET enable_external_access = false",
    "SET disabled_filesystems = 'LocalFileSystem'",
    "SET lock_configuration = true",
)


@contextmanager
def engine() -> Iterator[duckdb.DuckDBPyConnection]:
    """A fresh in-memory DuckDB that may still open the descriptors it is handed. Out of memory becomes MemoryError."""
    connection = duckdb.connect(":memory:")
    try:
        for setting in OPEN_SETTINGS:
            connection.execute(setting)
        yield connection
    except duckdb.OutOfMemoryException:
        raise MemoryError from None
    finally:
        connection.close()


def load_extract(connection: duckdb.DuckDBPyConnection, descriptor: int) -> None:
    """Load the extract as table `extract`, then close every door: no files, no settings."""
    connection.execute(f"CREATE TABLE extract AS FROM read_parquet('{path_of(descriptor)}')")
    for setting in LOCK_SETTINGS:
        connection.execute(setting)


def path_of(descriptor: int) -> str:
    """The path by which DuckDB opens a descriptor."""
    return f"/proc/self/fd/{descriptor}"
