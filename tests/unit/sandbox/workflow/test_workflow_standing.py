"""Opening, refreshing and closing products, and what a crash leaves behind."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from enclave_runner.contract.call import Offer
from enclave_runner.contract.codec import decode
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.signing import seal
from enclave_runner.contract.standing import StandingTicket
from enclave_runner.contract.ticket import Charge
from enclave_runner.contract.wire import Alarm, CloseProduct, OpenProduct, Reply, Request
from sandbox.domain.dataset import Dataset
from sandbox.domain.party import PartyStatus
from sandbox.domain.standing import StandingStatus
from sandbox.store import audit_log, standing
from sandbox.store.database import reading
from sandbox.store.datasets import DATASETS
from sandbox.workflow.grants import revoke_grant
from sandbox.workflow.parties import set_party_status
from sandbox.workflow.product_state import list_alarms, product_state
from sandbox.workflow.products import suspend_product
from sandbox.workflow.recover import recover
from sandbox.workflow.standing import close_product, finish_opening, open_product
from tests.support.bureau import BANK, OPERATOR, OTHER, PRODUCT, START, Bureau, import_rows
from tests.support.called import LICENCE, ask, furnish_firms, opened
from tests.support.refusals import failed_at, refused_by


@pytest.fixture
def firms(bureau: Bureau) -> Bureau:
    """A bureau with a published product that can be opened."""
    furnish_firms(bureau)
    return bureau


class Door:
    """A door that breaks at one kind of request, before or after the enclave has done it."""

    def __init__(self, bureau: Bureau, kind: type, after: bool) -> None:
        self._inner, self._kind, self._after = bureau.enclave, kind, after

    def call(self, request: Request, descriptor: int | None = None) -> Reply:
        """Break every time."""
        if isinstance(request, self._kind):
            if self._after:
                self._inner.call(request, descriptor)
            raise Failed("enclave.lost")
        return self._inner.call(request, descriptor)


def statuses(bureau: Bureau) -> list[StandingStatus]:
    with reading(bureau.office.engine) as connection:
        return [order.status for order in standing.of_product(connection, LICENCE)]


def acts(bureau: Bureau) -> list[str]:
    with reading(bureau.office.engine) as connection:
        return [entry.act for entry in audit_log.entries(connection) if entry.target == LICENCE]


def test_an_opened_product_answers_under_the_ticket_that_was_ordered(firms: Bureau) -> None:
    order = open_product(firms.office, firms.actor(OPERATOR), LICENCE, days=7, calls=5)
    assert order.status is StandingStatus.OPENING
    ticket = decode(order.ticket.payload, StandingTicket)
    assert (ticket.calls, ticket.expires_at) == (5, START + timedelta(days=7))
    assert (ticket.charge.unit_price_fen, ticket.needs_consent) == (50, False)
    order = finish_opening(firms.office, order.ticket_id)
    assert order.status is StandingStatus.OPEN
    assert order.offer is not None
    assert decode(order.offer.payload, Offer).ticket_id == order.ticket_id
    assert acts(firms)[-2:] == ["product.open", "product.opened"]
    assert finish_opening(firms.office, order.ticket_id) == order


def test_a_ticket_never_outlives_its_grant_or_its_scenario(firms: Bureau) -> None:
    order = open_product(firms.office, firms.actor(OPERATOR), LICENCE, days=400)
    assert order.expires_at == START + timedelta(days=90)


@pytest.mark.parametrize(
    ("days", "calls", "rule"),
    [(0, 1, "standing.life"), (10**6, 1, "standing.life"), (1, 0, "standing.calls"), (1, 10**9, "standing.calls")],
)
def test_life_and_calls_are_bounded_by_the_pack(firms: Bureau, days: int, calls: int, rule: str) -> None:
    with refused_by(rule):
        open_product(firms.office, firms.actor(OPERATOR), LICENCE, days, calls)
    assert statuses(firms) == []


def test_who_opens_and_closes(firms: Bureau) -> None:
    for who in (BANK, OTHER):
        for act in (open_product, close_product, product_state):
            with refused_by("access.foreign"):
                act(firms.office, firms.actor(who), LICENCE)
    assert open_product(firms.office, firms.actor(), LICENCE).status is StandingStatus.OPENING


def test_what_is_asked_one_ticket_at_a_time_is_not_opened(firms: Bureau) -> None:
    with refused_by("product.one-by-one", product=PRODUCT):
        open_product(firms.office, firms.actor(OPERATOR), PRODUCT)


def test_nothing_is_opened_that_could_not_be_called(firms: Bureau) -> None:
    suspend_product(firms.office, firms.actor(OPERATOR), LICENCE)
    with refused_by("product.not-published"):
        open_product(firms.office, firms.actor(OPERATOR), LICENCE)


def test_nothing_is_opened_under_a_revoked_grant(firms: Bureau) -> None:
    revoke_grant(firms.office, firms.actor(), "grant-firms")
    with refused_by("grant.not-signed"):
        open_product(firms.office, firms.actor(OPERATOR), LICENCE)


def test_the_bureau_cannot_open_for_a_suspended_operator(firms: Bureau) -> None:
    set_party_status(firms.office, firms.actor(), OPERATOR, PartyStatus.SUSPENDED, "整改")
    with refused_by("party.inactive"):
        open_product(firms.office, firms.actor(), LICENCE)


def test_an_order_under_way_is_carried_on_and_not_doubled(firms: Bureau) -> None:
    first = open_product(firms.office, firms.actor(OPERATOR), LICENCE)
    assert open_product(firms.office, firms.actor(OPERATOR), LICENCE) == first
    assert statuses(firms) == [StandingStatus.OPENING]


def test_an_open_product_is_opened_again_only_on_purpose(firms: Bureau) -> None:
    first = opened(firms)
    with refused_by("product.is-open"):
        open_product(firms.office, firms.actor(OPERATOR), LICENCE)
    second = open_product(firms.office, firms.actor(OPERATOR), LICENCE, refresh=True)
    assert ask(firms).settled  # the first one still answers
    assert finish_opening(firms.office, second.ticket_id).status is StandingStatus.OPEN
    assert statuses(firms) == [StandingStatus.OPEN, StandingStatus.CLOSED]
    assert firms.enclave.calls.closed == [first.ticket_id]
    assert firms.enclave.calls.opened[LICENCE].ticket.ticket_id == second.ticket_id
    assert ask(firms).rule is None


def test_new_data_give_a_new_order_in_place_of_one_that_is_being_built(firms: Bureau) -> None:
    first = open_product(firms.office, firms.actor(OPERATOR), LICENCE)
    version = import_rows(firms, b"header\nanother\n", _firms_entry(firms))
    second = open_product(firms.office, firms.actor(OPERATOR), LICENCE)
    assert second.data_versions == {"firms": version} != first.data_versions
    assert finish_opening(firms.office, second.ticket_id).status is StandingStatus.OPEN
    assert sorted(statuses(firms), key=str) == [StandingStatus.CLOSED, StandingStatus.OPEN]
    assert finish_opening(firms.office, first.ticket_id).status is StandingStatus.CLOSED


def _firms_entry(bureau: Bureau) -> Dataset:
    with reading(bureau.office.engine) as connection:
        return DATASETS.get(connection, "firms")


def test_an_expired_order_is_no_hindrance(firms: Bureau) -> None:
    opened(firms, days=1)
    firms.clock.forward(days=2)
    assert opened(firms).status is StandingStatus.OPEN
    assert statuses(firms) == [StandingStatus.OPEN, StandingStatus.CLOSED]


def test_a_closed_product_answers_nothing_and_may_be_opened_again(firms: Bureau) -> None:
    order = opened(firms)
    version = firms.enclave.calls.opened[LICENCE].version
    (closed,) = close_product(firms.office, firms.actor(OPERATOR), LICENCE)
    assert (closed.ticket_id, closed.status) == (order.ticket_id, StandingStatus.CLOSED)
    assert firms.enclave.calls.opened == {}
    assert close_product(firms.office, firms.actor(OPERATOR), LICENCE) == ()
    assert acts(firms)[-1] == "product.close"
    assert opened(firms).status is StandingStatus.OPEN
    assert firms.enclave.calls.opened[LICENCE].version != version


def test_a_close_that_does_not_reach_the_enclave_holds_here_and_is_told_later(firms: Bureau) -> None:
    order = opened(firms)
    cut = replace(firms.office, enclave=Door(firms, CloseProduct, after=False))
    with failed_at("enclave.lost"):
        close_product(cut, firms.actor(OPERATOR), LICENCE)
    assert statuses(firms) == [StandingStatus.CLOSING]
    with refused_by("product.not-open"):
        ask(firms)
    assert firms.enclave.calls.closed == []
    recover(firms.office)
    assert statuses(firms) == [StandingStatus.CLOSED]
    assert firms.enclave.calls.closed == [order.ticket_id]


@pytest.mark.parametrize("after", [False, True])
def test_an_opening_that_was_lost_is_carried_on(firms: Bureau, after: bool) -> None:
    order = open_product(firms.office, firms.actor(OPERATOR), LICENCE)
    cut = replace(firms.office, enclave=Door(firms, OpenProduct, after))
    with failed_at("enclave.lost"):
        finish_opening(cut, order.ticket_id)
    assert statuses(firms) == [StandingStatus.OPENING]
    recover(firms.office)  # the enclave still builds: nobody waits for it
    assert statuses(firms) == [StandingStatus.OPENING]
    firms.enclave.calls.stage = "open"
    recover(firms.office)
    assert statuses(firms) == [StandingStatus.OPEN]
    assert ask(firms).rule is None


def test_an_order_that_the_enclave_refuses_is_refused_for_good(firms: Bureau) -> None:
    firms.enclave.calls.refuse_opening = Refused("verification.too-few", min=1024)
    order = open_product(firms.office, firms.actor(OPERATOR), LICENCE)
    with refused_by("verification.too-few"):
        finish_opening(firms.office, order.ticket_id)
    state = product_state(firms.office, firms.actor(OPERATOR), LICENCE)
    assert [(item.status, item.rule) for item in state.orders] == [(StandingStatus.REFUSED, "verification.too-few")]
    assert acts(firms)[-1] == "product.open-refused"
    assert opened(firms).status is StandingStatus.OPEN


@pytest.mark.parametrize("what", ["ticket_id", "product_id", "charge", "data_versions", "needs_consent", "expires_at"])
def test_an_offer_of_something_else_opens_nothing(firms: Bureau, what: str) -> None:
    order = open_product(firms.office, firms.actor(OPERATOR), LICENCE)
    firms.enclave.calls.answer(OpenProduct(ticket=order.ticket))
    product = firms.enclave.calls.opened[LICENCE]
    offer = decode(product.offer.payload, Offer)
    wrong = {
        "ticket_id": "stand-other",
        "product_id": "other",
        "charge": Charge(tariff_id="t", unit_price_fen=1, legal_basis="x"),
        "data_versions": {"firms": "v-other"},
        "needs_consent": True,
        "expires_at": order.expires_at + timedelta(seconds=1),
    }
    fields = {name: getattr(offer, name) for name in offer.__struct_fields__}
    product.offer = seal(Offer(**{**fields, what: wrong[what]}), "offer", firms.enclave.key)
    with refused_by("receipt.mismatch"):
        finish_opening(firms.office, order.ticket_id)
    assert statuses(firms) == [StandingStatus.OPENING]


def test_an_offer_that_the_enclave_did_not_sign_opens_nothing(firms: Bureau) -> None:
    order = open_product(firms.office, firms.actor(OPERATOR), LICENCE)
    firms.enclave.calls.answer(OpenProduct(ticket=order.ticket))
    product = firms.enclave.calls.opened[LICENCE]
    product.offer = seal(decode(product.offer.payload, Offer), "offer", firms.officer)
    with refused_by("signature.invalid"):
        finish_opening(firms.office, order.ticket_id)


def test_two_who_finish_the_same_opening_get_the_same(firms: Bureau) -> None:
    order = open_product(firms.office, firms.actor(OPERATOR), LICENCE)
    first = finish_opening(firms.office, order.ticket_id)
    assert finish_opening(firms.office, order.ticket_id) == first
    assert acts(firms).count("product.opened") == 1


def test_the_state_of_a_product_tells_orders_calls_and_the_offer(firms: Bureau) -> None:
    order = opened(firms, calls=10)
    ask(firms)
    firms.enclave.calls.refuse_next = Refused("guess.spent")
    ask(firms)
    state = product_state(firms.office, firms.actor(OPERATOR), LICENCE)
    (told,) = state.orders
    assert (told.ticket_id, told.max_calls, told.calls, told.units) == (order.ticket_id, 10, 2, 1)
    assert state.offer is not None
    assert state.offer.version == told.version
    assert not state.is_opening
    second = open_product(firms.office, firms.actor(OPERATOR), LICENCE, refresh=True)
    state = product_state(firms.office, firms.actor(OPERATOR), LICENCE)
    assert (state.orders[0].ticket_id, state.orders[0].stage, state.orders[0].total) == (second.ticket_id, "reading", 2)
    assert state.is_opening
    assert state.offer is not None


def test_alarms_are_for_the_bureau_and_for_the_products_own_columns(firms: Bureau) -> None:
    opened(firms)
    mine, other = (_alarm(attribute) for attribute in ("status", "capital"))
    firms.enclave.calls.alarms = (mine, other)
    assert list_alarms(firms.office, firms.actor()) == (mine, other)
    assert product_state(firms.office, firms.actor(), LICENCE).alarms == (mine,)
    assert product_state(firms.office, firms.actor(OPERATOR), LICENCE).alarms == ()
    with refused_by("access.bureau-only"):
        list_alarms(firms.office, firms.actor(OPERATOR))


def _alarm(attribute: str) -> Alarm:
    return Alarm(
        pseudonym="a" * 64, dataset_id="firms", attribute=attribute, data_version="v", milli_bits=50_000, callers=3
    )
