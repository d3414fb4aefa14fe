"""One running enclave: everything that the verbs (run, import, quote) work with, opened once, in a fixed order.

Nothing starts without keys, trust, limits and a jail that has just proved that it holds.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime

from enclave_runner.attest.measure import measure
from enclave_runner.attest.packages import packages_digest
from enclave_runner.contract.codec import decode, encode
from enclave_runner.contract.errors import Failed
from enclave_runner.contract.receipt import Measurement
from enclave_runner.contract.rulebook import PolicyPack
from enclave_runner.contract.signing import KeyFile
from enclave_runner.contract.trust import Trust
from enclave_runner.jail.launcher import MemoryFile, Zygote
from enclave_runner.jail.profile import JailProfile
from enclave_runner.kinds.tasks import Done, Gating, Task, TaskAnswer
from enclave_runner.rawdata.store import RawStore
from enclave_runner.supervisor.attestation_log import AttestationLog
from enclave_runner.supervisor.database import Database
from enclave_runner.supervisor.holdings import Holdings
from enclave_runner.supervisor.home import EnclaveHome, read_trust
from enclave_runner.supervisor.ledger import Ledger, utc_now
from enclave_runner.supervisor.limits import Limits, read_limits
from enclave_runner.supervisor.remembered import Remembered
from enclave_runner.supervisor.removal import finish_drops
from enclave_runner.supervisor.schedule import Schedule
from enclave_runner.supervisor.selftest import JailOpen, require_jail
from enclave_runner.supervisor.standing import StandingTickets
from enclave_runner.supervisor.table_sweep import sweep_tables
from enclave_runner.supervisor.turns import Turns
from enclave_runner.supervisor.verification import Verification, open_verification
from enclave_runner.supervisor.verification_tables import VerificationTables

JOBS_AT_ONCE = 4
DONE = encode(Done())
REMEMBERED = 256  # plans and rehearsals
PROOF_EVERY = 1000  # orders between two proofs of one zygote's jail


@dataclass(frozen=True)
class Enclave:
    """The parts of a running enclave."""

    home: EnclaveHome
    key: KeyFile
    trust: Trust
    pack: PolicyPack
    limits: Limits
    store: RawStore
    ledger: Ledger
    holdings: Holdings
    zygote: Zygote
    measurement: Measurement
    probes: dict[str, str]  # the outcome of each escape probe at the start
    attestations: AttestationLog
    pseudonym_key: bytes
    clock: Callable[[], datetime]
    schedule: Schedule
    remembered: Remembered
    turns: Turns
    orders: Iterator[int]  # counts what was asked for
    jobs: threading.Semaphore  # how many jobs run at once
    quotes: threading.Semaphore
    importing: threading.Lock  # imports publish one at a time, so that each sees the version before it
    verification: Verification

    def require_zygote(self) -> None:
        """A living zygote, before anything is spent; a new one has to prove its jail first, an old one now and then.

        Raises:
            Failed: `jail.open`, `jail.absent`.
        """
        self.zygote.revive(lambda fresh: require_jail(fresh, self.limits.job_profile))
        if next(self.orders) % PROOF_EVERY:
            return
        try:
            require_jail(self.zygote, self.limits.job_profile)
        except BaseException:
            self.zygote.close()  # it takes no more orders; the next one has to prove itself first
            raise

    def now(self) -> datetime:
        """The time by which tickets and grants are judged; it never goes back."""
        return self.ledger.now(self.clock())

    def work(self, task: Task, descriptors: list[int], profile: JailProfile | None = None) -> TaskAnswer:
        """Run one task in a jail of its own, and read its answer in a second one.

        Raises:
            Failed: the launcher's codes, or `job.answer` when the answer is no typed answer.
        """
        raw = self.zygote.run(encode(task), descriptors, profile or self.limits.job_profile)
        if raw == DONE:  # compared, not read: the commonest answer needs no gate
            return Done()
        try:
            with MemoryFile(raw) as said:
                vetted = self.zygote.run(encode(Gating()), [said.descriptor], self.limits.parse_profile)
            answer: TaskAnswer = decode(vetted, TaskAnswer)  # type: ignore[arg-type]
        except Exception:
            raise Failed("job.answer") from None
        return answer

    def note_fault(self, failed: Failed, subject: str) -> None:
        """Write a fault where the bureau's engineers find it by its id: code and ticket only. Never raises."""
        self.home.note_fault(failed, subject, failed.names if isinstance(failed, JailOpen) else ())


@contextmanager
def open_enclave(home: EnclaveHome, clock: Callable[[], datetime] = utc_now) -> Iterator[Enclave]:
    """Open a home and start the zygote; fail closed on anything missing.

    Raises:
        Failed: `home.…`, `key.…`, `kms.…`, `policy.…`, `rawdata.…`, `jail.…`.
    """
    key, trust = KeyFile.load(home.receipt_key), read_trust(home)
    pack = PolicyPack(home.policies)
    limits = read_limits(pack)
    store = home.open_store()
    with closing(Database(home.ledger)) as database, ThreadPoolExecutor(1) as pool, Zygote() as zygote:
        packages = pool.submit(packages_digest)  # takes as long as the zygote takes to import them
        holdings = Holdings(database)
        ledger = Ledger(database, key, limits.caps)
        finish_drops(store, holdings)
        tables, standing = VerificationTables(store, database), StandingTickets(database)
        sweep_tables(
            tables,
            standing,
            holdings,
            ledger.now(clock()),
            ledger.not_before(),
            lambda item: item.is_signed_by(trust, pack.sha256),
        )
        store.sweep(holdings.files() | tables.names())
        selftest = require_jail(zygote, limits.job_profile)
        probes = selftest.outcomes
        # A job takes up to three workers one after the other, and each answer one more to read it.
        for profile, count in ((limits.job_profile, 2), (limits.extract_profile, 1), (limits.parse_profile, 4)):
            zygote.keep_ready(profile, count)
        packages.result()
        measurement = measure(limits.job_profile, probes)
        with open_verification(database, home.ledger, tables, standing, limits, key, measurement, clock) as parts:
            yield Enclave(
                home=home,
                key=key,
                trust=trust,
                pack=pack,
                limits=limits,
                store=store,
                ledger=ledger,
                holdings=holdings,
                zygote=zygote,
                measurement=measurement,
                probes=probes,
                attestations=AttestationLog(database),
                pseudonym_key=home.pseudonym_key.read_bytes(),
                clock=clock,
                schedule=Schedule(limits.first_release),
                remembered=Remembered(REMEMBERED),
                turns=Turns(),
                orders=itertools.count(1),
                jobs=threading.Semaphore(JOBS_AT_ONCE),
                quotes=threading.Semaphore(JOBS_AT_ONCE),
                importing=threading.Lock(),
                verification=parts,
            )
