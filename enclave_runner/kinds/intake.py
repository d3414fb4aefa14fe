"""Import: one pass over the source, every row checked in SQL against the declared spec, rejections by number and rule.

First pass: source → typed rows with a row number and the first broken rule, streamed into the store. Second pass:
duplicate
keys, and the accepted rows alone into the final file. Types, bounds and domains are declared, never inferred.
"""

from __future__ import annotations

import csv
import gzip
import io
import os

import duckdb

from enclave_runner.contract.dataset import KeyKind
from enclave_runner.contract.wire import FileFormat, Rejection
from enclave_runner.kinds.checks import row_checks, typed
from enclave_runner.kinds.engine import engine, path_of
from enclave_runner.kinds.tasks import Declined, Intake, IntakeAnswer
from enclave_runner.plan.render import literal, quote

LISTED = 1000
HEAD_BYTES = 1 << 16
ROW, BROKEN = "_row", "_broken"
# An open quote that runs over a line end takes an unknown number of good rows with it, all counted as one rejection.
# The text of a rejected line is kept up to 10 000 characters.
SWALLOWED = (
    "SELECT count(*) FROM reject_errors WHERE error_type = 'UNQUOTED VALUE' "
    "AND (length(csv_line) >= 10000 OR regexp_matches(rtrim(csv_line, chr(13) || chr(10)), '[\\r\\n]'))"
)
STAGE_OPTIONS = "(FORMAT parquet, USE_TMP_FILE false)"
FINAL_OPTIONS = "(FORMAT parquet, COMPRESSION zstd, USE_TMP_FILE false)"


class UnreadableSourceError(Exception):
    """The file is not what it was said to be; carries the rule and its facts."""

    def __init__(self, rule: str, **facts: str) -> None:
        super().__init__(rule)
        self.rule, self.facts = rule, facts


def run(task: Intake, descriptors: list[int]) -> IntakeAnswer | Declined:
    """Descriptors: the source, an empty stage file, the empty final file."""
    source, stage, final = descriptors
    try:
        with engine() as connection:
            select = _read_source(connection, task, source)
            _stage(connection, task, select, stage)
            malformed = _malformed(connection, task)
            return _finish(connection, task, stage, final, malformed)
    except UnreadableSourceError as error:
        return Declined(rule=error.rule, facts=error.facts)


def _read_source(connection: duckdb.DuckDBPyConnection, task: Intake, source: int) -> str:
    """A table expression over the source with every declared column as text."""
    names = [column.name for column in task.spec.columns]
    if task.format is FileFormat.PARQUET:
        return _read_parquet(connection, names, source)
    packed = os.pread(source, 2, 0) == b"\x1f\x8b"
    order = _header(source, packed, names) if task.header else names
    columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in order)
    return (
        f"read_csv('{path_of(source)}', auto_detect = false, header = {str(task.header).lower()}, "
        f"columns = {{{columns}}}, delim = ',', quote = '\"', escape = '\"', strict_mode = true, null_padding = false, "
        f"compression = '{'gzip' if packed else 'none'}', store_rejects = true, max_line_size = 1048576)"
    )


def _read_parquet(connection: duckdb.DuckDBPyConnection, names: list[str], source: int) -> str:
    try:
        found = connection.execute(f"DESCRIBE FROM read_parquet('{path_of(source)}')").fetchall()
    except duckdb.Error:
        raise UnreadableSourceError("import.format") from None
    _match_header([row[0] for row in found], names)
    texts = ", ".join(f"CAST({quote(name)} AS VARCHAR) AS {quote(name)}" for name in names)
    return f"(SELECT {texts} FROM read_parquet('{path_of(source)}'))"


def _header(source: int, packed: bool, names: list[str]) -> list[str]:
    head = os.pread(source, HEAD_BYTES, 0)
    try:
        if packed:
            with gzip.GzipFile(fileobj=io.BytesIO(head)) as file:
                head = file.readline(HEAD_BYTES)
        text = head.decode("utf-8-sig", errors="ignore" if not packed else "strict")
        first = next(csv.reader(io.StringIO(text, newline=""), strict=True), [])
    except (csv.Error, OSError, EOFError, UnicodeDecodeError):
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


