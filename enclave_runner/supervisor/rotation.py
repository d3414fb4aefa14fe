"""Replacing the key-encryption key of a home."""

from __future__ import annotations

import os
from contextlib import closing

from enclave_runner.rawdata.kms import Rotation
from enclave_runner.supervisor.database import Database
from enclave_runner.supervisor.holdings import Holdings
from enclave_runner.supervisor.home import EnclaveHome, lock_home
from enclave_runner.supervisor.removal import finish_drops, finish_tables


def rotate_keys(home: EnclaveHome) -> Rotation:
    """Wrap every data key under a fresh KEK and destroy the old ones; data are not encrypted again.

    Killed anywhere, the home still opens and the next call completes. The enclave must not run.

    Raises:
        Failed: `home.busy`, `kms.…`, `rawdata.…`: then the old KEKs are kept.
    """
    lock = lock_home(home)
    try:
        store = home.open_store()
        with closing(Database(home.ledger)) as database:
            holdings = Holdings(database)
            finish_drops(store, holdings)  # or keys of dropped data would be wrapped again
            finish_tables(store, database, holdings)
        return home.kms.rotate(store)
    finally:
        os.close(lock)
