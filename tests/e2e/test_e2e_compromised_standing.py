"""Invariant 7 for open products: the control plane's key alone opens nothing that an officer did not sign for.

Whoever holds that key can order products, answer for callers that do not exist, and send calls past every rule of the
API. The enclave holds to the grant, to its own pack, and to the grant's uses.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from enclave_runner.contract.call import Asked, Call, CallReceipt, EvaluationAsk, Offer, PlainAnswer, PlainAsk
from enclave_runner.contract.check import Check, CheckKind, VerificationMode
from enclave_runner.contract.codec import decode
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.grant import PURPOSE as GRANT_PURPOSE
from enclave_runner.contract.grant import Grant, Mode, Scope
from enclave_runner.contract.protocols import oprf
from enclave_runner.contract.scoring import Feature, Linear, ScoreCheck, Term
from enclave_runner.contract.signing import KeyFile, Signed, seal
from enclave_runner.contract.standing import PURPOSE, StandingTicket
from enclave_runner.contract.wire import (
    AskHoldings,
    CallReply,
    CloseProduct,
    Holdings,
    Opened,
    OpenProduct,
    RunCall,
)
from sandbox.workflow.grants import get_grant
from tests.support.deployment import BANK, PAID, World, import_text, make_deployment, open_world, rows
from tests.support.tariffs import pack_charge
from tests.support.verification_site import DISTRICT, INCOME, check, paid_grant

pytestmark = pytest.mark.slow
USES = 40
T0 = datetime(2026, 11, 25, tzinfo=UTC)
EXISTS = check(CheckKind.EXISTS, DISTRICT, "P0")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Data and a signed grant of three columns for `USES` uses; no product."""
    with open_world(make_deployment(tmp_path_factory.mktemp("thief") / "home")) as opened:
        import_text(opened, rows(1200))
        paid_grant(opened, (BANK,), USES)
        yield opened


def signed_grant(world: World) -> Signed:
    """As the officer signed it."""
    signed = get_grant(world.office, world.actor(), PAID).signed
    assert signed is not None
    return signed


def ticket(world: World, of: Check | ScoreCheck = EXISTS, **changes: Any) -> StandingTicket:
    """An order in which everything fits, but for the changes."""
    holdings, grant = world.office.enclave.call(AskHoldings()), signed_grant(world)
    assert isinstance(holdings, Holdings)
    now = world.office.clock()
    made = StandingTicket(
        ticket_id=f"stolen-{secrets.token_hex(8)}",
        product_id=f"stolen-{secrets.token_hex(4)}",
        grant=grant,
        check=of,
        data_versions={item.dataset_id: item.version for item in holdings.items},
        policy_sha256=world.office.pack.sha256,
        charge=pack_charge(Mode.VERIFICATION, decode(grant.payload, Grant).purpose),
        calls=1000,
        issued_at=now - timedelta(seconds=1),
        expires_at=now + timedelta(days=1),
    )
    return msgspec.structs.replace(made, **changes)


def order(world: World, made: StandingTicket, signer: KeyFile | None = None) -> Offer:
    """Sign it with the control plane's key (or another) and have it opened."""
    signed = seal(made, PURPOSE, signer or world.office.signer)
    reply = world.office.enclave.call(OpenProduct(ticket=signed))
    assert isinstance(reply, Opened)
    return decode(reply.offer.payload, Offer)


def call(world: World, offer: Offer, ask: PlainAsk | EvaluationAsk, caller: str, **fields: Any) -> CallReply:
    """A call that no API has seen."""
    made = Call(call_id=secrets.token_bytes(16), salt=bytes(32), version=offer.version, ask=ask)
    request = RunCall(product_id=offer.product_id, caller_id=caller, consents=None, call=made)
    reply = world.office.enclave.call(msgspec.structs.replace(request, **fields))
    assert isinstance(reply, CallReply)
    return reply


def about(*subjects: str) -> PlainAsk:
    """Are they on record?"""
    return PlainAsk(asked=tuple(Asked(subject=subject) for subject in subjects))


def test_an_honest_order_is_opened(world: World) -> None:
    """Positive control: the others fail for their own reasons."""
    offer = order(world, ticket(world))
    reply = call(world, offer, about("p1"), BANK)
    assert isinstance(reply.answer, PlainAnswer)
    assert reply.answer.verdicts == ("yes",)


def widened(world: World, what: str) -> Grant:
    """The signed grant, with more in it."""
    grant = decode(signed_grant(world).payload, Grant)
    more: dict[str, dict[str, Any]] = {
        "columns": {"scopes": (Scope(dataset_id="people", columns=("district", "income", "active", "note")),)},
        "deadline": {"deadline": grant.deadline + timedelta(days=999)},
        "uses": {"max_uses": 10**9},
        "operator": {"operator_id": "thief"},
    }
    return msgspec.structs.replace(grant, **more[what])


@pytest.mark.parametrize("what", ["columns", "deadline", "uses", "operator"])
def test_a_widened_grant_opens_nothing(world: World, what: str) -> None:
    honest, wider = signed_grant(world), widened(world, what)
    forged = (
        seal(wider, GRANT_PURPOSE, world.office.signer),
        msgspec.structs.replace(honest, payload=msgspec.json.encode(wider, order="deterministic")),
        msgspec.structs.replace(seal(wider, GRANT_PURPOSE, world.office.signer), key_id=honest.key_id),
    )
    for signed in forged:
        with pytest.raises(Refused, match=r"signature\.invalid"):
            order(world, ticket(world, grant=signed))


