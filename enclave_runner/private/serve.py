"""The serving worker: answers asks over the tables of one product until its connection ends.

It keeps nothing between asks. An ask that breaks ends that ask alone: nothing of an error but one byte goes out.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from enclave_runner.contract.check import Check
from enclave_runner.contract.dataset import Column
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.protocols import equality, oprf, threshold
from enclave_runner.contract.protocols.canonical import DIGEST_BYTES
from enclave_runner.contract.protocols.cell import absent_code
from enclave_runner.kinds.tasks import Done
from enclave_runner.private import kernel, matrix, plain
from enclave_runner.private.asks import (
    ANSWERED,
    BROKEN,
    CODE_BYTES,
    LENGTH_BYTES,
    MAX_ASK_BYTES,
    POINTS_BYTES,
    REFUSED,
    RULES,
    Ask,
    Bucket,
    Choose,
    Equal,
    Evaluate,
    Judge,
    Lookup,
    Open,
    Points,
    unframe,
)
from enclave_runner.private.plain import PlainTable
from enclave_runner.private.tasks import Hidden, Serving

PIECE = 1 << 20


def run(task: Serving, descriptors: list[int]) -> Done:
    """Serve until the supervisor hangs up."""
    table, *between, connection = descriptors
    hidden = HiddenTable.open(task.hidden, between[0]) if task.hidden is not None else None
    serve(Server(task, PlainTable(table, task.subject), hidden), connection)
    return Done()


def serve(server: Server, connection: int) -> None:
    """Read asks and write replies, one after the other."""
    while True:
        head = _read(connection, LENGTH_BYTES)
        length = int.from_bytes(head, "big")
        if len(head) < LENGTH_BYTES or length > MAX_ASK_BYTES:
            return
        body = _read(connection, length)
        if len(body) < length:
            return
        view = memoryview(reply_to(server, body))
        while view:
            view = view[os.write(connection, view) :]


def reply_to(server: Server, body: bytes) -> bytes:
    """State and answer. Never raises for what is asked."""
    try:
        return ANSWERED + server.answer(unframe(body))
    except Refused as refused:
        return REFUSED + bytes([RULES.index(refused.rule)]) if refused.rule in RULES else BROKEN
    except Exception:  # its text may hold a subject or a value: it ends here
        return BROKEN


@dataclass(frozen=True)
class HiddenTable:
    """The matrix as it is mapped, its OPRF key, and how many columns a bucket has."""

    matrix: NDArray[np.uint8]
    key: bytes
    bucket_columns: int

    @classmethod
    def open(cls, hidden: Hidden, descriptor: int) -> HiddenTable:
        """Map it; ValueError where it has another size."""
        mapped = mmap.mmap(descriptor, 0, mmap.MAP_PRIVATE, mmap.PROT_READ)
        return cls(
            np.frombuffer(mapped, np.uint8).reshape(hidden.height, hidden.columns), hidden.key, hidden.bucket_columns
        )


class Server:
    """The answers to asks, as bytes of the length that each ask decides."""

    def __init__(
        self, task: Serving, table: PlainTable, hidden: HiddenTable | None, clock: Callable[[], float] = time.time
    ) -> None:
        self._subject, self._secret = task.subject, task.opening_secret
        self._table, self._hidden_table, self._clock = table, hidden, clock

    def answer(self, ask: Ask) -> bytes:
        """The answer.

        Raises:
            Refused: one of `asks.RULES`.
        """
        match ask:
            case Judge():
                return self._judge(ask)
            case Equal():
                return self._equal(ask)
            case Open():
                return b"".join(threshold.open(self._secret, ask.caller, self._clock()))
            case Choose():
                return self._choose(ask)
            case Evaluate():
                evaluated, proof = oprf.evaluate(self._hidden().key, ask.elements)
                return b"".join(evaluated) + proof
            case Bucket():
                return matrix.bucket(self._hidden().matrix, self._hidden().bucket_columns, ask.number)
            case Lookup():
                return kernel.answer(self._hidden().matrix, ask.question)
            case Points():
                return self._points(ask)

    def _judge(self, ask: Judge) -> bytes:
        check, column = self._check(), self._column()
        claims = [plain.read_claim(check, claim, column) for _, claim in ask.asked]
        found = self._table.find_all([subject for subject, _ in ask.asked])
        codes = (
            plain.judge(check, column, cell, claim, ask.is_stale) for cell, claim in zip(found, claims, strict=True)
        )
        return b"".join(code.to_bytes(CODE_BYTES, "little") for code in codes)

    def _equal(self, ask: Equal) -> bytes:
        """Of the unknown, y is random: the answer is no, after the same steps."""
        value, other = self._value(ask.subject, ask.is_stale), os.urandom(DIGEST_BYTES)
        digest = plain.digest_of_value(0 if value is None else value, self._column())
        evaluated, tag = equality.answer(ask.context, other if value is None else digest, ask.blinded)
        return evaluated + tag + bytes([value is not None or not self._check().says_unknown])

    def _choose(self, ask: Choose) -> bytes:
        check, value = self._check(), self._value(ask.subject, ask.is_stale)
        if isinstance(value, bytes):
            raise ValueError("not a number")
        cells = [absent_code(check) if value is None else plain.at_least(value, edge) for edge in check.edges]
        return threshold.table(self._secret, ask.caller, self._clock(), ask.opening, ask.choice, ask.context, cells)

    def _points(self, ask: Points) -> bytes:
        values = [None if cell is None else cell.value for cell in self._table.find_all(ask.subjects)]
        if any(isinstance(value, bytes) for value in values):
            raise ValueError("not a number")
        points = b"".join(int(value or 0).to_bytes(POINTS_BYTES, "little", signed=True) for value in values)
        return points + bytes(value is not None for value in values)

    def _value(self, subject: str, is_stale: bool) -> plain.Value | None:
        cell = self._table.find(subject)
        return None if cell is None or is_stale else cell.value

    def _check(self) -> Check:
        if not isinstance(self._subject.check, Check):
            raise TypeError("a score is no check")
        return self._subject.check

    def _column(self) -> Column:
        return self._subject.columns[0]

    def _hidden(self) -> HiddenTable:
        if self._hidden_table is None:
            raise TypeError("no hidden-subject table")
        return self._hidden_table


def _read(connection: int, count: int) -> bytes:
    """So many bytes, or fewer when the connection ends."""
    said = bytearray()
    while len(said) < count:
        part = os.read(connection, min(count - len(said), PIECE))
        if not part:
            break
        said += part
    return bytes(said)
