"""Importing a dataset: signed spec in, all accepted rows or none published, a report without values."""

from __future__ import annotations

import os

from enclave_runner.contract.dataset import DatasetSpec
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.signing import unseal
from enclave_runner.contract.wire import DATASET_PURPOSE, ImportData, ImportReport
from enclave_runner.kinds.tasks import Declined, Intake, IntakeAnswer
from enclave_runner.supervisor.enclave import Enclave
from enclave_runner.supervisor.holdings import HeldVersion


def import_data(enclave: Enclave, order: ImportData, descriptor: int) -> ImportReport:
    """Read the handed file once and publish a new version, or change nothing.

    Raises:
        Refused: `signature.invalid`, `import.spec-changed`, `import.too-large`, `import.format`, `import.header`,
            `import.rejected`, `import.population`.
    """
    spec = unseal(order.spec, DATASET_PURPOSE, enclave.trust.officers, DatasetSpec)
    enclave.require_zygote()
    source, sha256 = enclave.store.take_source(descriptor, enclave.limits.import_bytes)
    try:
        with enclave.importing:
            earlier = enclave.holdings.find(spec.dataset_id)
            if earlier is not None and _protects_others(earlier.spec, spec):
                raise Refused("import.spec-changed", dataset=spec.dataset_id)
            return _import_copy(enclave, order, spec, source, sha256, _next_version(earlier, sha256))
    finally:
        os.close(source)


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


def _import_copy(
    enclave: Enclave, order: ImportData, spec: DatasetSpec, source: int, sha256: str, version: str
) -> ImportReport:
    stage, draft = enclave.store.stage(), enclave.store.draft(spec.dataset_id)
    try:
        task = Intake(spec=spec, format=order.format, header=order.header)
        answer = enclave.work(task, [source, stage, draft.descriptor], enclave.limits.import_profile)
        if isinstance(answer, Declined):
            raise Refused(answer.rule, **answer.facts)
        if not isinstance(answer, IntakeAnswer):
            raise Failed("job.answer")
        report = _report(spec, version, sha256, answer)
        _check(spec, answer, report)
        file = enclave.store.publish(draft, spec.dataset_id, version)
        at = enclave.now().isoformat()
        enclave.holdings.add(HeldVersion(spec.dataset_id, version, file, answer.accepted, spec, at))
        return report
    finally:
        os.close(stage)
        os.close(draft.descriptor)
        enclave.store.discard(draft)


def _check(spec: DatasetSpec, answer: IntakeAnswer, report: ImportReport) -> None:
    rows = answer.accepted + answer.rejected
    if rows == 0:
        raise Refused("import.empty", dataset=spec.dataset_id)
    if answer.rejected * 1000 > spec.max_rejected_permille * rows:
        first = report.rejections[0]
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
