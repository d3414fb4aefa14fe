"""One running enclave: everything that the verbs (run, import, quote) work with, opened once, in a fixed order.

Nothing starts without keys, trust, limits and a jail that has just proved that it holds.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime

from enclave_runner.attest.measure import measure
from enclave_runner.contract.codec import decode, encode
from enclave_runner.contract.errors import Failed
from enclave_runner.contract.receipt import Measurement
from enclave_runner.contract.rulebook import PolicyPack
from enclave_runner.contract.signing import KeyFile
from enclave_runner.contract.trust import Trust
from enclave_runner.jail.launcher import Zygote
from enclave_runner.jail.profile import JailProfile
from enclave_runner.kinds.tasks import Task, TaskAnswer
from enclave_runner.rawdata.store import RawStore
from enclave_runner.supervisor.database import Database
from enclave_runner.supervisor.holdings import Holdings
from enclave_runner.supervisor.home import EnclaveHome, read_trust
from enclave_runner.supervisor.ledger import Ledger, utc_now
from enclave_runner.supervisor.limits import Limits, read_limits
from enclave_runner.supervisor.selftest import require_jail

JOBS_AT_ONCE = 4


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
    pseudonym_key: bytes
    clock: Callable[[], datetime]
    jobs: threading.Semaphore  # how many jobs run at once
    importing: threading.Lock  # imports publish one at a time, so that each sees the version before it

    def require_zygote(self) -> None:
        """A living zygote, before anything is spent; a new one has to prove its jail first.

        Raises:
            Failed: `jail.open`, `jail.absent`.
        """
        self.zygote.revive(lambda fresh: require_jail(fresh, self.limits.job_profile))

    def now(self) -> datetime:
        """The time by which tickets and grants are judged; it never goes back."""
        return self.ledger.now(self.clock())

    def work(self, task: Task, descriptors: list[int], profile: JailProfile | None = None) -> TaskAnswer:
        """Run one task in a fresh jail.

        Raises:
            Failed: the launcher's codes, or `job.answer` when the answer is no typed answer.
        """
        raw = self.zygote.run(encode(task), descriptors, profile or self.limits.job_profile)
        try:
            answer: TaskAnswer = decode(raw, TaskAnswer)  # type: ignore[arg-type]
        except Exception:
            raise Failed("job.answer") from None
        return answer

    def note_fault(self, failed: Failed, subject: str) -> None:
        """Write a fault where the bureau's engineers find it by its id: code and ticket only."""
        line = {"at": utc_now().isoformat(), "fault": failed.fault, "code": failed.code, "subject": subject}
        with self.home.log.open("a", encoding="utf-8") as log:
            log.write(json.dumps(line, sort_keys=True) + "\n")


@contextmanager
def open_enclave(home: EnclaveHome, clock: Callable[[], datetime] = utc_now) -> Iterator[Enclave]:
    """Open a home and start the zygote; fail closed on anything missing.

    Raises:
        Failed: `home.…`, `key.…`, `policy.…`, `jail.…`.
    """
    key, trust = KeyFile.load(home.receipt_key), read_trust(home)
    pack = PolicyPack(home.policies)
    limits = read_limits(pack)
    store = RawStore(home.rawdata)
    with closing(Database(home.ledger)) as database, Zygote() as zygote:
        holdings = Holdings(database)
        store.sweep(holdings.files())
        require_jail(zygote, limits.job_profile)
        yield Enclave(
            home=home,
            key=key,
            trust=trust,
            pack=pack,
            limits=limits,
            store=store,
            ledger=Ledger(database, key, limits.lifetime),
            holdings=holdings,
            zygote=zygote,
            measurement=measure(limits.job_profile),
            pseudonym_key=home.pseudonym_key.read_bytes(),
            clock=clock,
            jobs=threading.Semaphore(JOBS_AT_ONCE),
            importing=threading.Lock(),
        )
