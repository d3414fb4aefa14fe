"""A control plane over the simulated enclave: parties, one dataset, two scenarios, two signed grants, a product."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from enclave_runner.contract.dataset import Column, ColumnType
from enclave_runner.contract.errors import Failed
from enclave_runner.contract.grant import PURPOSE, Grant, Mode, Purpose, Scope
from enclave_runner.contract.job import ModelJob, Predicate, QueryJob, VerificationJob
from enclave_runner.contract.privacy import RHO_UNIT, Budget, PrivacyLoss
from enclave_runner.contract.rulebook import PolicyPack
from enclave_runner.contract.signing import KeyFile, seal
from enclave_runner.contract.trust import Trust
from enclave_runner.contract.wire import DATASET_PURPOSE, FileFormat, Reply, Request, RunJob
from sandbox.domain.dataset import Dataset
from sandbox.domain.party import Party, Role
from sandbox.domain.product import Product
from sandbox.domain.scenario import Scenario
from sandbox.settings import Home, pack_folder
from sandbox.workflow.datasets import import_dataset
from sandbox.workflow.grants import draft_grant, sign_grant
from sandbox.workflow.office import Actor, Office, create_office, local_actor, open_office
from sandbox.workflow.parties import register_party
from sandbox.workflow.products import publish_product
from sandbox.workflow.scenarios import authorize_scenario
from tests.support.articles import CREDIT_CODE, a_dataset, a_spec, credit_code_of
from tests.support.simulated_enclave import SimulatedEnclave

START = datetime(2026, 11, 2, 8, 0, tzinfo=UTC)
DEPARTMENT, OPERATOR, OTHER, BANK, SHOP = "social-security", "operator-a", "operator-b", "bank", "shop"
FREE, PAID, PRODUCT = "grant-free", "grant-paid", "insured"
RESIDENT = "990001199001011234"
COUNT = QueryJob(sql="SELECT COUNT(*) AS n FROM insurance", budget=Budget(epsilon="1"))


NEXT_MONTH = datetime(2026, 12, 1, 8, 0, tzinfo=UTC)


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **by: float) -> None:
        """Let time pass."""
        self.now += timedelta(**by)


@dataclass(frozen=True)
class Bureau:
    """An open office with what stands around it."""

    office: Office
    enclave: SimulatedEnclave
    officer: KeyFile
    clock: Clock

    def actor(self, party: str = "bureau", person: str = "clerk") -> Actor:
        """Somebody of a party, as it stands now."""
        return local_actor(self.office, party, person)

    def after_the_month(self) -> Office:
        """The same office when November has ended: invoices are issued then."""
        return replace(self.office, clock=lambda: NEXT_MONTH)

    def sign(self, grant: Grant) -> None:
        """Draft a grant and have the officer sign it."""
        draft_grant(self.office, self.actor(), grant)
        sign_grant(self.office, self.actor(), grant.grant_id, seal(grant, PURPOSE, self.officer))


class LostConnection:
    """A door that breaks at the n-th job, before the enclave sees it or after it has ended."""

    def __init__(self, inner: SimulatedEnclave, after: bool) -> None:
        self._inner, self._after = inner, after
        self.broken = False

    def call(self, request: Request, descriptor: int | None = None) -> Reply:
        """Break once, at the first job."""
        if isinstance(request, RunJob) and not self.broken:
            self.broken = True
            if self._after:
                self._inner.call(request, descriptor)
            raise Failed("enclave.lost")
        return self._inner.call(request, descriptor)


def with_door(office: Office, door: LostConnection) -> Office:
    """The same office with another way to the enclave."""
    return replace(office, enclave=door)


def dataset() -> Dataset:
    """Residents with grades 1 to 4, a withheld column and a core column."""
    return a_dataset(
        spec=a_spec(
            Column(name="amount", title="金额", type=ColumnType.INTEGER, bounds=(0, 100)),
            Column(name="insured", title="参保", type=ColumnType.BOOLEAN),
            Column(name="income", title="收入", type=ColumnType.INTEGER, bounds=(0, 100), grade=3),
            Column(
                name="illness", title="疾病", type=ColumnType.TEXT, grade=3, withheld="《个人信息保护法》第二十八条"
            ),
            Column(name="secret", title="核心", type=ColumnType.TEXT, grade=4),
        )
    )


def grant(grant_id: str, **changes: object) -> Grant:
    """A grant of operator-a."""
    fields: dict[str, object] = {
        "grant_id": grant_id,
        "operator_id": OPERATOR,
        "operator_code": CREDIT_CODE,
        "scenario_id": "relief",
        "purpose": Purpose.PUBLIC_INTEREST,
        "modes": (Mode.QUERY, Mode.MODEL),
        "scopes": (Scope(dataset_id="insurance", columns=("amount", "income")),),
        "not_before": START,
        "deadline": START + timedelta(days=90),
        "budgets": (PrivacyLoss(entity_set="resident", pico_rho=RHO_UNIT // 2),),
        "max_uses": 100,
    }
    return Grant(**{**fields, **changes})  # type: ignore[arg-type]


def paid_grant(grant_id: str = PAID, **changes: object) -> Grant:
    """An industry grant of operator-a, for every mode."""
    fields: dict[str, object] = {
        "scenario_id": "credit",
        "purpose": Purpose.INDUSTRY,
        "modes": tuple(Mode),
        "scopes": (Scope(dataset_id="insurance", columns=("amount", "insured")),),
    }
    return grant(grant_id, **{**fields, **changes})


def scenario(scenario_id: str, purpose: Purpose, recipients: tuple[str, ...] = (), days: int = 120) -> Scenario:
    """A scenario of operator-a."""
    return Scenario(
        scenario_id=scenario_id,
        operator_id=OPERATOR,
        title="场景",
        purpose=purpose,
        evidence_sha256="a" * 64,
        recipients=recipients,
        valid_until=START + timedelta(days=days),
    )


def product(**changes: object) -> Product:
    """A verification of social insurance."""
    fields: dict[str, object] = {
        "product_id": PRODUCT,
        "operator_id": OPERATOR,
        "grant_id": PAID,
        "title": "参保核验",
        "job": VerificationJob(dataset_id="insurance", attribute="insured", predicate=Predicate.EQUALS),
        "needs_consent": True,
    }
    return Product(**{**fields, **changes})  # type: ignore[arg-type]


def model_job(content: bytes, sha256: str, columns: str = "amount") -> ModelJob:
    """A model over some columns."""
    return ModelJob(sql=f"SELECT {columns} FROM insurance", budget=Budget(epsilon="1"), model_sha256=sha256, output="y")


def party(party_id: str, role: Role) -> Party:
    """A party."""
    return Party(party_id, f"{party_id} 公司", role, credit_code_of(party_id))


def import_rows(bureau: Bureau, content: bytes = b"header\nrow\n", entry: Dataset | None = None) -> str:
    """Import made-up bytes under the signed spec; returns the version."""
    filed = entry or dataset()
    descriptor = os.memfd_create("rows")
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        file.write(content)
        signed = seal(filed.spec, DATASET_PURPOSE, bureau.officer)
        return import_dataset(bureau.office, bureau.actor(), filed, signed, descriptor, FileFormat.CSV, True).version


def open_bureau(folder: Path) -> Bureau:
    """A new deployment with only the bureau in it."""
    home, clock = Home(folder / "home"), Clock()
    home.control_key.parent.mkdir(parents=True)
    control, officer = KeyFile.create(home.control_key), KeyFile.create(folder / "officer.key")
    trust = Trust(control=(control.public_key,), officers=(officer.public_key,))
    enclave = SimulatedEnclave(folder, trust, PolicyPack(pack_folder()).sha256, clock)
    create_office(home, party("bureau", Role.BUREAU), trust.officers, enclave.identity())
    return Bureau(open_office(home, enclave, clock), enclave, officer, clock)


def furnished_bureau(folder: Path) -> Bureau:
    """A deployment in use: five parties, a dataset, a free and a paid grant, a published product."""
    bureau = open_bureau(folder)
    office, clerk = bureau.office, bureau.actor()
    for party_id, role in (
        (DEPARTMENT, Role.DEPARTMENT),
        (OPERATOR, Role.OPERATOR),
        (OTHER, Role.OPERATOR),
        (BANK, Role.BUSINESS),
        (SHOP, Role.BUSINESS),
    ):
        register_party(office, clerk, party(party_id, role))
    import_rows(bureau)
    authorize_scenario(office, clerk, scenario("relief", Purpose.PUBLIC_INTEREST))
    authorize_scenario(office, clerk, scenario("credit", Purpose.INDUSTRY, (BANK,)))
    bureau.sign(grant(FREE))
    bureau.sign(paid_grant())
    publish_product(office, bureau.actor(OPERATOR), product())
    return bureau
