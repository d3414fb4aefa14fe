"""A product's tables built in this process over made-up rows, and both ways to ask: here, or in a jailed worker."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from enclave_runner.contract.call import Table
from enclave_runner.contract.check import Check, CheckKind, VerificationMode
from enclave_runner.contract.codec import digest
from enclave_runner.contract.dataset import Column, ColumnType, KeyKind
from enclave_runner.contract.protocols import oprf
from enclave_runner.contract.protocols.lattice import SEED_BYTES
from enclave_runner.jail.launcher import Zygote, seal_memory
from enclave_runner.jail.profile import JailProfile
from enclave_runner.private import matrix, plain
from enclave_runner.private.build import serving_profile
from enclave_runner.private.evaluate import cells_of
from enclave_runner.private.hint import hint_rows
from enclave_runner.private.serve import HiddenTable, Server
from enclave_runner.private.tabulate import Made
from enclave_runner.private.tasks import SECRET_BYTES, Hidden, Serving, Subject
from enclave_runner.private.worker import ServingWorker

K_MIN = 1024
DISTRICT = Column(name="district", title="区", type=ColumnType.TEXT)
INCOME = Column(name="income", title="收入", type=ColumnType.DECIMAL, scale=2, bounds=(0, 10**9))
Raw = int | str | bool | None


@dataclass(frozen=True)
class Served:
    """Built tables. `public` is what an offer tells of the hidden-subject table; `hint` is the whole hint."""

    task: Serving
    version: str
    memory: tuple[int, ...]
    public: Table | None
    hint: bytes

    @property
    def check(self) -> Check:
        """The question."""
        assert isinstance(self.task.subject.check, Check)
        return self.task.subject.check

    def server(self) -> Server:
        """The answers, in this process and without a jail."""
        hidden = HiddenTable.open(self.task.hidden, self.memory[1]) if self.task.hidden else None
        return Server(self.task, plain.PlainTable(self.memory[0], self.task.subject), hidden)

    def worker(self, zygote: Zygote, **options: float) -> ServingWorker:
        """The answers, from a worker in the real jail."""
        size = sum(os.fstat(descriptor).st_size for descriptor in self.memory)
        profile = serving_profile(JailProfile(), size)
        return ServingWorker.start(zygote, profile, self.task, list(self.memory), **options)


def a_check(kind: CheckKind = CheckKind.EQUALS, **changes: object) -> Check:
    """A check of the district or, where an order is needed, of the income; in all modes that fit."""
    ordered = kind in (CheckKind.AT_LEAST, CheckKind.LEVEL)
    modes = {
        CheckKind.EQUALS: ("P0", "P1", "P3", "P4"),
        CheckKind.AT_LEAST: ("P0", "P2"),
    }.get(kind, ("P0", "P3", "P4"))
    fields: dict[str, object] = {
        "dataset_id": "people",
        "attribute": INCOME.name if ordered else DISTRICT.name,
        "kind": kind,
        "modes": tuple(VerificationMode(mode) for mode in modes),
        "members": ("north",) if kind is CheckKind.MEMBER else (),
        "edges": tuple(range(1000_00, 5000_00, 500_00)) if ordered else (),
    }
    return Check(**{**fields, **changes})  # type: ignore[arg-type]


def people(count: int, of: Column = DISTRICT) -> dict[str, Raw]:
    """p0, p1, …: north or south, or with rising incomes."""
    return {f"p{i}": ("north", "south")[i % 2] if of is DISTRICT else 1000_50 + 100 * i for i in range(count)}


@contextmanager
def served(check: Check, rows: Mapping[str, Raw]) -> Iterator[Served]:
    """Tables over these rows, gone after the block."""
    column = INCOME if check.attribute == INCOME.name else DISTRICT
    subject = Subject(check=check, key_kind=KeyKind.OPAQUE, columns=(column,), secret=secrets.token_bytes(SECRET_BYTES))
    version, hides = secrets.token_hex(16), any(mode.hides_subject for mode in check.modes)
    made = Made(subject, len(rows), is_keyed=hides)
    made.add([(key, value) for key, value in rows.items()])
    memory = [_memory()]
    order = plain.write(memory[0], made.digests, made.values, made.known)
    hidden, public, hint = None, None, b""
    if hides:
        records = _memory()
        made.write_records(records, order)
        hidden, public, hint, descriptor = _hidden(records, version)
        os.close(records)
        memory.append(descriptor)
    for descriptor in memory:
        seal_memory(descriptor)
    task = Serving(subject=subject, opening_secret=secrets.token_bytes(SECRET_BYTES), hidden=hidden)
    try:
        yield Served(task, version, tuple(memory), public, hint)
    finally:
        for descriptor in memory:
            os.close(descriptor)


def _hidden(records: int, version: str) -> tuple[Hidden, Table, bytes, int]:
    key, seed = oprf.new_key(), secrets.token_bytes(SEED_BYTES)
    content = os.pread(records, os.fstat(records).st_size, 0)
    cells = np.frombuffer(cells_of(content, key, version), matrix.RECORD)
    placed = matrix.place(cells, matrix.shape_of(len(cells), K_MIN))
    shape = placed.shape
    hint = hint_rows(placed.matrix, seed).tobytes()
    descriptor = _memory()
    os.write(descriptor, placed.matrix.tobytes())
    hidden = Hidden(key=key, height=shape.height, columns=shape.columns, bucket_columns=shape.bucket_columns)
    public = Table(
        public_key=oprf.public_key(key),
        seed=seed,
        height=shape.height,
        columns=shape.columns,
        bucket_columns=shape.bucket_columns,
        k=placed.k,
        hint_sha256=digest(hint),
        hint_bytes=len(hint),
    )
    return hidden, public, hint, descriptor


def _memory() -> int:
    return os.memfd_create("table", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
