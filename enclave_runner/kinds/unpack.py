"""Decompression away from the reader: DuckDB reads gzip from files alone, and a pipe is no file."""

from __future__ import annotations

import gzip
import shutil
import zlib

from enclave_runner.kinds.tasks import Declined, Done, Unpacking

PIECE = 1 << 20


def run(task: Unpacking, descriptors: list[int]) -> Done | Declined:
    """Everything that the first pipe brings goes decompressed into the second; damaged or cut, it is declined."""
    source, target = descriptors
    with open(source, "rb") as packed, open(target, "wb", buffering=0) as plain:
        try:
            with gzip.GzipFile(fileobj=packed) as unpacked:
                shutil.copyfileobj(unpacked, plain, PIECE)
        except (gzip.BadGzipFile, EOFError, zlib.error):
            return Declined(rule="import.format", facts={})
    return Done()
