"""The catalogue, and imports: the open file goes to the enclave unread; report and catalogue entry stay here."""

from __future__ import annotations

from enclave_runner.contract.dataset import DatasetSpec
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.signing import Signed, unseal
from enclave_runner.contract.wire import DATASET_PURPOSE, FileFormat, ImportData, ImportReport
from sandbox.domain.dataset import Dataset
from sandbox.domain.party import Party, Role
from sandbox.rules.access import Action, Record
from sandbox.store import datasets as stored
from sandbox.store.database import reading, writing
from sandbox.store.datasets import DATASETS
from sandbox.store.meter_events import stamp
from sandbox.store.parties import PARTIES
from sandbox.workflow.office import Actor, Office, authorize, note_act


def import_dataset(
    office: Office,
    actor: Actor,
    dataset: Dataset,
    spec: Signed,
    descriptor: int,
    format: FileFormat,  # noqa: A002 - the contract's word
    header: bool,
) -> ImportReport:
    """Have the enclave import the open file, then catalogue the dataset with its new version.

    The descriptor is handed over and never read here. When this process dies between the two, importing the same file
    again completes the record.

    Raises:
        Refused: by access, `signature.invalid`, `dataset.spec-differs`, `dataset.department`, or as the enclave says.
    """
    authorize(office, actor, Action.IMPORT_DATASET, _record(dataset))
    if unseal(spec, DATASET_PURPOSE, office.officers, DatasetSpec) != dataset.spec:
        raise Refused("dataset.spec-differs", dataset=dataset.dataset_id)
    with reading(office.engine) as connection:
        _check_department(PARTIES.find(connection, dataset.department_id), dataset)
        _check_provider(DATASETS.find(connection, dataset.dataset_id), dataset)
    report = office.enclave.call(ImportData(spec=spec, format=format, header=header), descriptor)
    if not isinstance(report, ImportReport):
        raise Failed("enclave.answer")
    with writing(office.engine) as connection:
        _check_provider(DATASETS.find(connection, dataset.dataset_id), dataset)
        stored.file_entry(connection, dataset)
        stored.add_version(connection, dataset.dataset_id, report.version, stamp(office.clock()))
        note_act(
            office,
            connection,
            actor,
            "dataset.import",
            dataset.dataset_id,
            version=report.version,
            accepted=str(report.accepted),
            rejected=str(report.rejected),
            source_sha256=report.source_sha256,
        )
    return report


def _check_department(department: Party | None, dataset: Dataset) -> None:
    if department is None or department.role not in (Role.DEPARTMENT, Role.BUREAU):
        raise Refused("dataset.department", dataset=dataset.dataset_id)


def _check_provider(known: Dataset | None, dataset: Dataset) -> None:
    """A dataset keeps its department: nobody files data into another department's entry."""
    if known is not None and known.department_id != dataset.department_id:
        raise Refused("dataset.department", dataset=dataset.dataset_id)


def list_datasets(office: Office, actor: Actor) -> tuple[Dataset, ...]:
    """The catalogue. It describes data and holds none, so that every active party may read it.

    Raises:
        Refused: by access.
    """
    authorize(office, actor, Action.READ_CATALOGUE, Record("dataset", "all"))
    with reading(office.engine) as connection:
        return DATASETS.listed(connection)


def get_dataset(office: Office, actor: Actor, dataset_id: str) -> Dataset:
    """One catalogue entry.

    Raises:
        Refused: by access, or `record.unknown`.
    """
    authorize(office, actor, Action.READ_CATALOGUE, Record("dataset", dataset_id))
    with reading(office.engine) as connection:
        return DATASETS.get(connection, dataset_id)


def _record(dataset: Dataset) -> Record:
    return Record("dataset", dataset.dataset_id, (dataset.department_id,))
