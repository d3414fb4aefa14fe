"""A bureau for benchmarks: keys, a fresh enclave, and tickets for one dataset."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

from enclave_runner.contract.codec import decode, digest, encode
from enclave_runner.contract.dataset import DatasetSpec
from enclave_runner.contract.grant import PURPOSE as GRANT
from enclave_runner.contract.grant import Grant, Mode, Purpose, Scope
from enclave_runner.contract.job import Job, Question
from enclave_runner.contract.privacy import RHO_UNIT, PrivacyLoss
from enclave_runner.contract.receipt import Outcome, Receipt
from enclave_runner.contract.signing import KeyFile, Signed, seal
from enclave_runner.contract.ticket import PURPOSE as TICKET
from enclave_runner.contract.ticket import Charge, Ticket
from enclave_runner.contract.trust import Trust
from enclave_runner.contract.wire import DATASET_PURPOSE, FileFormat, ImportData
from enclave_runner.jail.launcher import MemoryFile
from enclave_runner.supervisor.enclave import Enclave, open_enclave
from enclave_runner.supervisor.home import EnclaveHome, create_home
from enclave_runner.supervisor.intake import import_data
from enclave_runner.supervisor.run import run_ticket
from sandbox.settings import pack_folder

NUMBERS = count()


@dataclass(frozen=True)
class Office:
    """Who orders: an officer's and the control plane's key, and the enclave that trusts them."""

    enclave: Enclave
    officer: KeyFile
    control: KeyFile

    def import_csv(self, spec: DatasetSpec, path: Path) -> None:
        """Import a file under the officer's signature."""
        order = ImportData(spec=seal(spec, DATASET_PURPOSE, self.officer), format=FileFormat.CSV)
        with path.open("rb") as file:
            import_data(self.enclave, order, file.fileno())

    def grant(self, spec: DatasetSpec, columns: tuple[str, ...]) -> Signed:
        """A grant for one day around now, in the public interest, of those columns."""
        now = datetime.now(UTC)
        grant = Grant(
            grant_id="bench",
            operator_id="bench",
            operator_code="-",
            scenario_id="bench",
            purpose=Purpose.PUBLIC_INTEREST,
            modes=(Mode.QUERY, Mode.VERIFICATION),
            scopes=(Scope(dataset_id=spec.dataset_id, columns=columns),),
            not_before=now - timedelta(days=1),
            deadline=now + timedelta(days=1),
            budgets=(PrivacyLoss(entity_set=spec.entity_set, pico_rho=8 * RHO_UNIT),),
            max_uses=100_000,
        )
        return seal(grant, GRANT, self.officer)

    def run(self, spec: DatasetSpec, grant: Signed, job: Job, question: Question | None = None) -> None:
        """One ticket to its durable receipt; a job that is not released is no measurement."""
        held = self.enclave.holdings.find(spec.dataset_id)
        assert held is not None
        number, now = next(NUMBERS), datetime.now(UTC)
        attached = encode(question) if question else None
        ticket = Ticket(
            ticket_id=f"t{number}",
            submission_id=f"s{number}",
            grant=grant,
            job=job,
            data_versions={spec.dataset_id: held.version},
            input_sha256=digest(attached) if attached else None,
            policy_sha256=self.enclave.pack.sha256,
            charge=self._charge(job.mode),
            issued_at=now,
            expires_at=now + timedelta(minutes=5),
            audit_size=0,
            audit_root="",
        )
        signed = seal(ticket, TICKET, self.control)
        if attached is None:
            settled = run_ticket(self.enclave, signed, None)
        else:
            with MemoryFile(attached) as file:
                settled = run_ticket(self.enclave, signed, file.descriptor)
        assert settled.receipt is not None
        receipt = decode(settled.receipt.payload, Receipt)
        assert receipt.outcome is Outcome.RELEASED, (receipt.rule, receipt.facts, receipt.fault)

    def _charge(self, mode: Mode) -> Charge:
        """The pack's price tag for a use in the public interest."""
        wanted = (mode.value, Purpose.PUBLIC_INTEREST.value)
        tariffs = self.enclave.pack.table("tariffs.toml")
        name = next(name for name, tariff in tariffs.items() if (tariff["mode"], tariff["purpose"]) == wanted)
        tariff = tariffs[name]
        return Charge(tariff_id=name, unit_price_fen=tariff["unit_price_fen"], legal_basis=tariff["legal_basis"])


def ask(subject: str, claim: str) -> Question:
    """A question with a fresh salt."""
    return Question(subject=subject, claim=claim, salt=secrets.token_hex(32))


@contextmanager
def open_office(folder: Path) -> Iterator[Office]:
    """New keys and a new enclave below `folder`."""
    officer, control = KeyFile.create(folder / "officer"), KeyFile.create(folder / "control")
    home = EnclaveHome(folder / "enclave")
    create_home(home, Trust(control=(control.public_key,), officers=(officer.public_key,)), pack_folder())
    with open_enclave(home) as enclave:
        yield Office(enclave, officer, control)
