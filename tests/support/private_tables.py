"""Tables of made-up products: what a build makes of some rows, in this process, and a server over them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from enclave_runner.contract.check import Check, CheckKind, VerificationMode
from enclave_runner.contract.dataset import Column, ColumnType, KeyKind
from enclave_runner.contract.protocols import oprf
from enclave_runner.contract.scoring import ScoreCheck
from enclave_runner.jail.launcher import seal_memory
from enclave_runner.kinds.tasks import Declined
from enclave_runner.private import assemble, evaluate, tabulate
from enclave_runner.private.build import has_hidden_table
from enclave_runner.private.plain import PlainTable
from enclave_runner.private.serve import HiddenTable, Server
from enclave_runner.private.tasks import (
    Assembled,
    Assembling,
    Evaluating,
    Hidden,
    Serving,
    Subject,
    Tabulated,
    Tabulating,
)
from tests.support.worker_files import Row, stored

KEY = Column(name="uid", title="uid", type=ColumnType.TEXT)
VERSION = "version-1"
SECRET, OPENING_SECRET = bytes(range(32)), bytes(range(32, 64))
PLAIN = (VerificationMode.PLAIN,)
HIDDEN = (VerificationMode.PLAIN, VerificationMode.BUCKET, VerificationMode.LOOKUP)


def check_of(kind: CheckKind, modes: tuple[VerificationMode, ...] = PLAIN, **fields: object) -> Check:
    """A check of the attribute `level`."""
    return Check(dataset_id="people", attribute="level", kind=kind, modes=modes, **fields)  # type: ignore[arg-type]


def column_of(kind: ColumnType, scale: int = 0, name: str = "level") -> Column:
    """An attribute's column."""
    return Column(name=name, title=name, type=kind, scale=scale, nullable=True)


def subject_of(
    check: Check | ScoreCheck, *columns: Column, key_kind: KeyKind = KeyKind.OPAQUE, secret: bytes = SECRET
) -> Subject:
    """What a worker knows of a product."""
    return Subject(check=check, key_kind=key_kind, columns=columns, secret=secret)


def memory(owner: ExitStack, content: bytes = b"") -> int:
    """A file in memory that may be sealed."""
    descriptor = os.memfd_create("made", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    owner.callback(os.close, descriptor)
    os.write(descriptor, content)
    return descriptor


def content(descriptor: int) -> bytes:
    """All of a file."""
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)


@dataclass(frozen=True)
class Tables:
    """The files of a product, and how to serve them. `matrix` and `hidden` only where it hides its subject."""

    task: Serving
    plain: int
    records: int
    tabulated: Tabulated
    matrix: int | None = None
    shape: Assembled | None = None

    @property
    def memory(self) -> list[int]:
        """The serving worker's descriptors."""
        return [self.plain] if self.matrix is None else [self.plain, self.matrix]

    def server(self) -> Server:
        """A server in this process."""
        hidden = self.task.hidden
        opened = None if hidden is None or self.matrix is None else HiddenTable.open(hidden, self.matrix)
        return Server(self.task, PlainTable(self.plain, self.task.subject), opened, lambda: 1_000_000.0)


@contextmanager
def tables_of(subject: Subject, rows: Sequence[Row], k_min: int = 4) -> Iterator[Tables]:
    """Everything that the product's modes need, from rows of key and attributes."""
    with ExitStack() as owner:
        extract = owner.enter_context(stored((KEY, *subject.columns), rows))
        plain, records, cells, matrix = (memory(owner) for _ in range(4))
        is_hidden = has_hidden_table(subject.check)
        handed = [extract, plain, records] if is_hidden else [extract, plain]
        tabulated = tabulate.run(Tabulating(subject=subject, entity_column="uid"), handed)
        assert not isinstance(tabulated, Declined)
        task = Serving(subject=subject, opening_secret=OPENING_SECRET)
        if not is_hidden:
            seal_memory(plain)
            yield Tables(task, plain, records, tabulated)
            return
        key = oprf.new_key()
        order = Evaluating(key=key, version=VERSION, first=0, count=tabulated.records)
        evaluate.run(order, [records, cells])
        shape = assemble.run(Assembling(k_min=k_min), [cells, matrix])
        hidden = Hidden(key=key, height=shape.height, columns=shape.columns, bucket_columns=shape.bucket_columns)
        task = Serving(subject=subject, opening_secret=OPENING_SECRET, hidden=hidden)
        for descriptor in (plain, matrix):
            seal_memory(descriptor)
        yield Tables(task, plain, records, tabulated, matrix, shape)
