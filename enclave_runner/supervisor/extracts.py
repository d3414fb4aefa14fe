"""Extracts: what a job may see, built in memory beside the raw store, sealed, and gone with the job.

A table that would not fit is built in partitions of its units, one after the other; each vector is the sum of theirs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import msgspec

from enclave_runner.contract.dataset import ColumnType, DatasetSpec
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.jail.confine import EXTRACT_NAME
from enclave_runner.jail.launcher import seal_memory
from enclave_runner.kinds.tasks import Done, Extraction, Part, Spread, Vectors
from enclave_runner.plan.bound import BoundSelect, BoundSource, NormKind
from enclave_runner.supervisor.enclave import Enclave
from enclave_runner.supervisor.holdings import HeldVersion

# What one cell takes while an extract is built, in bytes; a text may be longer, its dictionary makes it shorter.
NUMBER_BYTES, TEXT_BYTES, KEY_BYTES = 8, 24, 48
FILLED = 0.75  # of the room that an extract has
MAX_PARTITIONS = 256


class Extracts:
    """The extracts of one job, partition by partition. With one partition it is built once and used for every pass."""

    def __init__(
        self, enclave: Enclave, order: Extraction, held: tuple[HeldVersion, ...], spreads: tuple[Spread, ...] = ()
    ) -> None:
        """`spreads`: the exact histograms that `spread` will be asked for, counted while the extract is built."""
        self._enclave, self._order, self._held, self._spreads = enclave, order, held, spreads
        self._only: int | None = None
        self._counted: dict[Spread, tuple[int, ...]] = {}

    def each(self) -> Iterator[int]:
        """The sealed memory of every partition; the descriptor is good until the next one is asked for."""
        if self._order.partitions == 1:
            yield self._whole()
            return
        for partition in range(self._order.partitions):
            order = _numbered(self._order, partition)
            descriptor = build(self._enclave, order, self._held)
            try:
                yield descriptor
            finally:
                os.close(descriptor)

    def spread(self, task: Spread) -> tuple[int, ...]:
        """The exact histogram of one norm over the units of all partitions; it is counted once.

        Raises:
            Failed: as `each`, `job.answer`.
        """
        if self._order.partitions == 1:
            self._whole()
        if task not in self._counted:
            found = [self._count(task, descriptor) for descriptor in self.each()]
            self._counted[task] = tuple(map(sum, zip(*found, strict=True)))
        return self._counted[task]

    def _whole(self) -> int:
        """The only partition, built at the first call."""
        if self._only is None:
            self._only = build(self._enclave, self._order, self._held)
            for task in self._spreads:
                self._counted[task] = self._count(task, self._only)
        return self._only

    def _count(self, task: Spread, descriptor: int) -> tuple[int, ...]:
        answer = self._enclave.work(task, [descriptor])
        if not isinstance(answer, Vectors) or [len(vector) for vector in answer.vectors] != [len(task.edges)]:
            raise Failed("job.answer")
        return answer.vectors[0]

    def close(self) -> None:
        """Let go of what is held."""
        if self._only is not None:
            os.close(self._only)
            self._only = None


@contextmanager
def extracts(
    enclave: Enclave, order: Extraction, held: tuple[HeldVersion, ...], spreads: tuple[Spread, ...] = ()
) -> Iterator[Extracts]:
    """The extracts of an order; closed with the block."""
    made = Extracts(enclave, order, held, spreads)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def extract(enclave: Enclave, order: Extraction, held: tuple[HeldVersion, ...]) -> Iterator[int]:
    """One extract that is not partitioned; closed with the block."""
    with extracts(enclave, order, held) as made:
        yield next(made.each())


def query_extraction(plan: BoundSelect, held: tuple[HeldVersion, ...], spread: bool, partitions: int = 1) -> Extraction:
    """What a query's extract holds. `spread`: the norms of the units as well, for a clip to be learned from."""
    return Extraction(
        parts=tuple(
            part_of(source, version, None if spread else _above(plan, source))
            for source, version in zip(plan.sources, held, strict=True)
        ),
        root=plan.root,
        spread=spread,
        partitions=partitions,
    )


def part_of(source: BoundSource, held: HeldVersion, above: int | None) -> Part:
    """One table of an extract. `above`: units with no more rows than this need not be counted."""
    only_counted = source.rows and not source.unit and source.norm is None
    return Part(
        spec=held.spec,
        rows=held.rows,
        columns=source.columns,
        unit=source.unit,
        counted=source.rows,
        norm=source.norm,
        condition=source.condition,
        above=above if only_counted else None,
    )


def partitions_for(enclave: Enclave, order: Extraction) -> int:
    """In how many partitions an order has to be built, from public sizes alone.

    Raises:
        Refused: `job.too-large`.
    """
    room = (enclave.limits.extract_profile.file_mb << 20) * FILLED
    needed = sum(part.rows * _row_bytes(part, order) for part in order.parts)
    count = max(1, -(-needed // int(room)))
    if count > MAX_PARTITIONS:
        raise Refused("job.too-large", max=MAX_PARTITIONS)
    return count


def build(enclave: Enclave, order: Extraction, held: tuple[HeldVersion, ...]) -> int:
    """A fresh extract in sealed memory; the caller closes it. Only the needed columns are decrypted, and their
    plaintext is in memory for as long as the builder reads it.

    Raises:
        Failed: the store's and the launcher's codes, `job.answer`.
    """
    opened: list[int] = []
    target = os.memfd_create(EXTRACT_NAME, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        for part, version in zip(order.parts, held, strict=True):
            opened += enclave.store.open_columns(version.file, order.needed(part))
        answer = enclave.work(order, [*opened, target], enclave.limits.extract_profile)
        if not isinstance(answer, Done):
            raise Failed("job.answer")
        seal_memory(target)
    except BaseException:
        os.close(target)
        raise
    finally:
        for descriptor in opened:
            os.close(descriptor)
    return target


def tables_of(held: tuple[HeldVersion, ...], plan: BoundSelect) -> tuple[tuple[tuple[str, ColumnType], ...], ...]:
    """The columns of every table of a query, with their types: what a rehearsal is made from."""
    return tuple(
        typed_columns(source.columns, version.spec) for source, version in zip(plan.sources, held, strict=True)
    )


def typed_columns(columns: tuple[str, ...], spec: DatasetSpec) -> tuple[tuple[str, ColumnType], ...]:
    """Columns with their types; a generated key, which the specification does not list, is a text."""
    types: Mapping[str, ColumnType] = {column.name: column.type for column in spec.columns}
    return tuple((name, types.get(name, ColumnType.TEXT)) for name in columns)


def _above(plan: BoundSelect, source: BoundSource) -> int | None:
    """The least clip by rows of this table alone; None where norms are multiplied."""
    if sum(other.rows for other in plan.sources) != 1 or not source.rows:
        return None
    return min(clipping.limit for clipping in plan.clippings if clipping.kind is NormKind.ROWS)


def _row_bytes(part: Part, order: Extraction) -> int:
    texts = {column.name for column in part.spec.columns if column.type is ColumnType.TEXT}
    added = part.unit + part.counted + (part.norm is not None)
    columns = sum(TEXT_BYTES if name in texts else NUMBER_BYTES for name in part.columns)
    keyed = KEY_BYTES if added and part.above is None else 0
    return columns + added * NUMBER_BYTES + keyed + (KEY_BYTES if order.spread else 0)


def _numbered(order: Extraction, partition: int) -> Extraction:
    return msgspec.structs.replace(order, partition=partition)
