"""A whole deployment in a folder, as a bureau would make it: real enclave, real database, small data of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from enclave_runner.contract.dataset import Column, ColumnType, DatasetSpec, KeyKind
from enclave_runner.contract.grant import PURPOSE, Grant, Mode, Purpose, Scope
from enclave_runner.contract.job import Predicate, VerificationJob
from enclave_runner.contract.privacy import RHO_UNIT, PrivacyLoss
from enclave_runner.contract.signing import KeyFile, seal
from enclave_runner.contract.wire import DATASET_PURPOSE, FileFormat, ImportReport
from sandbox.cli.deployment import create_deployment
from sandbox.domain.dataset import Dataset, Form, Frequency, Opening, Sharing
from sandbox.domain.product import Product
from sandbox.domain.scenario import Scenario
from sandbox.pilot.parties import city_parties
from sandbox.settings import Home
from sandbox.workflow.datasets import import_dataset
from sandbox.workflow.enclave import start_enclave
from sandbox.workflow.grants import draft_grant, sign_grant
from sandbox.workflow.office import Actor, Office, local_actor, open_office
from sandbox.workflow.parties import register_party
from sandbox.workflow.products import publish_product
from sandbox.workflow.scenarios import authorize_scenario

OPERATOR, OTHER, BANK = "op-city-data", "op-credit", "biz-bank"
FREE, PAID, PRODUCT = "grant-free", "grant-paid", "is-active"
DISTRICTS = ("north", "south")
HEADER = "person,district,income,note,active\n"


@dataclass(frozen=True)
class World:
    """An open deployment."""

    home: Home
    office: Office
    officer: KeyFile

    def actor(self, party: str = "bureau", person: str = "tester") -> Actor:
        """Somebody of a party."""
        return local_actor(self.office, party, person)


def spec(dataset_id: str = "people", permille: int = 500) -> DatasetSpec:
    """A small table of persons: public districts, bounded incomes, a free text, a truth value."""
    return DatasetSpec(
        dataset_id=dataset_id,
        columns=(
            Column(name="person", title="编号", type=ColumnType.TEXT, grade=3),
            Column(name="district", title="区", type=ColumnType.TEXT, domain=DISTRICTS),
            Column(
                name="income", title="收入", type=ColumnType.DECIMAL, scale=2, bounds=(0, 100_000_00), nullable=True
            ),
            Column(name="note", title="备注", type=ColumnType.TEXT, nullable=True),
            Column(name="active", title="有效", type=ColumnType.BOOLEAN),
        ),
        entity_set="resident",
        entity_column="person",
        key_kind=KeyKind.OPAQUE,
        population_cap=100_000,
        unique=True,
        rows_per_entity=1,
        max_rejected_permille=permille,
    )


def dataset(of: DatasetSpec) -> Dataset:
    """Its catalogue entry."""
    return Dataset(
        title="人员",
        department_id="dept-human-resources",
        form=Form.TABLE,
        category="人口",
        sharing=Sharing.CONDITIONAL,
        opening=Opening.NONE,
        frequency=Frequency.MONTHLY,
        source="test",
        personal=False,  # made-up rows; the people of other tests consent
        spec=of,
    )


def rows(count: int) -> str:
    """Well-formed rows p0, p1, …"""
    lines = [f"p{i},{DISTRICTS[i % 2]},{1000 + i}.50,note {i},{'true' if i % 3 else 'false'}\n" for i in range(count)]
    return HEADER + "".join(lines)


def import_text(world: World, text: str | bytes, of: DatasetSpec | None = None) -> ImportReport:
    """Import bytes through the ordinary path."""
    content = text.encode() if isinstance(text, str) else text
    descriptor = os.memfd_create("source")
    try:
        os.write(descriptor, content)
        os.lseek(descriptor, 0, os.SEEK_SET)
        described = of or spec()
        signed = seal(described, DATASET_PURPOSE, world.officer)
        return import_dataset(world.office, world.actor(), dataset(described), signed, descriptor, FileFormat.CSV, True)
    finally:
        os.close(descriptor)


def grant(world: World, grant_id: str, purpose: Purpose, operator: str = OPERATOR, max_uses: int = 10_000) -> Grant:
    """A signed grant over the small table, with its scenario."""
    now = world.office.clock().replace(microsecond=0)
    scenario = Scenario(
        scenario_id=f"scenario-{grant_id}",
        operator_id=operator,
        title="测试场景",
        purpose=purpose,
        evidence_sha256="0" * 64,
        recipients=(BANK,),
        valid_until=now + timedelta(days=365),
    )
    authorize_scenario(world.office, world.actor(), scenario)
    made = Grant(
        grant_id=grant_id,
        operator_id=operator,
        operator_code=world.actor(operator).party.credit_code,
        scenario_id=scenario.scenario_id,
        purpose=purpose,
        modes=tuple(Mode),
        scopes=(Scope(dataset_id="people", columns=("district", "income", "active")),),
        not_before=now - timedelta(days=1),
        deadline=now + timedelta(days=90),
        budgets=(PrivacyLoss(entity_set="resident", pico_rho=8 * RHO_UNIT),),
        max_uses=max_uses,
    )
    draft_grant(world.office, world.actor(), made)
    sign_grant(world.office, world.actor(), grant_id, seal(made, PURPOSE, world.officer))
    return made


def make_deployment(folder: Path) -> Home:
    """Keys, enclave, database, and the pilot city's parties."""
    home = Home(folder)
    parties = city_parties()
    create_deployment(home, parties[0], home.officer_key)
    with open_world(home) as world:
        for party in parties[1:]:
            register_party(world.office, world.actor(), party)
    return home


def furnish(world: World) -> None:
    """Data, a free and a paid grant, a published product."""
    import_text(world, rows(400))
    grant(world, FREE, Purpose.PUBLIC_INTEREST)
    grant(world, PAID, Purpose.INDUSTRY)
    product = Product(
        product_id=PRODUCT,
        operator_id=OPERATOR,
        grant_id=PAID,
        title="是否有效",
        job=VerificationJob(dataset_id="people", attribute="active", predicate=Predicate.EQUALS),
        needs_consent=False,
    )
    publish_product(world.office, world.actor(OPERATOR), product)


@contextmanager
def open_world(home: Home) -> Iterator[World]:
    """The deployment with its enclave running."""
    with start_enclave(home) as enclave:
        yield World(home, open_office(home, enclave.door), KeyFile.load(home.officer_key))
