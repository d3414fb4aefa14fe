"""Open products of a real enclave in this process: standing tickets, calls with sensible defaults, checked receipts."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from enclave_runner.contract.call import (
    OFFER_PURPOSE,
    Answer,
    Ask,
    Asked,
    Call,
    CallReceipt,
    EqualityAnswer,
    EqualityAsk,
    Offer,
    PlainAnswer,
    PlainAsk,
    Table,
    open_settled,
)
from enclave_runner.contract.check import Check, CheckKind, VerificationMode
from enclave_runner.contract.grant import PURPOSE as GRANT_PURPOSE
from enclave_runner.contract.grant import Grant, Mode
from enclave_runner.contract.protocols import equality
from enclave_runner.contract.protocols.canonical import claim_digest
from enclave_runner.contract.receipt import Outcome
from enclave_runner.contract.scoring import ScoreCheck
from enclave_runner.contract.signing import Signed, seal, unseal
from enclave_runner.contract.standing import PURPOSE as STANDING_PURPOSE
from enclave_runner.contract.standing import StandingTicket
from enclave_runner.contract.wire import CallReply, RunCall
from enclave_runner.supervisor.calls import run_call
from enclave_runner.supervisor.opening import open_product
from tests.support.enclave_home import Site, make_grant
from tests.support.tariffs import pack_charge

PLAIN = (VerificationMode.PLAIN,)
CALLER = "caller-1"


def check_of(
    attribute: str = "city",
    kind: CheckKind = CheckKind.EQUALS,
    modes: tuple[VerificationMode, ...] = PLAIN,
    **fields: object,
) -> Check:
    """A check over `people`."""
    return Check(dataset_id="people", attribute=attribute, kind=kind, modes=modes, **fields)  # type: ignore[arg-type]


def standing_ticket(
    site: Site, check: Check | ScoreCheck, grant: Grant | None = None, **fields: object
) -> StandingTicket:
    """A ticket for the newest data version, for an hour and a million calls."""
    grant = grant or make_grant(max_uses=1_000_000)
    now = datetime.now(UTC).replace(microsecond=0)
    held = site.enclave.holdings.find(check.dataset_id)
    defaults: dict[str, object] = {
        "ticket_id": f"standing-{secrets.token_hex(8)}",
        "product_id": "product-1",
        "grant": seal(grant, GRANT_PURPOSE, site.bureau.officer),
        "check": check,
        "data_versions": {held.dataset_id: held.version} if held else {},
        "policy_sha256": site.bureau.policy_sha256,
        "charge": pack_charge(Mode.VERIFICATION, grant.purpose),
        "calls": 1_000_000,
        "issued_at": now - timedelta(seconds=5),
        "expires_at": now + timedelta(hours=1),
    }
    return StandingTicket(**{**defaults, **fields})  # type: ignore[arg-type]


def sign_standing(site: Site, ticket: StandingTicket) -> Signed:
    """The ticket under the control plane's key."""
    return seal(ticket, STANDING_PURPOSE, site.bureau.control)


@dataclass(frozen=True)
class Product:
    """One open version of a product, asked over the supervisor's own functions."""

    site: Site
    ticket: StandingTicket
    offer: Offer

    def call(self, ask: Ask, **fields: object) -> Call:
        """A call of this version under a fresh id and salt."""
        defaults: dict[str, object] = {
            "call_id": secrets.token_bytes(16),
            "salt": secrets.token_bytes(32),
            "version": self.offer.version,
        }
        return Call(**{**defaults, **fields, "ask": ask})  # type: ignore[arg-type]

    def send(self, call: Call, caller: str = CALLER, consents: str | None = None) -> CallReply:
        """Run a call."""
        request = RunCall(product_id=self.ticket.product_id, caller_id=caller, consents=consents, call=call)
        return run_call(self.site.enclave, request)

    def ask(self, ask: Ask, caller: str = CALLER) -> CallReply:
        """Run a fresh call."""
        return self.send(self.call(ask), caller)

    def answer(self, ask: Ask, caller: str = CALLER) -> Answer:
        """The answer of a fresh call."""
        reply = self.ask(ask, caller)
        assert reply.answer is not None, reply.rule
        return reply.answer

    def verdicts(self, *asked: tuple[str, str], caller: str = CALLER) -> tuple[str, ...]:
        """P0."""
        answer = self.answer(plain(*asked), caller)
        assert isinstance(answer, PlainAnswer)
        return answer.verdicts

    def receipt(self, reply: CallReply) -> CallReceipt:
        """The receipt, verified offline against the enclave's key."""
        return open_settled(reply.settled, (self.site.enclave.key.public_key,))[0]


def plain(*asked: tuple[str, str]) -> PlainAsk:
    """A question in the clear, or several."""
    return PlainAsk(asked=tuple(Asked(subject=subject, claim=claim) for subject, claim in asked))


def opened(site: Site, check: Check | ScoreCheck, grant: Grant | None = None, **fields: object) -> Product:
    """Open a product and verify its offer."""
    return opened_under(site, standing_ticket(site, check, grant, **fields))


def opened_under(site: Site, ticket: StandingTicket) -> Product:
    """Open a product under that ticket."""
    signed = open_product(site.enclave, sign_standing(site, ticket)).offer
    return Product(site, ticket, unseal(signed, OFFER_PURPOSE, (site.enclave.key.public_key,), Offer))


OF_CHECK = ("members", "edges", "says_unknown", "max_age_days")


def product_of(
    site: Site, product_id: str, kind: CheckKind, attribute: str, *modes: VerificationMode, **fields: object
) -> Product:
    """A product that is open for a month."""
    check = check_of(attribute, kind, modes, **{name: fields.pop(name) for name in OF_CHECK if name in fields})
    month = datetime.now(UTC) + timedelta(days=30)
    grant = make_grant(max_uses=1_000_000, deadline=month)
    fields = {"product_id": product_id, "expires_at": month, "grant": grant, **fields}
    return opened(site, check, **fields)  # type: ignore[arg-type]


def caller() -> str:
    """Somebody who has asked nothing yet."""
    return f"caller-{secrets.token_hex(4)}"


def table_of(product: Product) -> Table:
    assert product.offer.table is not None
    return product.offer.table


def equal(product: Product, subject: str, claim: str, who: str) -> tuple[bool, bool]:
    call_id = secrets.token_bytes(16)
    context = equality.context(product.offer.product_id, product.offer.version, call_id)
    scalar, blinded = equality.blind(context, claim_digest(claim))
    reply = product.send(product.call(EqualityAsk(subject=subject, blinded=blinded), call_id=call_id), who)
    assert isinstance(reply.answer, EqualityAnswer)
    return equality.is_equal(context, scalar, reply.answer.evaluated, reply.answer.tag), reply.answer.known


def refused(product: Product, reply: CallReply) -> str:
    """The rule, which stands in the receipt as well; no answer, no price."""
    receipt = product.receipt(reply)
    assert reply.answer is None
    assert (receipt.outcome, receipt.units, receipt.rule) == (Outcome.REFUSED, 0, reply.rule)
    assert reply.rule is not None
    return reply.rule
