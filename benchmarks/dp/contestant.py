"""A program of `benchmarks.dp.peers` from outside: started once, asked many times, ended with all that it started."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from benchmarks.dp.protocol import Given
from benchmarks.dp.statements import Answer, Bound

ROOT = Path(__file__).parents[2]
LOAD_SECONDS, ANSWER_SECONDS, END_SECONDS = 900.0, 600.0, 10.0


@dataclass(frozen=True)
class Run:
    """One answer, what it took from plan to result, and the most memory that was resident so far."""

    seconds: float
    answer: Answer
    peak_mib: float


@dataclass(frozen=True)
class NoRun:
    """Why there is no answer."""

    reason: str


class Contestant(Protocol):
    """Whoever can be asked."""

    @property
    def name(self) -> str:
        """How the scores call it."""
        ...

    def ask(self, statement: str, bound: Bound) -> Run | NoRun:
        """One answer to one statement under one bound."""
        ...


class Program:
    """One running contestant. Whatever goes wrong with it is a reason, never an exception."""

    def __init__(self, name: str, command: Sequence[str], log: Path, patience: float = ANSWER_SECONDS) -> None:
        """Start and wait until it has loaded; `failed` tells what went wrong, "" if nothing did.

        An answer may take `patience` seconds. Its stderr goes to `log`.
        """
        self.name = name
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
                env={**os.environ, "POLARS_MAX_THREADS": "2", "PYTHONPATH": str(ROOT)},
            )
        self._log, self._patience = log, patience
        self.failed = ""
        self._line(LOAD_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def ask(self, statement: str, bound: Bound) -> Run | NoRun:
        """One answer; after the program has ended or overrun once, only the reason of that."""
        if self.failed or self._process.stdin is None:
            return NoRun(self.failed)
        request = json.dumps({"statement": statement, "bound": bound.rows}) + "\n"
        with suppress(BrokenPipeError):  # the answer will say that it has ended
            self._process.stdin.write(request.encode())
            self._process.stdin.flush()
        said = self._line(self._patience)
        if "answer" in said:
            return Run(said["seconds"], said["answer"], said["peak_mib"])
        return NoRun(self.failed or str(said["reason"]))

    def _line(self, seconds: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], seconds)
        line = self._process.stdout.readline() if ready else b""
        if line:
            said: dict[str, Any] = json.loads(line)
            return said
        self.failed = self._last_words() if ready else f"no answer within {seconds:.0f} s"
        self.close()
        return {}

    def _last_words(self) -> str:
        lines = [line for line in self._log.read_text("utf-8", "replace").splitlines() if line.strip()]
        return f"it ended: {lines[-1][:200]}" if lines else "it ended without a word"

    def close(self) -> None:
        """Ends it and every process that it started."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(END_SECONDS if not self.failed else 0)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def start(name: str, python: Path, given: Given) -> Program:
    """The program of that name under `benchmarks.dp.peers`, on those files."""
    command = [str(python), "-m", f"benchmarks.dp.peers.{name}", "--data", str(given.folder.resolve())]
    return Program(name, command, given.folder / f"{name}.log")


@contextmanager
def running(pythons: dict[str, Path], given: Given) -> Iterator[list[Program]]:
    """Those contestants, loaded one after another; all of them ended at the end."""
    programs: list[Program] = []
    try:
        for name, python in pythons.items():
            programs.append(start(name, python, given))
        yield programs
    finally:
        for program in programs:
            program.close()
