"""The enclave's own import reads the city's files and rejects what was declared to be wrong, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from enclave_runner.contract.dataset import DatasetSpec
from enclave_runner.contract.wire import FileFormat
from enclave_runner.kinds.intake import run
from enclave_runner.kinds.tasks import Intake, IntakeAnswer
from sandbox.pilot.catalogue import city_datasets
from sandbox.pilot.city import CitySummary, write_city
from tests.support.pilot import count_by

SPECS = {dataset.dataset_id: dataset.spec for dataset in city_datasets()}


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> CitySummary:
    return write_city(tmp_path_factory.mktemp("city"), 20_000, seed=5)


def take_in(spec: DatasetSpec, source: Path, scratch: Path) -> IntakeAnswer:
    descriptors = [os.open(source, os.O_RDONLY)]
    descriptors += [os.open(scratch / name, os.O_RDWR | os.O_CREAT) for name in ("stage", "final")]
    try:
        answer = run(Intake(spec=spec, format=FileFormat.CSV, header=True), descriptors)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    assert isinstance(answer, IntakeAnswer)
    return answer


@pytest.mark.parametrize("table", sorted(SPECS))
def test_import_rejects_the_declared_defects(city: CitySummary, tmp_path: Path, table: str) -> None:
    file = city.file(table)
    answer = take_in(SPECS[table], file.path, tmp_path)
    rejected = {rule: count for rule, count in file.defects.items() if count}
    assert count_by(rejection.rule for rejection in answer.rejections) == rejected
    assert answer.rejected == sum(rejected.values())
    assert answer.accepted == file.rows - answer.rejected
    assert answer.rejected * 1000 <= SPECS[table].max_rejected_permille * file.rows
