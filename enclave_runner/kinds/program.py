"""The zygote's program: import everything that a worker may need, then wait for orders.

The worker's root is empty, so a module that is not imported here does not exist for a job. That includes the codecs and
modules that libraries import on first use.
"""

from __future__ import annotations

import _strptime  # type: ignore[import-not-found]  # noqa: F401
import decimal  # noqa: F401
import encodings.idna
import encodings.latin_1
import encodings.utf_8_sig  # noqa: F401
import fractions  # noqa: F401
import json  # noqa: F401
import random  # noqa: F401
import socket
import statistics  # noqa: F401
import uuid  # noqa: F401
import zoneinfo  # noqa: F401

import numpy.fft
import numpy.linalg
import numpy.ma
import numpy.random  # noqa: F401
import pyarrow.compute
import pyarrow.parquet  # noqa: F401
import sqlglot.dialects.duckdb  # noqa: F401

from enclave_runner.jail.zygote import serve
from enclave_runner.kinds import engine, parsing
from enclave_runner.kinds.tasks import Parsing
from enclave_runner.kinds.work import ready, work


def main(orders: int) -> None:
    """Serve the supervisor's orders on that descriptor until it hangs up."""
    engine.open_ahead()
    parsing.run(Parsing(sql="SELECT COUNT(*) AS n FROM people", features=False), [])  # its parser is made on first use
    serve(socket.socket(fileno=orders), work, ready)
