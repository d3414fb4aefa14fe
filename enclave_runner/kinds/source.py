"""The source of an import as a table expression of texts: the header must be the catalogue's, or nothing is read."""

from __future__ import annotations

import csv
import gzip
import io
import os
import zlib

import duckdb

from enclave_runner.contract.wire import FileFormat
from enclave_runner.kinds.engine import path_of
from enclave_runner.kinds.tasks import Intake
from enclave_runner.plan.render import literal
from enclave_runner.plan.tables import quote

GZIP_MAGIC = b"\x1f\x8b"
HEAD_BYTES = 1 << 16
# An open quote that runs over a line end takes an unknown number of good rows with it, all counted as one rejection.
# The text of a rejected line is kept up to 10 000 characters.
SWALLOWED = (
    "SELECT count(*) FROM reject_errors WHERE error_type = 'UNQUOTED VALUE' "
    "AND (length(csv_line) >= 10000 OR regexp_matches(rtrim(csv_line, chr(13) || chr(10)), '[\\r\\n]'))"
)


class UnreadableSourceError(Exception):
    """The file is not what it was said to be; carries the rule and its facts."""

    def __init__(self, rule: str, **facts: str) -> None:
        super().__init__(rule)
        self.rule, self.facts = rule, facts


def table_of(connection: duckdb.DuckDBPyConnection, task: Intake, source: int, head: int) -> str:
    """A table expression over the source with every declared column as text.

    Raises:
        UnreadableSourceError: `import.format`, `import.header`.
    """
    names = [column.name for column in task.spec.columns]
    if task.format is FileFormat.PARQUET:
        return _parquet(connection, names, source)
    order = _header(os.pread(head, HEAD_BYTES, 0), names) if task.header else names
    columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in order)
    return (
        f"read_csv('{path_of(source)}', auto_detect = false, header = {str(task.header).lower()}, "
        f"columns = {{{columns}}}, delim = ',', quote = '\"', escape = '\"', strict_mode = true, null_padding = false, "
        "compression = 'none', store_rejects = true, max_line_size = 1048576)"
    )


def malformed_rows(connection: duckdb.DuckDBPyConnection, task: Intake, listed: int) -> tuple[int, list[int]]:
    """How many rows were no CSV rows at all, and the first of their numbers, once the source has been read.

    Raises:
        UnreadableSourceError: `import.format` when such a row may have taken good ones with it.
    """
    if task.format is FileFormat.PARQUET:
        return 0, []
    (swallowed,) = connection.execute(SWALLOWED).fetchall()[0]
    if swallowed:
        raise UnreadableSourceError("import.format")
    skipped = 1 if task.header else 0
    (count,) = connection.execute("SELECT count(DISTINCT line) FROM reject_errors").fetchall()[0]
    rows = connection.execute(f"SELECT DISTINCT line FROM reject_errors ORDER BY line LIMIT {listed}").fetchall()
    return count, [int(line) - skipped for (line,) in rows]


def _parquet(connection: duckdb.DuckDBPyConnection, names: list[str], source: int) -> str:
    try:
        found = connection.execute(f"DESCRIBE FROM read_parquet('{path_of(source)}')").fetchall()
    except duckdb.Error:
        raise UnreadableSourceError("import.format") from None
    _match_header([row[0] for row in found], names)
    texts = ", ".join(f"CAST({quote(name)} AS VARCHAR) AS {quote(name)}" for name in names)
    return f"(SELECT {texts} FROM read_parquet('{path_of(source)}'))"


def _header(head: bytes, names: list[str]) -> list[str]:
    packed = head.startswith(GZIP_MAGIC)
    try:
        if packed:
            with gzip.GzipFile(fileobj=io.BytesIO(head)) as file:
                head = file.readline(HEAD_BYTES)
        text = head.decode("utf-8-sig", errors="ignore" if not packed else "strict")
        first = next(csv.reader(io.StringIO(text, newline=""), strict=True), [])
    except (csv.Error, OSError, EOFError, UnicodeDecodeError, zlib.error):
        raise UnreadableSourceError("import.format") from None
    _match_header(first, names)
    return first


def _match_header(found: list[str], names: list[str]) -> None:
    """Refuse by position or by the catalogue's own name: a wrong header may be a row of data, so it is not quoted."""
    for position, name in enumerate(found, start=1):
        if name not in names or name in found[: position - 1]:
            raise UnreadableSourceError("import.header", column=f"#{position}")
    for name in names:
        if name not in found:
            raise UnreadableSourceError("import.header", column=name)
