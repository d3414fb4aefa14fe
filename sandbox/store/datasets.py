"""The catalogue as stored, and which data version is the current one of each dataset."""

from __future__ import annotations

from sqlalchemy import Connection, insert, select

from sandbox.domain.dataset import Dataset
from sandbox.store import schema
from sandbox.store.documents import Documents

DATASETS = Documents(
    schema.datasets,
    Dataset,
    lambda dataset: {"dataset_id": dataset.dataset_id, "department_id": dataset.department_id},
)
VERSIONS = schema.dataset_versions


def file_entry(connection: Connection, dataset: Dataset) -> None:
    """Catalogue a dataset, or replace its entry."""
    if DATASETS.find(connection, dataset.dataset_id) is None:
        DATASETS.add(connection, dataset)
    else:
        DATASETS.save(connection, dataset)


def catalogue(connection: Connection) -> dict[str, Dataset]:
    """The whole catalogue by dataset id."""
    return {dataset.dataset_id: dataset for dataset in DATASETS.listed(connection)}


def add_version(connection: Connection, dataset_id: str, version: str, recorded_at: str) -> bool:
    """Make this the current version; False when it was recorded before."""
    same = (VERSIONS.c.dataset_id == dataset_id) & (VERSIONS.c.version == version)
    if connection.execute(select(VERSIONS.c.number).where(same)).first() is not None:
        return False
    connection.execute(insert(VERSIONS).values(dataset_id=dataset_id, version=version, recorded_at=recorded_at))
    return True


def current_version(connection: Connection, dataset_id: str) -> str | None:
    """The newest recorded version, or None when nothing was imported."""
    query = select(VERSIONS.c.version).where(VERSIONS.c.dataset_id == dataset_id).order_by(VERSIONS.c.number.desc())
    return connection.execute(query.limit(1)).scalar_one_or_none()
