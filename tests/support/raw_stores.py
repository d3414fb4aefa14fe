"""Raw stores with real keys in a temporary folder, and what is written into them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from enclave_runner.rawdata.kms import Kms, KmsChoice
from enclave_runner.rawdata.store import RawStore
from enclave_runner.rawdata.suite import Suite


def kms_in(folder: Path) -> Kms:
    """The key management of a home in that folder."""
    return Kms(folder / "kms.json", folder / "kek")


def make_store(folder: Path, suite: Suite = Suite.AES_256_GCM) -> RawStore:
    """A new store under a new file key."""
    kms_in(folder).create(KmsChoice(suite=suite))
    return open_store(folder)


def open_store(folder: Path) -> RawStore:
    """The store again, as a restarted enclave opens it."""
    return RawStore(folder / "raw", *kms_in(folder).open())


def publish(store: RawStore, version: str = "v1-a", dataset: str = "people", **columns: bytes) -> str:
    """A version with these columns; its name."""
    draft = store.draft(dataset, tuple(columns))
    for number, content in enumerate(columns.values()):
        draft.write(number, content)
    return store.publish(draft, dataset, version)


def contents(store: RawStore, name: str, *columns: str) -> list[bytes]:
    """The plaintext of these columns."""
    read = []
    for descriptor in store.open_columns(name, columns):
        with os.fdopen(descriptor, "rb") as file:
            file.seek(0)
            read.append(file.read())
    return read


def files_with(folder: Path, needles: Iterable[bytes]) -> list[str]:
    """Every file below the folder that holds one of the needles, byte by byte."""
    wanted = list(needles)
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and any(needle in path.read_bytes() for needle in wanted)
    )


def open_files() -> list[str]:
    """This process's descriptors."""
    return sorted(path.name for path in Path("/proc/self/fd").iterdir())
