"""From an extract to the plain table and to keyword records: the one place where a product's rows are read.

Row by row in Python: identifiers and values have to be spelled and hashed by the code that clients use as well.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from enclave_runner.contract.check import Check, CheckKind
from enclave_runner.contract.dataset import Column, ColumnType
from enclave_runner.contract.protocols.canonical import claim_digest, claim_text, keyword, subject_text
from enclave_runner.contract.protocols.cell import LEVEL, NO, YES
from enclave_runner.contract.scoring import ScoreCheck
from enclave_runner.kinds.engine import engine, load_extract
from enclave_runner.kinds.tasks import Declined
from enclave_runner.plan.tables import quote
from enclave_runner.private import plain
from enclave_runner.private.plain import ManyRowsError, Value
from enclave_runner.private.tasks import KEYWORD_BYTES, Subject, Tabulated, Tabulating

BATCH = 1 << 16
CACHED = 1 << 16
Raw = int | str | bool
# From a row's cells to what is known of it.
Reading = Callable[[tuple[Raw | None, ...]], Value | None]


def run(task: Tabulating, descriptors: list[int]) -> Tabulated | Declined:
    """Write the plain table into the second descriptor, and records into the third where there is one."""
    extract, table, *records = descriptors
    with engine() as connection:
        load_extract(connection, extract)
        rows = int(connection.execute("SELECT count(*) FROM t0").fetchall()[0][0])
        connection.execute(selection(task))
        made = Made(task.subject, rows, is_keyed=bool(records))
        while batch := connection.fetchmany(BATCH):
            made.add(batch)
    try:
        order = plain.write(table, made.digests, made.values, made.known)
    except ManyRowsError:
        return Declined(rule="verification.many-rows", facts={})
    return Tabulated(rows=rows, records=sum(made.write_records(target, order) for target in records))


def selection(task: Tabulating) -> str:
    """The SQL that gives the key as text and every attribute as a number, a truth value or a text."""
    listed = [f"CAST({quote(task.entity_column)} AS VARCHAR)"]
    for column in task.subject.columns:
        name = quote(column.name)
        is_date = column.type is ColumnType.DATE
        listed.append(f"date_diff('day', DATE '1970-01-01', {name})" if is_date else name)
    return f"SELECT {', '.join(listed)} FROM t0"


class Made:
    """The columns of a plain table on their way, and the keyword records beside them."""

    def __init__(self, subject: Subject, rows: int, is_keyed: bool) -> None:
        self._subject, self._reading, self._filled = subject, reading_of(subject), 0
        self._code = label_of(subject) if is_keyed else None
        kind = plain.value_type(subject)
        self.digests = np.zeros((rows, 2), "<u8")
        self.values = np.zeros((rows, *kind.shape), kind.base)
        self.known = np.zeros(rows, np.uint8)
        self._records = np.zeros((rows, KEYWORD_BYTES) if is_keyed else (0, KEYWORD_BYTES), np.uint8)
        self._is_record = np.zeros(len(self._records), bool)

    def add(self, batch: list[tuple[Raw | None, ...]]) -> None:
        """Some rows: the key, then the attributes."""
        key_kind, secret = self._subject.key_kind, self._subject.secret
        subjects = [subject_text(str(key), key_kind) for key, *_ in batch]
        values = [self._reading(tuple(cells)) for _, *cells in batch]
        first, last = self._filled, self._filled + len(batch)
        digests = b"".join(plain.digest_of(subject, secret) for subject in subjects)
        self.digests[first:last] = np.frombuffer(digests, "<u8").reshape(-1, 2)
        self.known[first:last] = [value is not None for value in values]
        self.values[first:last] = self._stored(values)
        self._filled = last
        if self._code is not None:
            records = [self._code(subject, value) for subject, value in zip(subjects, values, strict=True)]
            joined = b"".join(bytes(KEYWORD_BYTES) if record is None else record for record in records)
            self._records[first:last] = np.frombuffer(joined, np.uint8).reshape(-1, KEYWORD_BYTES)
            self._is_record[first:last] = [record is not None for record in records]

    def _stored(self, values: list[Value | None]) -> NDArray[Any]:
        if self.values.ndim == 1:
            return np.array([value or 0 for value in values], self.values.dtype)
        width = self.values.shape[1]
        joined = b"".join(value if isinstance(value, bytes) else bytes(width) for value in values)
        return np.frombuffer(joined, np.uint8).reshape(-1, width)

    def write_records(self, target: int, order: NDArray[np.int64]) -> int:
        """The records in the order of the table, which only its secret explains; how many there are."""
        written = 0
        for first in range(0, len(order), BATCH):
            some = order[first : first + BATCH]
            view = memoryview(self._records[some[self._is_record[some]]].tobytes())
            written += len(view) // KEYWORD_BYTES
            while view:
                view = view[os.write(target, view) :]
        return written


def reading_of(subject: Subject) -> Reading:
    """How the check reads a row: what a stored value is, None where nothing is known."""
    check, columns = subject.check, subject.columns
    if isinstance(check, ScoreCheck):
        return points_of(check)
    by_value = _by_value(check, columns[0])
    return lambda cells: None if cells[0] is None else by_value(cells[0])


def _by_value(check: Check, column: Column) -> Callable[[Raw], Value]:
    """Values repeat, so each is worked out once."""
    match check.kind:
        case CheckKind.EXISTS:
            return lambda raw: YES
        case CheckKind.MEMBER:
            members = {claim_text(member, column.type, column.scale) for member in check.members}
            return lru_cache(CACHED)(lambda raw: YES if _spelled(raw, column) in members else NO)
        case CheckKind.LEVEL:
            return lru_cache(CACHED)(lambda raw: plain.band_of(_number(raw), check.edges))
        case CheckKind.EQUALS if column.type is ColumnType.TEXT:
            return lru_cache(CACHED)(lambda raw: claim_digest(str(raw)))
    return _number


def points_of(check: ScoreCheck) -> Reading:
    """The platform's points of a row: Σ weight · ⌊clip(cell) / step⌋, nothing for an empty cell."""
    return lambda cells: sum(
        term.points(_number(raw)) for term, raw in zip(check.terms, cells, strict=True) if raw is not None
    )


def label_of(subject: Subject) -> Callable[[str, Value | None], bytes | None]:
    """From a subject and what is known of it to its keyword record, None where the table has none of it.

    What is not in the table is answered like nobody on record, so a row whose answer is that already is left out: it
    could be told from nobody, where the check does not say unknown, by its mere presence.
    """
    check, column = subject.check, subject.columns[0]
    if not isinstance(check, Check) or check.kind is CheckKind.AT_LEAST:
        raise TypeError("no labels for a score, nor for a threshold that is not known yet")

    def record(spelled: str, value: Value | None) -> bytes | None:
        if value is None:
            return None
        if check.kind is CheckKind.EQUALS:
            return keyword(spelled, plain.digest_of_value(value, column)) + YES.to_bytes(2, "little")
        if not isinstance(value, int) or (value in (NO, LEVEL) and not check.says_unknown):
            return None
        return keyword(spelled) + value.to_bytes(2, "little")

    return record


def _number(raw: Raw) -> int:
    if isinstance(raw, str):
        raise TypeError("a text has no order")
    return int(raw)


def _spelled(raw: Raw, column: Column) -> str:
    return raw if isinstance(raw, str) else plain.spelled(int(raw), column)