def test_another_key_orders_nothing(world: World, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"signature\.invalid"):
        order(world, ticket(world), KeyFile.create(tmp_path / "thief"))
    with pytest.raises(Refused, match=r"signature\.invalid"):  # an officer signs grants, not orders
        order(world, ticket(world), world.officer)


def score_of(column: str, high: int = 1) -> ScoreCheck:
    """A score that tells one column, in millionths of a point."""
    model = Linear(features=(Feature(name="x", weight=1, low=0, high=1),))
    return ScoreCheck(dataset_id="people", model=model, terms=(Term(column=column, weight=1, low=0, high=high),))


WRONG_CHECKS: dict[str, Check | ScoreCheck] = {
    "a column that was not granted": check(CheckKind.EXISTS, "note", "P0"),
    "the key itself": check(CheckKind.EXISTS, "person", "P0"),
    "a column that is not there": check(CheckKind.EXISTS, "nothing", "P0"),
    "another dataset": msgspec.structs.replace(EXISTS, dataset_id="elsewhere"),
    "an order of names": check(CheckKind.AT_LEAST, DISTRICT, "P0"),
    "bands of names": check(CheckKind.LEVEL, DISTRICT, "P0", edges=(1, 2)),
    "a score over a name": score_of(DISTRICT),
    "a score that is the value": score_of(INCOME, 10**7),
    "a score of a column that was not granted": score_of("note"),
    "a hidden table of too few": check(CheckKind.LEVEL, INCOME, "P3", edges=(2190_00,)),
}


@pytest.mark.parametrize("what", WRONG_CHECKS)
def test_a_check_beyond_grant_and_policy_is_not_opened(world: World, what: str) -> None:
    with pytest.raises((Refused, Failed)) as caught:
        order(world, ticket(world, WRONG_CHECKS[what]))
    assert isinstance(caught.value, Refused), caught.value


def test_an_order_beyond_the_pack_is_not_opened(world: World) -> None:
    now, free = world.office.clock(), pack_charge(Mode.VERIFICATION, decode(signed_grant(world).payload, Grant).purpose)
    wrong: dict[str, dict[str, Any]] = {
        "ticket.policy": {"policy_sha256": "0" * 64},
        "standing.calls": {"calls": 10**9},
        "standing.life": {"expires_at": now + timedelta(days=5000)},
        "ticket.expired": {"issued_at": now - timedelta(days=2), "expires_at": now - timedelta(days=1)},
        "ticket.data-version": {"data_versions": {"people": "v0"}},
        "ticket.charge": {"charge": msgspec.structs.replace(free, unit_price_fen=free.unit_price_fen + 1)},
    }
    for rule, changes in wrong.items():
        with pytest.raises(Refused) as caught:
            order(world, ticket(world, **changes))
        assert caught.value.rule == rule, (rule, caught.value)


def test_a_hidden_question_and_consent_are_no_order() -> None:
    """Nobody can look up the consent of somebody whom nobody sees: such a ticket does not exist."""
    made = check(CheckKind.EXISTS, DISTRICT, "P4")
    with pytest.raises(ValueError, match="withdrawal"):
        StandingTicket(
            ticket_id="t", product_id="p", grant=None, check=made, data_versions={}, policy_sha256="",  # type: ignore[arg-type]
            charge=None, calls=1, issued_at=T0, expires_at=T0 + timedelta(days=1), needs_consent=True,  # type: ignore[arg-type]
        )  # fmt: skip


def test_a_ticket_is_used_once_and_a_closed_one_never_again(world: World) -> None:
    made = ticket(world)
    first = order(world, made)
    assert order(world, made) == first  # asking again tells the same
    with pytest.raises(Refused, match=r"ticket\.replayed"):
        order(world, msgspec.structs.replace(made, calls=999))
    world.office.enclave.call(CloseProduct(ticket_id=made.ticket_id))
    with pytest.raises(Refused, match=r"standing\.closed"):
        order(world, made)
    with pytest.raises(Refused, match=r"product\.not-open"):
        call(world, first, about("p1"), BANK)


def test_a_product_that_needs_consent_wants_one_at_the_call(world: World) -> None:
    """It is the control plane's word, and it stands in the receipt: without it there is no answer."""
    offer = order(world, ticket(world, needs_consent=True))
    reply = call(world, offer, about("p1"), BANK)
    assert (reply.answer, reply.rule) == (None, "call.consent")


def test_callers_that_do_not_exist_use_up_the_grant(world: World) -> None:
    """Invented callers have a limit each, so that only what the officer signed bounds them: questions, not calls."""
    offers = [order(world, ticket(world)) for _ in range(2)]
    told = 0
    for number in range(USES):
        subjects = [f"p{number}-{place}" for place in range(5)]
        reply = call(world, offers[number % 2], about(*subjects), f"nobody-{number}")
        receipt = decode(reply.settled.receipt, CallReceipt)
        if reply.answer is None:
            assert reply.rule == "grant.uses"
            assert receipt.units == 0
            break
        told += receipt.units
    assert USES - 10 <= told <= USES
    # Evaluations are questions as well.
    offer = order(world, ticket(world, check(CheckKind.EXISTS, DISTRICT, "P3")))
    blinded = tuple(oprf.blind(bytes([number])).element for number in range(USES))
    reply = call(world, offer, EvaluationAsk(mode=VerificationMode.BUCKET, blinded=blinded), "nobody")
    assert (reply.answer, reply.rule) == (None, "grant.uses")
