"""A contestant's side of the talk: one JSON request per line on stdin, one answer per line on stdout. Standard library
only. A program offers one function per statement; loading comes before the first request and is not timed."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from benchmarks.dp.statements import BOUNDS, Answer, Bound

Ask = Callable[[Bound], Answer]


@dataclass(frozen=True)
class Given:
    """The files of one data set."""

    folder: Path

    @property
    def database(self) -> Path:
        """A DuckDB file with `events` and `users`."""
        return self.folder / "data.duckdb"

    def parquet(self, table: str) -> Path:
        """One table as Parquet, amounts as DOUBLE."""
        return self.folder / f"{table}.parquet"


def serve(load: Callable[[Given], Mapping[str, Ask]], peak_mib: Callable[[], float] | None = None) -> None:
    """Load, say so, and answer until stdin ends. What cannot be answered is answered with its reason."""
    parser = argparse.ArgumentParser(description="one contestant of `make bench-dp`")
    parser.add_argument("--data", type=Path, required=True, help="a folder written by benchmarks.dp.data")
    given = Given(parser.parse_args().data)
    answers = _private_stdout()
    began = time.perf_counter()
    asks = load(given)
    _say(answers, {"ready": sorted(asks), "seconds": time.perf_counter() - began})
    for line in sys.stdin:
        request = json.loads(line)
        ask = asks.get(request["statement"])
        if ask is None:
            _say(answers, {"reason": "not offered"})
        else:
            _say(answers, _timed(ask, BOUNDS[request["bound"]], peak_mib or own_peak_mib))


def _private_stdout() -> TextIO:
    """Libraries print where they like: their stdout becomes stderr, the talk keeps the real one."""
    kept = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(kept, "w", encoding="utf-8")


def _say(answers: TextIO, value: dict[str, object]) -> None:
    answers.write(json.dumps(value) + "\n")
    answers.flush()


def _timed(ask: Ask, bound: Bound, peak_mib: Callable[[], float]) -> dict[str, object]:
    began = time.perf_counter()
    try:
        answer = ask(bound)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a panic of a Rust library is no Exception
        return {"reason": f"{type(error).__name__}: {error}"[:300]}
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "answer": answer, "peak_mib": peak_mib()}


def own_peak_mib() -> float:
    """This process's high-water mark of resident memory; ru_maxrss would count what it inherited over fork."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024
