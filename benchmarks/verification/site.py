"""A deployment with one open product of the plain mode, served by the API in a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import httpx

from enclave_runner.contract.call import Offer
from enclave_runner.contract.check import Check, CheckKind, VerificationMode
from enclave_runner.contract.codec import decode
from enclave_runner.contract.dataset import Column, ColumnType, DatasetSpec, KeyKind
from enclave_runner.contract.grant import PURPOSE, Grant, Mode, Purpose, Scope
from enclave_runner.contract.privacy import RHO_UNIT, PrivacyLoss
from enclave_runner.contract.signing import KeyFile, seal
from enclave_runner.contract.wire import DATASET_PURPOSE, FileFormat
from sandbox.cli.deployment import create_deployment
from sandbox.domain.dataset import Dataset, Form, Frequency, Opening, Sharing
from sandbox.domain.product import Product
from sandbox.domain.scenario import Scenario
from sandbox.pilot.parties import city_parties
from sandbox.settings import Home
from sandbox.workflow.datasets import import_dataset
from sandbox.workflow.enclave import start_enclave
from sandbox.workflow.grants import draft_grant, sign_grant
from sandbox.workflow.keys import create_api_key
from sandbox.workflow.office import Office, local_actor, open_office
from sandbox.workflow.parties import register_party
from sandbox.workflow.products import publish_product
from sandbox.workflow.scenarios import authorize_scenario
from sandbox.workflow.standing import finish_opening, open_product

OPERATOR, BANK, DATASET, PRODUCT, GRANT = "op-city-data", "biz-bank", "people", "lives-in", "grant-bench"
START_SECONDS = 120.0


@dataclass(frozen=True)
class Deployment:
    """Where it lies, the caller's key, the version that answers, and how many people are on record."""

    home: Home
    token: str
    version: str
    people: int

    @property
    def subjects(self) -> tuple[str, ...]:
        """Everybody on record."""
        return tuple(f"p{number}" for number in range(self.people))


def make_deployment(home: Home, people: int) -> Deployment:
    """Keys, data, grant, product, its tables."""
    parties = city_parties()
    create_deployment(home, parties[0], home.officer_key)
    with start_enclave(home) as enclave:
        office = open_office(home, enclave.door)
        for party in parties[1:]:
            register_party(office, local_actor(office, "bureau", "bench"), party)
        officer = KeyFile.load(home.officer_key)
        _import(office, officer, people)
        _grant(office, officer)
        operator = local_actor(office, OPERATOR, "bench")
        publish_product(office, operator, Product(PRODUCT, OPERATOR, GRANT, "核验", _check(), False))
        order = finish_opening(office, open_product(office, operator, PRODUCT, calls=10**7).ticket_id)
        assert order.offer is not None
        version = decode(order.offer.payload, Offer).version
        token = create_api_key(office, local_actor(office, "bureau", "bench"), BANK, "bench")
        office.engine.dispose()
    return Deployment(home, token, version, people)


def _check() -> Check:
    return Check(dataset_id=DATASET, attribute="district", kind=CheckKind.EQUALS, modes=(VerificationMode.PLAIN,))


def _spec() -> DatasetSpec:
    return DatasetSpec(
        dataset_id=DATASET,
        columns=(
            Column(name="person", title="编号", type=ColumnType.TEXT, grade=3),
            Column(name="district", title="区", type=ColumnType.TEXT, domain=("north", "south")),
        ),
        entity_set="resident",
        entity_column="person",
        key_kind=KeyKind.OPAQUE,
        population_cap=1_000_000,
        unique=True,
        rows_per_entity=1,
    )


def _import(office: Office, officer: KeyFile, people: int) -> None:
    content = "person,district\n" + "".join(f"p{i},{('north', 'south')[i % 2]}\n" for i in range(people))
    entry = Dataset(
        title="人员",
        department_id="dept-human-resources",
        form=Form.TABLE,
        category="人口",
        sharing=Sharing.CONDITIONAL,
        opening=Opening.NONE,
        frequency=Frequency.MONTHLY,
        source="generated",
        personal=False,
        spec=_spec(),
    )
    descriptor = os.memfd_create("source")
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        file.write(content.encode())
        file.seek(0)
        signed = seal(entry.spec, DATASET_PURPOSE, officer)
        bureau = local_actor(office, "bureau", "bench")
        import_dataset(office, bureau, entry, signed, descriptor, FileFormat.CSV, True)


def _grant(office: Office, officer: KeyFile) -> None:
    now, bureau = office.clock(), local_actor(office, "bureau", "bench")
    scenario = Scenario(
        scenario_id="bench",
        operator_id=OPERATOR,
        title="核验服务",
        purpose=Purpose.INDUSTRY,
        evidence_sha256="0" * 64,
        recipients=(BANK,),
        valid_until=now + timedelta(days=30),
    )
    authorize_scenario(office, bureau, scenario)
    grant = Grant(
        grant_id=GRANT,
        operator_id=OPERATOR,
        operator_code=local_actor(office, OPERATOR, "bench").party.credit_code,
        scenario_id=scenario.scenario_id,
        purpose=Purpose.INDUSTRY,
        modes=(Mode.VERIFICATION,),
        scopes=(Scope(dataset_id=DATASET, columns=("district",)),),
        not_before=now - timedelta(days=1),
        deadline=now + timedelta(days=30),
        budgets=(PrivacyLoss(entity_set="resident", pico_rho=RHO_UNIT),),
        max_uses=10**8,
    )
    draft_grant(office, bureau, grant)
    sign_grant(office, bureau, GRANT, seal(grant, PURPOSE, officer))


@contextmanager
def running(module: str, *arguments: str, ready: str) -> Iterator[int]:
    """The port of a server program, from when it answers `GET ready` until the block ends. `{port}` is filled in."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    line = [sys.executable, "-m", module, *(word.format(port=port) for word in arguments)]
    process = subprocess.Popen(line)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(f"http://127.0.0.1:{port}{ready}"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{module} did not come up")
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code < 500
    except httpx.TransportError:
        return False
