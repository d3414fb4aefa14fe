"""What the enclave needs for open products, opened once beside its other parts."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from enclave_runner.contract.call import ScoreAsk
from enclave_runner.contract.codec import digest, encode
from enclave_runner.contract.receipt import Measurement
from enclave_runner.contract.scoring import ScoreCheck
from enclave_runner.contract.signing import Signer
from enclave_runner.contract.wire import Progress
from enclave_runner.he import call as he_call
from enclave_runner.jail.launcher import Zygote
from enclave_runner.jail.profile import JailProfile
from enclave_runner.private.build import serving_profile
from enclave_runner.private.order import order
from enclave_runner.private.tasks import Serving, Task, TaskAnswer
from enclave_runner.private.worker import ServingWorker
from enclave_runner.supervisor.call_log import CallCommits
from enclave_runner.supervisor.database import Database
from enclave_runner.supervisor.guesses import Tallies
from enclave_runner.supervisor.limits import Limits
from enclave_runner.supervisor.retries import Retries
from enclave_runner.supervisor.selftest import require_jail
from enclave_runner.supervisor.serving import Products
from enclave_runner.supervisor.standing import StandingTickets
from enclave_runner.supervisor.verification_tables import VerificationTables

PROGRAM = "enclave_runner.private"
MAX_PROGRESS = 1000
OPENINGS = 4  # at the door at once, waiting ones included


class ServingZygote:
    """The zygote of builds and serving workers. It is started when the first product is opened, and proves its jail."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        # A zygote dies with the thread that started it (PR_SET_PDEATHSIG): this one lives as long as we do.
        self._keeper = ThreadPoolExecutor(1, "serving-zygote")
        self._scoring = threading.BoundedSemaphore(os.cpu_count() or 1)  # a jail each, with memory of its own
        self._zygote: Zygote | None = None

    def close(self) -> None:
        """End it, and with it every worker."""
        self._keeper.shutdown()
        if self._zygote is not None:
            self._zygote.close()

    def work(self, task: Task, descriptors: Sequence[int], profile: JailProfile) -> TaskAnswer:
        """Run one task of a build; its answer is read in a second jail.

        Raises:
            Failed: `jail.…`, the launcher's codes, `job.answer`.
        """
        return order(self._proven(), task, descriptors, profile, self._limits.parse_profile)

    def start(self, task: Serving, descriptors: Sequence[int]) -> ServingWorker:
        """Start a serving worker.

        Raises:
            Failed: `jail.…`.
        """
        limits, size = self._limits.verification, sum(os.fstat(descriptor).st_size for descriptor in descriptors)
        profile = serving_profile(limits.profile, size)
        return ServingWorker.start(self._proven(), profile, task, descriptors, limits.answer_seconds)

    def score(self, check: ScoreCheck, ask: ScoreAsk, points: bytes) -> bytes:
        """The encrypted half of P5, in a jail of this call's own.

        Raises:
            Refused: `scoring.length`, `scoring.ciphertext`.
            Failed: `jail.…`, the launcher's codes, `serving.answer`.
        """
        with self._scoring:
            return he_call.score(self._proven(), he_call.PROFILE, check, ask, points)

    def _proven(self) -> Zygote:
        """A living zygote whose jail was proved since it began."""
        known = self._zygote
        return known if known is not None and known.is_alive else self._keeper.submit(self._start).result()

    def _start(self) -> Zygote:
        if self._zygote is None:
            fresh = Zygote(PROGRAM)
            try:
                self._prove(fresh)
            except BaseException:
                fresh.close()
                raise
            self._zygote = fresh
        self._zygote.revive(self._prove)
        return self._zygote

    def _prove(self, fresh: Zygote) -> None:
        require_jail(fresh, self._limits.job_profile)


class Openings:
    """How far each opening is. One table is built at a time; several threads may use it."""

    def __init__(self) -> None:
        self.building = threading.Lock()
        self.places = threading.BoundedSemaphore(OPENINGS)  # who waits holds one of the door's conversations
        self._lock = threading.Lock()
        self._progress: dict[str, Progress] = {}

    def note(self, ticket_id: str, stage: str, done: int = 0, total: int = 1) -> None:
        """From now on that is how far it is."""
        with self._lock:
            self._progress.pop(ticket_id, None)
            self._progress[ticket_id] = Progress(stage=stage, done=done, total=total)
            if len(self._progress) > MAX_PROGRESS:
                del self._progress[next(iter(self._progress))]

    def forget(self, ticket_id: str) -> None:
        """It has ended, one way or the other."""
        with self._lock:
            self._progress.pop(ticket_id, None)

    def progress(self, ticket_id: str) -> Progress | None:
        """How far it is, if it is under way."""
        with self._lock:
            return self._progress.get(ticket_id)


@dataclass(frozen=True)
class Verification:
    """The parts that answer calls."""

    zygote: ServingZygote
    tables: VerificationTables
    standing: StandingTickets
    products: Products
    tallies: Tallies
    commits: CallCommits
    retries: Retries
    openings: Openings


@contextmanager
def open_verification(
    database: Database,
    ledger: Path,
    tables: VerificationTables,
    standing: StandingTickets,
    limits: Limits,
    signer: Signer,
    measurement: Measurement,
    clock: Callable[[], datetime],
) -> Iterator[Verification]:
    """Open the parts; no product answers yet, and none does after the block."""
    commits = CallCommits(database, signer, digest(encode(measurement)), clock)
    with (
        closing(Tallies(ledger)) as tallies,
        closing(ServingZygote(limits)) as zygote,
        closing(Products()) as products,
    ):
        yield Verification(
            zygote=zygote,
            tables=tables,
            standing=standing,
            products=products,
            tallies=tallies,
            commits=commits,
            retries=Retries(),
            openings=Openings(),
        )
