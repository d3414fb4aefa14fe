"""Dropping data: put on record first, then removed; what a crash kept from being removed goes at the next start."""

from __future__ import annotations

import os
from contextlib import closing

from enclave_runner.contract.codec import Value
from enclave_runner.contract.errors import Refused
from enclave_runner.rawdata.store import RawStore
from enclave_runner.supervisor.database import Database
from enclave_runner.supervisor.holdings import HeldVersion, Holdings
from enclave_runner.supervisor.home import EnclaveHome, lock_home
from enclave_runner.supervisor.ledger import utc_now
from enclave_runner.supervisor.standing import StandingTickets
from enclave_runner.supervisor.table_sweep import sweep_tables
from enclave_runner.supervisor.verification_tables import VerificationTables


class Dropped(Value, frozen=True):
    """What a call of `drop_data` removed: these versions, or one column of each."""

    dataset_id: str
    versions: tuple[str, ...]
    column: str | None


def drop_data(home: EnclaveHome, dataset_id: str, version: str | None, column: str | None) -> Dropped:
    """Remove every version of a dataset, or one; or one column of them. The enclave must not run.

    With a whole dataset goes what a crash during an import left of it, which no version refers to.

    No job finds them from then on, and their bytes and keys are gone when this returns. Killed in between, the next
    start or call completes it. Receipts, odometer and log stay: what was computed was computed.

    Raises:
        Refused: `dataset.unknown`, `dataset.version`, `dataset.column`.
        Failed: `home.busy`, `kms.…`, `rawdata.…`.
    """
    lock = lock_home(home)
    try:
        store = home.open_store()
        with closing(Database(home.ledger)) as database:
            holdings = Holdings(database)
            finish_drops(store, holdings)
            # Before the rest: afterwards the dataset is unknown, and nobody could ask for it again.
            is_whole = version is None and column is None
            if is_whole and store.drop_unnamed(dataset_id, holdings.files()) and not holdings.versions(dataset_id):
                return Dropped(dataset_id=dataset_id, versions=(), column=None)
            chosen = _chosen(holdings, dataset_id, version, column)
            for held in chosen:
                holdings.drop(held, column, utc_now().isoformat())
            finish_drops(store, holdings)
            finish_tables(store, database, holdings)
    finally:
        os.close(lock)
    return Dropped(dataset_id=dataset_id, versions=tuple(held.version for held in chosen), column=column)


def finish_drops(store: RawStore, holdings: Holdings) -> None:
    """Remove from the store whatever is on record as dropped; harmless when it is gone.

    Raises:
        Failed: `rawdata.…`.
    """
    for drop in holdings.drops():
        if drop.column is None:
            store.drop_version(drop.file)
        else:
            store.drop_column(drop.file, drop.column)


def finish_tables(store: RawStore, database: Database, holdings: Holdings) -> None:
    """Remove the verification tables that were made from what is dropped, and those that are done with.

    Raises:
        Failed: `rawdata.…`, `ledger.write`.
    """
    sweep_tables(VerificationTables(store, database), StandingTickets(database), holdings, utc_now())


def _chosen(holdings: Holdings, dataset_id: str, version: str | None, column: str | None) -> tuple[HeldVersion, ...]:
    versions = holdings.versions(dataset_id)
    if not versions:
        raise Refused("dataset.unknown", dataset=dataset_id[:64])
    chosen = tuple(held for held in versions if version in (None, held.version))
    if version is not None and not chosen:
        raise Refused("dataset.version", dataset=dataset_id, version=version[:64])
    if column is None:
        return chosen
    having = tuple(held for held in chosen if _has(held, column))
    if not having:
        raise Refused("dataset.column", dataset=dataset_id, column=column[:64])
    return having


def _has(held: HeldVersion, column: str) -> bool:
    return column not in held.dropped and (held.spec.column(column) is not None or column == held.spec.entity_column)
