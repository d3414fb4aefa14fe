"""A real enclave in a folder of its own: real keys, home, zygote and jail; and orders with sensible defaults.

Nothing here stands in for a part of the enclave. `Bureau` is the outside: the two keys that the enclave trusts.
"""

from __future__ import annotations

import dataclasses
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from enclave_runner.contract.codec import digest, encode
from enclave_runner.contract.dataset import Column, ColumnType, DatasetSpec, KeyKind
from enclave_runner.contract.grant import PURPOSE as GRANT_PURPOSE
from enclave_runner.contract.grant import Grant, Mode, Purpose, Scope
from enclave_runner.contract.job import Job, Predicate, QueryJob, Question, VerificationJob
from enclave_runner.contract.privacy import RHO_UNIT, Budget, PrivacyLoss
from enclave_runner.contract.receipt import PURPOSE as RECEIPT_PURPOSE
from enclave_runner.contract.receipt import Receipt
from enclave_runner.contract.rulebook import PolicyPack
from enclave_runner.contract.signing import KeyFile, Signed, seal, unseal
from enclave_runner.contract.ticket import PURPOSE as TICKET_PURPOSE
from enclave_runner.contract.ticket import Ticket
from enclave_runner.contract.trust import Trust
from enclave_runner.contract.wire import DATASET_PURPOSE, FileFormat, ImportData, ImportReport, Settlement
from enclave_runner.jail.launcher import MemoryFile
from enclave_runner.rawdata.kms import FILE_KMS, KmsChoice
from enclave_runner.supervisor.enclave import Enclave, open_enclave
from enclave_runner.supervisor.home import EnclaveHome, create_home
from enclave_runner.supervisor.intake import import_data
from enclave_runner.supervisor.ledger import utc_now
from enclave_runner.supervisor.run import run_ticket
from tests.support.tariffs import pack_charge

POLICIES = Path(__file__).parents[2] / "policies"
BUDGET = Budget(epsilon="1.0", delta="1e-6")
AGES = "SELECT sex, COUNT(*) AS n FROM people GROUP BY sex"
PEOPLE_CSV = "id,sex,age,income,city,joined,active\n" + "".join(
    f"p{number},{'男' if number % 2 else '女'},{20 + number % 60},{number}.50,{'东' if number % 3 else '西'}城,"
    f"20{number % 24:02d}-01-{1 + number % 28:02d},{'true' if number % 5 else 'false'}\n"
    for number in range(200)
)


def column(name: str, kind: ColumnType, **fields: object) -> Column:
    """A column that is titled by its name."""
    return Column(name=name, title=name, type=kind, **fields)  # type: ignore[arg-type]


PEOPLE = DatasetSpec(
    dataset_id="people",
    columns=(
        column("id", ColumnType.TEXT, grade=3),
        column("sex", ColumnType.TEXT, domain=("男", "女", "未知"), nullable=True),
        column("age", ColumnType.INTEGER, bounds=(0, 120), nullable=True),
        column("income", ColumnType.DECIMAL, scale=2, bounds=(0, 100_000), nullable=True),
        column("city", ColumnType.TEXT, nullable=True),
        column("joined", ColumnType.DATE, nullable=True),
        column("active", ColumnType.BOOLEAN, nullable=True),
    ),
    entity_set="resident",
    entity_column="id",
    key_kind=KeyKind.OPAQUE,
    population_cap=10_000,
    unique=True,
    rows_per_entity=1,
)


@dataclass(frozen=True)
class Bureau:
    """The keys outside the enclave, and where its home is."""

    officer: KeyFile
    control: KeyFile
    home: EnclaveHome

    @property
    def policy_sha256(self) -> str:
        """The digest of the pack that the home holds."""
        return PolicyPack(self.home.policies).sha256


