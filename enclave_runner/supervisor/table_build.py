"""Building the tables of one version, in jails: read, tabulate, evaluate in parallel, assemble, hint.

Every finished piece is kept encrypted at rest at once, so that a build that was killed goes on with what it has. What
comes next reads the piece from there: sealed, and read back.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TypeVar

from enclave_runner.contract.call import Table
from enclave_runner.contract.check import Check, VerificationMode
from enclave_runner.contract.dataset import Column
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.protocols import oprf
from enclave_runner.contract.protocols.cell import ENTRY_BYTES
from enclave_runner.contract.protocols.lattice import DIMENSION, MAX_COLUMNS, WORD_BYTES
from enclave_runner.contract.scoring import ScoreCheck
from enclave_runner.kinds.tasks import Declined, Done, Extraction, Part
from enclave_runner.private.build import build_profile, cells_size, chunks, has_hidden_table, hint_parts
from enclave_runner.private.tasks import (
    KEYWORD_BYTES,
    Assembled,
    Assembling,
    Evaluating,
    Hinting,
    Subject,
    Tabulated,
    Tabulating,
    Task,
    TaskAnswer,
)
from enclave_runner.supervisor.enclave import Enclave
from enclave_runner.supervisor.extracts import build as build_extract
from enclave_runner.supervisor.extracts import partitions_for
from enclave_runner.supervisor.holdings import HeldVersion
from enclave_runner.supervisor.verification_tables import (
    HINT,
    MATRIX,
    PLAIN,
    RECORDS,
    SECRET_BYTES,
    SECRETS,
    SHAPE,
    Secrets,
    VerificationTables,
)

SEED_BYTES = 16
COPY = 1 << 24
# What files may come to have: a row of a plain table or a record takes at most 64 bytes, a cell leaves room in its
# column.
PLAIN_ROW, PLAIN_LEAST = 64, 1 << 20
MATRIX_ROOM, MATRIX_LEAST = 4, 64 << 20
HINT_ROW_BYTES = DIMENSION * WORD_BYTES
T = TypeVar("T")


@dataclass(frozen=True)
class Order:
    """What is to be built, for which standing ticket and table version."""

    ticket_id: str
    version: str
    check: Check | ScoreCheck
    held: HeldVersion
    columns: tuple[Column, ...]

    @property
    def is_hidden(self) -> bool:
        """Whether there is a hidden-subject table."""
        return has_hidden_table(self.check)


def build(enclave: Enclave, order: Order) -> Table | None:
    """Build whatever of the pieces is missing; the shape of the hidden-subject table where there is one.

    Raises:
        Refused: `verification.many-rows`, `job.too-large`.
        Failed: the store's and the launcher's codes, `job.answer`.
    """
    return _Build(enclave, order).run()


class _Build:
    def __init__(self, enclave: Enclave, order: Order) -> None:
        self._enclave, self._order = enclave, order
        self._tables: VerificationTables = enclave.verification.tables
        if not self._tables.has(order.version, SECRETS):
            self._tables.keep_value(order.version, SECRETS, _new_secrets())
        self._secrets = self._tables.value(order.version, SECRETS, Secrets)

    def run(self) -> Table | None:
        if not self._tables.has(self._order.version, PLAIN):
            self._tabulate()
        if not self._order.is_hidden:
            return None
        self._evaluate()
        shape = self._assemble()
        sha256 = self._hint(shape)
        return Table(
            public_key=oprf.public_key(self._secrets.oprf_key),
            seed=self._secrets.seed,
            height=shape.height,
            columns=shape.columns,
            bucket_columns=shape.bucket_columns,
            k=shape.k,
            hint_sha256=sha256,
            hint_bytes=shape.height * HINT_ROW_BYTES,
        )

    def _tabulate(self) -> None:
        self._note("reading", 0, 1)
        order, held = self._order, self._order.held
        key = held.spec.entity_column
        part = Part(spec=held.spec, rows=held.rows, columns=_once(key, *(item.name for item in order.columns)))
        reading = Extraction(parts=(part,))
        if partitions_for(self._enclave, reading) > 1:
            raise Refused("verification.too-many", most=self._enclave.limits.verification.max_rows)
        subject = Subject(
            check=order.check, key_kind=held.spec.key_kind, columns=order.columns, secret=self._secrets.subjects
        )
        self._enclave.require_zygote()
        with ExitStack() as ours:
            extract = build_extract(self._enclave, reading, (held,))
            ours.callback(os.close, extract)
            plain = ours.enter_context(_memory("plain"))
            records = [ours.enter_context(_memory("records"))] if order.is_hidden else []
            task = Tabulating(subject=subject, entity_column=key)
            answer = self._work(task, [extract, plain, *records], PLAIN_ROW * held.rows + PLAIN_LEAST)
            if isinstance(answer, Declined):
                raise Refused("verification.many-rows")
            if not isinstance(answer, Tabulated) or answer.rows != held.rows:
                raise Failed("job.answer")
            for descriptor in records:
                if _size(descriptor) != answer.records * KEYWORD_BYTES or answer.records > held.rows:
                    raise Failed("job.answer")
                self._tables.keep(order.version, RECORDS, descriptor)
            self._tables.keep(order.version, PLAIN, plain)

    def _evaluate(self) -> None:
        """Every chunk whose cells are not there yet, as many at once as there are processors."""
        version = self._order.version
        if self._tables.has(version, SHAPE):
            return
        with self._opened(RECORDS) as records:
            count = _size(records) // KEYWORD_BYTES
            parts = list(chunks(count))
            missing = [part for part in parts if not self._tables.has(version, _cells(part[0]))]
            done = len(parts) - len(missing)
            self._note("evaluating", done, len(parts))

            def evaluate(part: tuple[int, int]) -> None:
                first, size = part
                task = Evaluating(key=self._secrets.oprf_key, version=version, first=first, count=size)
                with _memory("cells") as cells:
                    self._do(task, [records, cells], cells_size(size))
                    self._tables.keep(version, _cells(first), cells)

            _at_once(evaluate, missing, lambda more: self._note("evaluating", done + more, len(parts)))

    def _assemble(self) -> Assembled:
        version = self._order.version
        if not self._tables.has(version, SHAPE):
            self._note("assembling", 0, 1)
            with self._opened(RECORDS) as records, _memory("cells") as cells, _memory("matrix") as matrix:
                for first, _ in chunks(_size(records) // KEYWORD_BYTES):
                    with self._opened(_cells(first)) as chunk:
                        _append(cells, chunk)
                wants_k = VerificationMode.BUCKET in self._order.check.modes
                task = Assembling(k_min=self._enclave.limits.verification.k_min if wants_k else 1)
                answer = self._work(task, [cells, matrix], MATRIX_ROOM * _size(cells) + MATRIX_LEAST)
                if not isinstance(answer, Assembled) or not _is_proper(answer, _size(matrix)):
                    raise Failed("job.answer")
                self._tables.keep(version, MATRIX, matrix)
                self._tables.keep_value(version, SHAPE, answer)
        return self._tables.value(version, SHAPE, Assembled)

    def _hint(self, shape: Assembled) -> str:
        version = self._order.version
        if not self._tables.has(version, HINT):
            with self._opened(MATRIX) as matrix, _memory("hint") as hint:
                os.ftruncate(hint, shape.height * HINT_ROW_BYTES)
                rows = list(hint_parts(shape.height))
                self._note("hint", 0, len(rows))

                def make(some: tuple[int, int]) -> None:
                    first, count = some
                    task = Hinting(
                        seed=self._secrets.seed, height=shape.height, columns=shape.columns, first=first, count=count
                    )
                    with _memory("hint") as part:
                        self._do(task, [matrix, part], count * HINT_ROW_BYTES)
                        _copy(part, hint, first * HINT_ROW_BYTES)

                _at_once(make, rows, lambda more: self._note("hint", more, len(rows)))
                self._tables.keep(version, HINT, hint)
        with self._opened(HINT) as hint:
            return _sha256(hint)

    def _do(self, task: Task, descriptors: Sequence[int], size: int) -> None:
        """A task that leaves that many bytes in its last descriptor."""
        if not isinstance(self._work(task, descriptors, size), Done) or _size(descriptors[-1]) != size:
            raise Failed("job.answer")

    def _work(self, task: Task, descriptors: Sequence[int], size: int) -> TaskAnswer:
        """One task, which writes no file of more than `size` bytes."""
        profile = build_profile(self._enclave.limits.verification.profile, size)
        return self._enclave.verification.zygote.work(task, descriptors, profile)

    @contextmanager
    def _opened(self, piece: str) -> Iterator[int]:
        descriptor = self._tables.open(self._order.version, piece)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _note(self, stage: str, done: int, total: int) -> None:
        self._enclave.verification.openings.note(self._order.ticket_id, stage, done, total)


def _once(*names: str) -> tuple[str, ...]:
    """Each column once: the attribute may be the key itself."""
    return tuple(dict.fromkeys(names))


def _new_secrets() -> Secrets:
    return Secrets(
        subjects=secrets.token_bytes(SECRET_BYTES),
        openings=secrets.token_bytes(SECRET_BYTES),
        oprf_key=oprf.new_key(),
        seed=secrets.token_bytes(SEED_BYTES),
    )


def _is_proper(answer: Assembled, size: int) -> bool:
    """Whether that can be the shape of a matrix of that size."""
    sides = min(answer.height, answer.columns, answer.bucket_columns) > 0 and answer.k >= 0
    return (
        sides
        and answer.height * answer.columns == size
        and answer.columns <= MAX_COLUMNS
        and answer.height % ENTRY_BYTES == 0
        and answer.columns % answer.bucket_columns == 0
    )


def _at_once(work: Callable[[T], None], parts: Sequence[T], note: Callable[[int], None]) -> None:
    """All parts, as many at once as there are processors; the first fault ends it, after those that are under way."""
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        futures = [pool.submit(work, part) for part in parts]
        try:
            for done, future in enumerate(as_completed(futures), 1):
                future.result()
                note(done)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _cells(first: int) -> str:
    return f"cells-{first:010d}"


@contextmanager
def _memory(name: str) -> Iterator[int]:
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _size(descriptor: int) -> int:
    return os.fstat(descriptor).st_size


def _append(target: int, source: int) -> None:
    _copy(source, target, _size(target))


def _copy(source: int, target: int, offset: int) -> None:
    start = 0
    while part := os.pread(source, COPY, start):
        view = memoryview(part)
        while view:
            view = view[os.pwrite(target, view, offset + start + len(part) - len(view)) :]
        start += len(part)


def _sha256(descriptor: int) -> str:
    hashed, offset = hashlib.sha256(), 0
    while part := os.pread(descriptor, COPY, offset):
        hashed.update(part)
        offset += len(part)
    return hashed.hexdigest()
