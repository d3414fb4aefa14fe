"""Importing a dataset: signed spec in, all accepted rows or none published, a report without values."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from enclave_runner.contract.dataset import DatasetSpec
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.signing import unseal
from enclave_runner.contract.wire import DATASET_PURPOSE, ImportData, ImportReport, Rejection
from enclave_runner.jail.launcher import seal_memory
from enclave_runner.kinds.tasks import Intake, IntakeAnswer
from enclave_runner.rawdata.store import Draft
from enclave_runner.supervisor.enclave import Enclave
from enclave_runner.supervisor.holdings import HeldVersion
from enclave_runner.supervisor.stream import Reading, Source, open_source, read_through

MALFORMED = "row.malformed"
ROW_RULES = frozenset(
    {MALFORMED, "row.missing", "row.type", "row.bounds", "row.domain", "row.key", "row.duplicate"},
)


def import_data(enclave: Enclave, order: ImportData, descriptor: int) -> ImportReport:
    """Read the handed file, publish a new version whose columns are encrypted as they come, or change nothing.

    Raises:
        Refused: `signature.invalid`, `import.spec-changed`, `import.too-large`, `import.parquet-large`,
            `import.format`, `import.header`, `import.rejected`, `import.population`, `import.changed`.
        Failed: `job.…`, `jail.…`, `rawdata.write`, `kms.…`.
    """
    spec = unseal(order.spec, DATASET_PURPOSE, enclave.trust.officers, DatasetSpec)
    enclave.require_zygote()
    with enclave.importing, open_source(descriptor, order.format, enclave.limits) as source:
        earlier = enclave.holdings.last_imported(spec.dataset_id)
        if earlier is not None and _protects_others(earlier.spec, spec):
            raise Refused("import.spec-changed", dataset=spec.dataset_id)
        task = Intake(spec=spec, format=order.format, header=order.header)
        with _memory("duplicates") as duplicates:
            draft, reading = _read(enclave, task, source, duplicates, None)
            if reading.answer.again:
                enclave.store.discard(draft)
                seal_memory(duplicates)
                draft, again = _read(enclave, task, source, duplicates, duplicates)
                if again.sha256 != reading.sha256 or again.answer.again:
                    enclave.store.discard(draft)
                    raise Refused("import.changed")
                reading = again
        return _publish(enclave, spec, draft, reading, _next_version(earlier, reading.sha256))


def _protects_others(earlier: DatasetSpec, spec: DatasetSpec) -> bool:
    """A new version counts against the same people: entity set and key may not change under a dataset's name."""
    return (earlier.entity_set, earlier.entity_column, earlier.key_kind) != (
        spec.entity_set,
        spec.entity_column,
        spec.key_kind,
    )


def _next_version(earlier: HeldVersion | None, sha256: str) -> str:
    number = int(earlier.version.split("-")[0].removeprefix("v")) + 1 if earlier else 1
    return f"v{number}-{sha256[:12]}"


@contextmanager
def _memory(name: str) -> Iterator[int]:
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _read(
    enclave: Enclave, task: Intake, source: Source, duplicates: int, left_out: int | None
) -> tuple[Draft, Reading]:
    """One reading into a draft of its own; nothing is left of one that is refused."""
    draft = enclave.store.draft(task.spec.dataset_id, task.columns)
    try:
        reading = read_through(enclave, task, source, draft, duplicates, left_out)
        _require_honest(task.spec, reading.answer, enclave.limits.import_bytes)
        _check(task.spec, reading.answer)
    except BaseException:
        enclave.store.discard(draft)
        raise
    return draft, reading


def _publish(enclave: Enclave, spec: DatasetSpec, draft: Draft, reading: Reading, version: str) -> ImportReport:
    try:
        file = enclave.store.publish(draft, spec.dataset_id, version)
        at = enclave.now().isoformat()
        enclave.holdings.add(HeldVersion(spec.dataset_id, version, file, reading.answer.accepted, spec, at))
    finally:
        enclave.store.discard(draft)
    return _report(spec, version, reading.sha256, reading.answer)


def _require_honest(spec: DatasetSpec, answer: IntakeAnswer, max_lines: int) -> None:
    """Numbers, the catalogue's columns and the row rules are all that a report can say: no text of the worker's own.

    Raises:
        Failed: `job.answer`.
    """
    rows = answer.accepted + answer.rejected
    listed = all(_is_listable(spec, item, rows, max_lines) for item in answer.rejections)
    if not listed or bool(answer.rejected) != bool(answer.rejections):
        raise Failed("job.answer")


def _is_listable(spec: DatasetSpec, item: Rejection, rows: int, max_lines: int) -> bool:
    # A malformed row is known by its line alone, and blank lines, which are no rows, count there.
    last = max(rows, max_lines) if item.rule == MALFORMED else rows
    named = item.column == "" or spec.column(item.column) is not None
    return named and item.rule in ROW_RULES and 0 < item.row <= last


def _check(spec: DatasetSpec, answer: IntakeAnswer) -> None:
    rows = answer.accepted + answer.rejected
    if rows == 0:
        raise Refused("import.empty", dataset=spec.dataset_id)
    if answer.rejected * 1000 > spec.max_rejected_permille * rows:
        first = answer.rejections[0]
        raise Refused(
            "import.rejected",
            rejected=answer.rejected,
            rows=rows,
            permille=spec.max_rejected_permille,
            row=first.row,
            column=first.column or "-",
            broken=first.rule,
        )
    if answer.entities > spec.population_cap:
        raise Refused("import.population", cap=spec.population_cap)


def _report(spec: DatasetSpec, version: str, sha256: str, answer: IntakeAnswer) -> ImportReport:
    return ImportReport(
        dataset_id=spec.dataset_id,
        version=version,
        accepted=answer.accepted,
        rejected=answer.rejected,
        rejections=answer.rejections,
        source_sha256=sha256,
    )