def policies_copy(folder: Path, **replaced: str) -> Path:
    """A copy of the project's pack; each `name=value` replaces that setting of limits.toml."""
    copy = folder / "pack"
    shutil.copytree(POLICIES, copy)
    text = (copy / "limits.toml").read_text(encoding="utf-8")
    lines = [
        f"{line.split(' = ')[0]} = {replaced[line.split(' = ')[0]]}" if line.split(" = ")[0] in replaced else line
        for line in text.splitlines()
    ]
    (copy / "limits.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return copy


def make_bureau(folder: Path, kms: KmsChoice = FILE_KMS, **limits: str) -> Bureau:
    """Keys and a fresh enclave home below `folder`; `limits` as in `policies_copy`."""
    officer, control = KeyFile.create(folder / "officer.key"), KeyFile.create(folder / "control.key")
    trust = Trust(control=(control.public_key,), officers=(officer.public_key,))
    home = EnclaveHome(folder / "home")
    create_home(home, trust, policies_copy(folder, **limits), kms)
    return Bureau(officer, control, home)


@dataclass(frozen=True)
class Site:
    """A running enclave and the bureau that orders from it."""

    bureau: Bureau
    enclave: Enclave

    def import_csv(self, spec: DatasetSpec, content: str | bytes, header: bool = True) -> ImportReport:
        """Import CSV text under the officer's signature."""
        data = content.encode() if isinstance(content, str) else content
        return self.import_bytes(spec, data, FileFormat.CSV, header)

    def import_bytes(
        self, spec: DatasetSpec, data: bytes, kind: FileFormat = FileFormat.CSV, header: bool = True
    ) -> ImportReport:
        """Import a file's bytes under the officer's signature."""
        order = ImportData(spec=sign_spec(self.bureau, spec), format=kind, header=header)
        with rewound(data) as descriptor:
            return import_data(self.enclave, order, descriptor)

    def run(self, ticket: Ticket, attached: bytes | None = None) -> Settlement:
        """Sign the ticket with the control plane's key and run it."""
        signed = seal(ticket, TICKET_PURPOSE, self.bureau.control)
        if attached is None:
            return run_ticket(self.enclave, signed, None)
        with rewound(attached) as descriptor:
            return run_ticket(self.enclave, signed, descriptor)

    def order(self, job: Job, grant: Grant | None = None, attached: bytes | None = None, **fields: object) -> Receipt:
        """Order one job under the default grant and give its verified receipt."""
        return self.receipt(self.settle(job, grant, attached, **fields))

    def settle(
        self, job: Job, grant: Grant | None = None, attached: bytes | None = None, **fields: object
    ) -> Settlement:
        """Order one job under the default grant."""
        return self.run(self.ticket(job, grant, attached, **fields), attached)

    def ticket(self, job: Job, grant: Grant | None = None, attached: bytes | None = None, **fields: object) -> Ticket:
        """A ticket for the newest data version."""
        held = self.enclave.holdings.find("people" if not isinstance(job, VerificationJob) else job.dataset_id)
        versions = {held.dataset_id: held.version} if held else {}
        return make_ticket(self.bureau, job, grant or make_grant(), attached, **{"data_versions": versions, **fields})

    def receipt(self, settlement: Settlement) -> Receipt:
        """The receipt, verified against the enclave's key."""
        assert settlement.receipt is not None
        return unseal(settlement.receipt, RECEIPT_PURPOSE, (self.enclave.key.public_key,), Receipt)

    def spent(self, entity_set: str = "resident") -> int:
        """What the odometer shows, reservations included."""
        return sum(
            item.spent + item.reserved for item in self.enclave.ledger.readings() if item.entity_set == entity_set
        )


@contextmanager
def running_site(bureau: Bureau, clock: Callable[[], datetime] = utc_now) -> Iterator[Site]:
    """The enclave of that home, opened in this process."""
    with open_enclave(bureau.home, clock) as enclave:
        yield Site(bureau, enclave)


@contextmanager
def rewound(data: bytes) -> Iterator[int]:
    """A descriptor of an anonymous file that holds `data`, at its beginning."""
    with MemoryFile(data) as file:
        os.lseek(file.descriptor, 0, os.SEEK_SET)
        yield file.descriptor


def sign_spec(bureau: Bureau, spec: DatasetSpec) -> Signed:
    """The spec under the officer's signature."""
    return seal(spec, DATASET_PURPOSE, bureau.officer)


def make_grant(**fields: object) -> Grant:
    """A grant of every column but the identifier of `people`, in every mode, for an hour each way."""
    now = datetime.now(UTC).replace(microsecond=0)
    defaults: dict[str, object] = {
        "grant_id": f"grant-{secrets.token_hex(6)}",
        "operator_id": "operator-1",
        "operator_code": "91350100M000100Y43",
        "scenario_id": "scenario-1",
        "purpose": Purpose.INDUSTRY,
        "modes": tuple(Mode),
        "scopes": (
            Scope(dataset_id="people", columns=tuple(item.name for item in PEOPLE.columns if item.name != "id")),
        ),
        "not_before": now - timedelta(hours=1),
        "deadline": now + timedelta(hours=1),
        "budgets": (PrivacyLoss(entity_set="resident", pico_rho=RHO_UNIT),),
        "max_uses": 1000,
    }
    return Grant(**{**defaults, **fields})  # type: ignore[arg-type]


def make_ticket(bureau: Bureau, job: Job, grant: Grant, attached: bytes | None = None, **fields: object) -> Ticket:
    """A ticket that is valid for five minutes, with the officer's signature on its grant."""
    now = datetime.now(UTC).replace(microsecond=0)
    defaults: dict[str, object] = {
        "ticket_id": f"ticket-{secrets.token_hex(8)}",
        "submission_id": "submission-1",
        "grant": seal(grant, GRANT_PURPOSE, bureau.officer),
        "job": job,
        "data_versions": {},
        "input_sha256": digest(attached) if attached is not None else None,
        "policy_sha256": bureau.policy_sha256,
        "charge": pack_charge(job.mode, grant.purpose),
        "issued_at": now - timedelta(seconds=5),
        "expires_at": now + timedelta(seconds=300),
        "audit_size": 0,
        "audit_root": "00" * 32,
    }
    return Ticket(**{**defaults, **fields})  # type: ignore[arg-type]


def query(sql: str = AGES, epsilon: str = "0.1") -> QueryJob:
    """A DP table at a small ε."""
    return QueryJob(sql=sql, budget=Budget(epsilon=epsilon))


def question(subject: str, claim: str = "") -> bytes:
    """The private half of a verification, as it travels."""
    return encode(Question(subject=subject, claim=claim, salt=secrets.token_hex(32)))


def verification(attribute: str, predicate: Predicate = Predicate.EQUALS) -> VerificationJob:
    """A question about one attribute of `people`."""
    return VerificationJob(dataset_id="people", attribute=attribute, predicate=predicate)


def changed(spec: DatasetSpec, **fields: object) -> DatasetSpec:
    """The spec with some fields replaced."""
    values = {name: getattr(spec, name) for name in spec.__struct_fields__}
    return DatasetSpec(**{**values, **fields})


def with_enclave(site: Site, **parts: object) -> Site:
    """The same site with some parts of the enclave replaced (a clock, a home)."""
    return Site(site.bureau, dataclasses.replace(site.enclave, **parts))  # type: ignore[arg-type]
