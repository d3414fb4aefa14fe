"""DuckDB inside the jail, locked down as defence in depth; the jail is the boundary."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

OPEN_SETTINGS = (
    "SET temp_directory = '/scratch/spill'",
    "SET max_temp_directory_size = '48MB'",
    "SET secret_directory = '/nowhere'",
    "SET autoinstall_known_extensions = false",
    "SET autoload_known_extensions = false",
    "SET allow_community_extensions = false",
    "SET allow_extension_repositories = 'forbidden'",
    "SET allow_persistent_secrets = false",
    "SET allow_unredacted_secrets = false",
    "SET python_enable_replacements = false",
    "SET python_scan_all_frames = false",
    "SET max_expression_depth = 250",
    "SET enable_external_file_cache = false",
    "SET catalog_error_max_schemas = 0",
    "SET enable_logging = false",
    "SET enable_progress_bar = false",
    "SET TimeZone = 'UTC'",
)
# A second bound below the launcher's deadline, which alone reaches into a scalar call; and no operator takes it all.
JOB_SETTINGS = ("SET max_execution_time = 3600000", "SET operator_memory_limit = '1536MB'")
# Order matters: external access first, then the file system, then the lock that refuses every later change.
NO_ACCESS = "SET enable_external_access = false"
NO_FILES = "SET disabled_filesystems = 'LocalFileSystem'"
LOCK = "SET lock_configuration = true"
GRANTED = "granted"
STORED = f"{GRANTED}.main.stored"  # the tables of an extract are stored0, stored1, …
SPREAD = f"{GRANTED}.main.spread"

MEMORY_MB = 2048

_ready: list[duckdb.DuckDBPyConnection] = []


def open_ahead() -> None:
    """Open an engine before the fork, for every worker to have a copy of: it takes longer than many a task.

    It has no threads, which would not survive, and no data. Its first parse tree is made here as well.
    """
    connection = _open()
    connection.execute("SELECT json_serialize_sql('SELECT 1')").fetchall()
    _ready.append(connection)


def ready() -> None:
    """Give the engine that this worker's one task will use its threads and its memory."""
    if not _ready:
        _ready.append(_open())
    for setting in ("SET threads = 2", f"SET memory_limit = '{_memory_mb()}MiB'"):
        _ready[-1].execute(setting)


@contextmanager
def engine() -> Iterator[duckdb.DuckDBPyConnection]:
    """A fresh in-memory DuckDB that may still open the descriptors it is handed. Out of memory becomes MemoryError."""
    ready()
    connection = _ready.pop()
    try:
        yield connection
    except duckdb.OutOfMemoryException:
        raise MemoryError from None
    finally:
        connection.close()


def _open() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(":memory:", config={"threads": 1, "async_threads": 0})
    for setting in OPEN_SETTINGS:
        connection.execute(setting)
    return connection


def _memory_mb() -> int:
    """Two thirds of what the kernel allows this worker: the engine is to spill or to refuse before the kernel does."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_DATA)
    return MEMORY_MB if allowed == resource.RLIM_INFINITY else min(MEMORY_MB, (allowed >> 20) * 2 // 3)


def load_extract(connection: duckdb.DuckDBPyConnection, descriptor: int, tables: int = 1) -> None:
    """Attach the extract, read-only, its tables as t0, t1, …; then close every door: no files, no settings."""
    connection.execute(f"ATTACH '{path_of(descriptor)}' AS {GRANTED} (READ_ONLY)")
    for index in range(tables):
        connection.execute(f"CREATE VIEW t{index} AS FROM {STORED}{index}")
    lock_job(connection)


def lock_job(connection: duckdb.DuckDBPyConnection) -> None:
    """No file, not even the attached one by its name; no setting."""
    for setting in (*JOB_SETTINGS, NO_ACCESS, NO_FILES, LOCK):
        connection.execute(setting)


def lock_builder(connection: duckdb.DuckDBPyConnection, *paths: str) -> None:
    """No file but those `paths`, what is attached and the spill; no setting."""
    if paths:
        listed = ", ".join(f"'{path}'" for path in paths)
        connection.execute(f"SET allowed_paths = [{listed}]")
    for setting in (NO_ACCESS, LOCK):
        connection.execute(setting)


def path_of(descriptor: int) -> str:
    """The path by which DuckDB opens a descriptor."""
    return f"/proc/self/fd/{descriptor}"
