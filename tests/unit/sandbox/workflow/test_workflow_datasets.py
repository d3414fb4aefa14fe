from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from enclave_runner.contract.signing import KeyFile, seal
from enclave_runner.contract.wire import DATASET_PURPOSE, FileFormat
from sandbox.domain.dataset import Dataset
from sandbox.domain.party import PartyStatus, Role
from sandbox.store.database import reading
from sandbox.store.datasets import current_version
from sandbox.workflow.datasets import get_dataset, import_dataset, list_datasets
from sandbox.workflow.parties import register_party, set_party_status
from tests.support.articles import a_spec
from tests.support.bureau import BANK, DEPARTMENT, OPERATOR, Bureau, dataset, import_rows, party
from tests.support.refusals import refused_by


def hand_over(
    bureau: Bureau, entry: Dataset, key: KeyFile, who: str = "bureau", purpose: str = DATASET_PURPOSE
) -> None:
    descriptor = os.memfd_create("rows")
    try:
        os.write(descriptor, b"header\nrow\n")
        signed = seal(entry.spec, purpose, key)
        import_dataset(bureau.office, bureau.actor(who), entry, signed, descriptor, FileFormat.CSV, True)
    finally:
        os.close(descriptor)


def test_an_import_catalogues_the_dataset_with_its_version(bureau: Bureau) -> None:
    version = import_rows(bureau, b"header\nother\nrows\n")
    with reading(bureau.office.engine) as connection:
        assert current_version(connection, "insurance") == version
    assert get_dataset(bureau.office, bureau.actor(BANK), "insurance") == dataset()
    assert list_datasets(bureau.office, bureau.actor(OPERATOR)) == (dataset(),)


def test_the_file_is_not_read_here(bureau: Bureau) -> None:
    """The simulated enclave reads by position: if anybody here had read, the shared offset would have moved."""
    descriptor = os.memfd_create("rows")
    os.write(descriptor, b"header\nrow\n")
    os.lseek(descriptor, 0, os.SEEK_SET)
    signed = seal(dataset().spec, DATASET_PURPOSE, bureau.officer)
    import_dataset(bureau.office, bureau.actor(), dataset(), signed, descriptor, FileFormat.CSV, True)
    assert os.lseek(descriptor, 0, os.SEEK_CUR) == 0
    os.close(descriptor)


def test_the_same_file_again_adds_no_version(bureau: Bureau) -> None:
    assert import_rows(bureau) == import_rows(bureau)


def test_a_spec_that_an_officer_did_not_sign_is_refused(bureau: Bureau, tmp_path: Path) -> None:
    with refused_by("signature.invalid"):
        hand_over(bureau, dataset(), KeyFile.create(tmp_path / "stranger.key"))
    with refused_by("signature.invalid"):
        hand_over(bureau, dataset(), bureau.officer, purpose="grant")


def test_what_is_signed_is_what_is_filed(bureau: Bureau) -> None:
    signed = seal(a_spec(), DATASET_PURPOSE, bureau.officer)
    with refused_by("dataset.spec-differs", dataset="insurance"):
        import_dataset(bureau.office, bureau.actor(), dataset(), signed, 0, FileFormat.CSV, True)


def test_a_refused_import_catalogues_nothing(bureau: Bureau) -> None:
    entry = replace(dataset(), spec=a_spec(dataset_id="empty"))
    descriptor = os.memfd_create("rows")
    os.write(descriptor, b"header\n")
    with refused_by("import.empty"):
        import_dataset(
            bureau.office,
            bureau.actor(),
            entry,
            seal(entry.spec, DATASET_PURPOSE, bureau.officer),
            descriptor,
            FileFormat.CSV,
            True,
        )
    os.close(descriptor)
    assert list_datasets(bureau.office, bureau.actor()) == (dataset(),)
    with refused_by("record.unknown", what="dataset"):
        get_dataset(bureau.office, bureau.actor(), "empty")


def test_a_department_imports_its_own_and_nobody_elses(bureau: Bureau) -> None:
    hand_over(bureau, dataset(), bureau.officer, DEPARTMENT)
    register_party(bureau.office, bureau.actor(), party("housing", Role.DEPARTMENT))
    with refused_by("access.foreign"):
        hand_over(bureau, dataset(), bureau.officer, "housing")
    with refused_by("dataset.department"):
        hand_over(bureau, replace(dataset(), department_id="housing"), bureau.officer, "housing")


@pytest.mark.parametrize("department", [BANK, "nobody"])
def test_the_provider_is_a_registered_department(bureau: Bureau, department: str) -> None:
    with refused_by("dataset.department"):
        hand_over(bureau, replace(dataset(), department_id=department), bureau.officer)


def test_roles_that_do_not_import(bureau: Bureau) -> None:
    for who in (OPERATOR, BANK):
        with refused_by("access.provider-only"):
            hand_over(bureau, dataset(), bureau.officer, who)
    set_party_status(bureau.office, bureau.actor(), DEPARTMENT, PartyStatus.SUSPENDED, "整改")
    with refused_by("access.suspended"):
        hand_over(bureau, dataset(), bureau.officer, DEPARTMENT)
    with refused_by("access.suspended"):
        list_datasets(bureau.office, bureau.actor(DEPARTMENT))