def _stage(connection: duckdb.DuckDBPyConnection, task: Intake, select: str, stage: int) -> None:
    checks = row_checks(task.spec)
    columns = [f"{typed(column)} AS {quote(column.name)}" for column in task.spec.columns]
    sql = (
        f"COPY (SELECT row_number() OVER () AS {ROW}, {checks} AS {BROKEN}, {', '.join(columns)} FROM {select}) "
        f"TO '{path_of(stage)}' {STAGE_OPTIONS}"
    )
    try:
        connection.execute(sql)
    except duckdb.OutOfMemoryException:
        raise
    except duckdb.Error:
        raise UnreadableSourceError("import.format") from None


def _malformed(connection: duckdb.DuckDBPyConnection, task: Intake) -> list[int]:
    """Numbers of the rows that were no CSV rows at all, ascending."""
    if task.format is FileFormat.PARQUET:
        return []
    (swallowed,) = connection.execute(SWALLOWED).fetchall()[0]
    if swallowed:
        raise UnreadableSourceError("import.format")
    skipped = 1 if task.header else 0
    rows = connection.execute("SELECT DISTINCT line FROM reject_errors ORDER BY line").fetchall()
    return [int(line) - skipped for (line,) in rows]


def _finish(
    connection: duckdb.DuckDBPyConnection, task: Intake, stage: int, final: int, malformed: list[int]
) -> IntakeAnswer:
    spec, staged = task.spec, f"read_parquet('{path_of(stage)}')"
    key = ROW if spec.key_kind is KeyKind.ROW else quote(spec.entity_column)
    connection.execute(f"CREATE VIEW staged AS SELECT *, {key} AS _key FROM {staged}")
    connection.execute(f"CREATE TABLE duplicate_rows ({ROW} BIGINT)")
    if spec.unique and spec.key_kind is not KeyKind.ROW:
        # Of rows with one key the first is kept: which of them is right is the department's to say.
        connection.execute(
            f"INSERT INTO duplicate_rows SELECT s.{ROW} FROM staged s "
            f"JOIN (SELECT _key, min({ROW}) AS first FROM staged WHERE {BROKEN} IS NULL GROUP BY _key "
            "HAVING count(*) > 1) d USING (_key) "
            f"WHERE s.{BROKEN} IS NULL AND s.{ROW} > d.first"
        )
    kept = f"FROM staged WHERE {BROKEN} IS NULL AND {ROW} NOT IN (SELECT {ROW} FROM duplicate_rows)"
    names = [quote(column.name) for column in spec.columns]
    if spec.key_kind is KeyKind.ROW:
        names.append(f"{ROW} AS {quote(spec.entity_column)}")
    connection.execute(f"COPY (SELECT {', '.join(names)} {kept}) TO '{path_of(final)}' {FINAL_OPTIONS}")
    accepted, entities = connection.execute(f"SELECT count(*), count(DISTINCT _key) {kept}").fetchall()[0]
    (total,) = connection.execute("SELECT count(*) FROM staged").fetchall()[0]
    return IntakeAnswer(
        accepted=accepted,
        rejected=total - accepted + len(malformed),
        rejections=_rejections(connection, malformed),
        entities=entities,
    )


def _rejections(connection: duckdb.DuckDBPyConnection, malformed: list[int]) -> tuple[Rejection, ...]:
    broken = connection.execute(
        f"SELECT {ROW}, {BROKEN} FROM staged WHERE {BROKEN} IS NOT NULL "
        f"UNION ALL SELECT {ROW}, ':row.duplicate' FROM duplicate_rows ORDER BY {ROW} LIMIT {LISTED}"
    ).fetchall()
    listed = [Rejection(row=row, column="", rule="row.malformed") for row in malformed[:LISTED]]
    for number, mark in broken:
        column, rule = mark.split(":")
        listed.append(Rejection(row=_number_in_file(number, malformed), column=column, rule=rule))
    return tuple(sorted(listed, key=lambda item: item.row)[:LISTED])


def _number_in_file(position: int, malformed: list[int]) -> int:
    """The file's number of the row that is `position`-th among the well-formed ones."""
    for number in malformed:
        if number > position:
            break
        position += 1
    return position
