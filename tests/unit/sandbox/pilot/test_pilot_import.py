"""The enclave's own import reads the city's files and rejects what was declared to be wrong, and nothing else."""

from __future__ import annotations

import pytest

from enclave_runner.kinds.tasks import IntakeAnswer
from sandbox.pilot.catalogue import city_datasets
from sandbox.pilot.city import CitySummary, write_city
from tests.support.pilot import count_by
from tests.support.worker_files import take_in

SPECS = {dataset.dataset_id: dataset.spec for dataset in city_datasets()}


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> CitySummary:
    return write_city(tmp_path_factory.mktemp("city"), 20_000, seed=5)


@pytest.mark.parametrize("table", sorted(SPECS))
def test_import_rejects_the_declared_defects(city: CitySummary, table: str) -> None:
    file = city.file(table)
    answer = take_in(SPECS[table], file.path.read_bytes()).answer
    assert isinstance(answer, IntakeAnswer)
    rejected = {rule: count for rule, count in file.defects.items() if count}
    assert count_by(rejection.rule for rejection in answer.rejections) == rejected
    assert answer.rejected == sum(rejected.values())
    assert answer.accepted == file.rows - answer.rejected
    assert answer.rejected * 1000 <= SPECS[table].max_rejected_permille * file.rows
