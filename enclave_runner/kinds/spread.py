"""How the norms of the units are spread: a histogram in which each unit falls into one bin."""

from __future__ import annotations

import numpy as np

from enclave_runner.kinds.engine import SPREAD, engine, load_extract
from enclave_runner.kinds.tasks import Spread, Vectors
from enclave_runner.plan.bound import NORM, ROWS

NORMS = {"rows": ROWS, "measured": NORM}


def run(task: Spread, descriptors: list[int]) -> Vectors:
    """Count units by bin; norms above the last edge fall into the last bin, norms of 0 nowhere."""
    with engine() as connection:
        load_extract(connection, descriptors[0], 0)
        norms = connection.execute(f"SELECT {NORMS[task.norm]} FROM {SPREAD}").fetchnumpy()[NORMS[task.norm]]
    found = np.asarray(norms, dtype=np.int64)
    bins = np.searchsorted(np.asarray(task.edges, dtype=np.int64), found[found > 0])
    counts = np.bincount(np.minimum(bins, len(task.edges) - 1), minlength=len(task.edges))
    return Vectors(vectors=(tuple(int(count) for count in counts),))
