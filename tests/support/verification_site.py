"""A deployment whose products are open and served over HTTP, and callers who speak the wire format by themselves."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import httpx
import msgspec

from enclave_runner.contract.call import OFFER_PURPOSE, Answer, Ask, Call, CallReceipt, Offer, Table, open_settled
from enclave_runner.contract.check import Check, CheckKind, VerificationMode
from enclave_runner.contract.codec import decode, encode
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.grant import PURPOSE, Grant, Mode, Purpose, Scope
from enclave_runner.contract.privacy import RHO_UNIT, PrivacyLoss
from enclave_runner.contract.scoring import Feature, Scorecard, ScoreCheck, Term
from enclave_runner.contract.signing import seal, unseal
from enclave_runner.contract.wire import CallReply, OfferReply
from sandbox.api.app import create_app
from sandbox.domain.party import Role
from sandbox.domain.product import Product
from sandbox.domain.scenario import Scenario
from sandbox.domain.standing import StandingOrder
from sandbox.workflow.grants import draft_grant, sign_grant
from sandbox.workflow.keys import create_api_key
from sandbox.workflow.parties import register_party
from sandbox.workflow.products import publish_product
from sandbox.workflow.scenarios import authorize_scenario
from sandbox.workflow.standing import finish_opening, open_product
from tests.support.bureau import party
from tests.support.deployment import BANK, OPERATOR, PAID, World, import_text, make_deployment, open_world, rows
from tests.support.http_server import serving

ROWS = 3000
INCOME, DISTRICT, ACTIVE = "income", "district", "active"
EDGES = tuple(range(1000_00, 5000_00, 500_00))


def check(kind: CheckKind, attribute: str, *modes: str, **fields: object) -> Check:
    """A check over the people of `tests.support.deployment`."""
    told = tuple(VerificationMode(mode) for mode in modes)
    return Check(dataset_id="people", attribute=attribute, kind=kind, modes=told, **fields)  # type: ignore[arg-type]


CHECKS: dict[str, Check | ScoreCheck] = {
    "lives-in": check(CheckKind.EQUALS, DISTRICT, "P0", "P1", "P3", "P4"),
    "earns-at-least": check(CheckKind.AT_LEAST, INCOME, "P0", "P2", edges=EDGES),
    "is-northern": check(CheckKind.MEMBER, DISTRICT, "P0", "P3", "P4", members=("north",)),
    "income-level": check(CheckKind.LEVEL, INCOME, "P0", "P3", "P4", edges=(1500_00, 2500_00), says_unknown=True),
    "on-record": check(CheckKind.EXISTS, ACTIVE, "P0", "P3", "P4"),
    "credit": ScoreCheck(
        dataset_id="people",
        model=Scorecard(
            features=(Feature(name="age", weight=3, low=0, high=100), Feature(name="loans", weight=-7, low=0, high=20)),
            intercept=50,
        ),
        terms=(Term(column=INCOME, weight=1, low=1000_00, high=1500_00, step=50),),
    ),
}


@dataclass
class Caller:
    """A business with an API key, which knows no more of the client library than the contract."""

    client: httpx.Client = field(repr=False)
    token: str = field(repr=False)
    product_id: str
    trusted: object = field(repr=False)
    paid: int = 0
    receipts: list[CallReceipt] = field(default_factory=list, repr=False)

    @property
    def offer(self) -> Offer:
        """The offer of this moment, its signature checked."""
        answer = self.client.get(f"/v1/products/{self.product_id}/offer", headers=self.headers)
        if answer.status_code != 200:
            raise refusal_in(answer)
        return unseal(decode(answer.content, OfferReply).offer, OFFER_PURPOSE, (self.trusted,), Offer)  # type: ignore[arg-type]

    @property
    def version(self) -> str:
        """The table version."""
        return self.offer.version

    @property
    def check(self) -> Check:
        """The question."""
        found = self.offer.check
        assert isinstance(found, Check)
        return found

    @property
    def table(self) -> Table | None:
        """The hidden-subject table."""
        return self.offer.table

    @property
    def headers(self) -> dict[str, str]:
        """Who asks."""
        return {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}

    def call(self, call: Call) -> httpx.Response:
        """One call as it stands."""
        return self.client.post(f"/v1/products/{self.product_id}/calls", content=encode(call), headers=self.headers)

    def settle(self, call: Call) -> CallReply:
        """One call, its receipt verified; a refusal with a receipt is a reply as well."""
        answer = self.call(call)
        if answer.status_code != 200:
            raise refusal_in(answer)
        reply = msgspec.json.decode(answer.content, type=CallReply)
        receipt, _ = open_settled(reply.settled, (self.trusted,))  # type: ignore[arg-type]
        assert receipt.call_id == call.call_id.hex()
        self.receipts.append(receipt)
        self.paid += receipt.units
        return reply

    def ask(self, ask: Ask, call_id: bytes, version: str | None = None) -> Answer:
        """The answer; a refusal is raised."""
        reply = self.settle(
            Call(call_id=call_id, salt=secrets.token_bytes(32), version=version or self.version, ask=ask)
        )
        if reply.rule is not None:
            raise Refused(reply.rule, **reply.facts)
        assert reply.answer is not None, reply
        return reply.answer


def refusal_in(answer: httpx.Response) -> Refused:
    """The rule in a problem document."""
    document = answer.json()
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    assert "rule" in document, document
    return Refused(document["rule"])


@dataclass
class Site:
    """Open products behind an API."""

    world: World
    base: str
    client: httpx.Client
    tokens: dict[str, str]

    def caller(self, product_id: str, party_id: str = BANK) -> Caller:
        """A business at one product."""
        return Caller(self.client, self.tokens[party_id], product_id, self.world.office.enclave_key)

    def publish(self, product_id: str, job: Check | ScoreCheck, grant_id: str = PAID, consent: bool = False) -> None:
        """Publish by the operator."""
        product = Product(product_id, OPERATOR, grant_id, "核验", job, consent)
        publish_product(self.world.office, self.world.actor(OPERATOR), product)

    def open(self, product_id: str, **options: int | bool) -> StandingOrder:
        """Open it, and wait until calls are answered."""
        return open_now(self.world, product_id, **options)


def open_now(world: World, product_id: str, **options: int | bool) -> StandingOrder:
    """Open a product by its operator, and wait until calls are answered."""
    order = open_product(world.office, world.actor(OPERATOR), product_id, **options)  # type: ignore[arg-type]
    return finish_opening(world.office, order.ticket_id)


def furnish(world: World, *products: str, people: int = ROWS, max_uses: int = 10**6, more: int = 0) -> dict[str, str]:
    """Data, a grant, published and open products; an API key for the bank and for `more` other businesses."""
    import_text(world, rows(people))
    businesses = (BANK, *(f"biz-{number}" for number in range(more)))
    for name in businesses[1:]:
        register_party(world.office, world.actor(), party(name, Role.BUSINESS))
    paid_grant(world, businesses, max_uses)
    for product_id in products or tuple(CHECKS):
        product = Product(product_id, OPERATOR, PAID, "核验", CHECKS[product_id], False)
        publish_product(world.office, world.actor(OPERATOR), product)
        open_now(world, product_id)
    return {name: create_api_key(world.office, world.actor(), name, "clerk") for name in businesses}


def paid_grant(world: World, businesses: tuple[str, ...], max_uses: int) -> None:
    """A signed grant of three columns for industry use, to be sold to these businesses."""
    now, operator = world.office.clock(), world.actor(OPERATOR).party
    scenario = Scenario(
        scenario_id="selling",
        operator_id=OPERATOR,
        title="核验服务",
        purpose=Purpose.INDUSTRY,
        evidence_sha256="0" * 64,
        recipients=businesses,
        valid_until=now + timedelta(days=365),
    )
    authorize_scenario(world.office, world.actor(), scenario)
    made = Grant(
        grant_id=PAID,
        operator_id=OPERATOR,
        operator_code=operator.credit_code,
        scenario_id=scenario.scenario_id,
        purpose=Purpose.INDUSTRY,
        modes=(Mode.VERIFICATION,),
        scopes=(Scope(dataset_id="people", columns=(DISTRICT, INCOME, ACTIVE)),),
        not_before=now - timedelta(days=1),
        deadline=now + timedelta(days=90),
        budgets=(PrivacyLoss(entity_set="resident", pico_rho=RHO_UNIT),),
        max_uses=max_uses,
    )
    draft_grant(world.office, world.actor(), made)
    sign_grant(world.office, world.actor(), PAID, seal(made, PURPOSE, world.officer))


@contextmanager
def verification_site(folder: Path, *products: str, **options: int) -> Iterator[Site]:
    """A deployment with these products (all, when none is named) open, served until the block ends."""
    with open_world(make_deployment(folder)) as world:
        tokens = furnish(world, *products, **options)
        with serving(create_app(world.office)) as base, httpx.Client(base_url=base, timeout=60) as client:
            yield Site(world, base, client, tokens)
        world.office.engine.dispose()
