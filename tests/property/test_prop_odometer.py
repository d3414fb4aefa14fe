"""The odometer as a state machine: openings, endings, returns, replays, restarts, kills in any order, against integers.

Households are what is charged; residents are nested in them, and lose the same.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.grant import Grant
from enclave_runner.contract.privacy import PrivacyLoss
from enclave_runner.contract.ticket import Ticket
from enclave_runner.supervisor.caps import Losses
from tests.support.enclave_home import make_grant
from tests.support.ledgers import LIFETIME, Book, lost, make_open_ticket, open_book

Amount = tuple[int, int]  # ρ and δ
DELTA = 50
NESTED = {"resident": "household"}


def home_grant(pico_rho: int, atto_delta: int, max_uses: int, grant_id: str) -> Grant:
    return make_grant(grant_id=grant_id, budgets=(home_loss((pico_rho, atto_delta)),), max_uses=max_uses)


def home_loss(amount: Amount) -> PrivacyLoss:
    return lost(*amount, "household")


GRANTS = (
    home_grant(400, 0, 8, "grant-a"),
    home_grant(900, 20, 100, "grant-b"),
    home_grant(LIFETIME, DELTA, 100, "grant-c"),
)
LOSSES = st.tuples(
    st.one_of(st.integers(0, 60), st.integers(200, LIFETIME + 1)), st.one_of(st.just(0), st.integers(1, DELTA + 1))
)


class Odometer(RuleBasedStateMachine):
    """The model: what each grant lost, how often it was used, how many receipts there are, and what is open."""

    opened = Bundle("opened")
    ended = Bundle("ended")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.stack = ExitStack()
        self.book: Book = self.open_file()
        self.spent: dict[str, Amount] = {grant.grant_id: (0, 0) for grant in GRANTS}
        self.uses = {grant.grant_id: 0 for grant in GRANTS}
        self.reserved: dict[str, Amount] = {}
        self.receipts = 0
        self.shown: Amount = (0, 0)

    def open_file(self) -> Book:
        return self.stack.enter_context(open_book(self.folder, delta=DELTA, nested=NESTED))

    def try_open(self, grant: Grant, loss: Amount, ticket_id: str | None = None) -> Ticket:
        return self.book.open(grant, loss[0], ticket_id, "household", loss[1])

    def teardown(self) -> None:
        self.stack.close()
        shutil.rmtree(self.folder)

    @rule(target=opened, grant=st.sampled_from(GRANTS), loss=LOSSES)
    def open(self, grant, loss):  # type: ignore[no-untyped-def]
        allotment = grant.allotment("household")
        by_grant, by_all = added(self.spent[grant.grant_id], loss), added(total(self.spent), loss)
        fits = (
            self.uses[grant.grant_id] < grant.max_uses
            and within(by_grant, (allotment.pico_rho, allotment.atto_delta))
            and within(by_all, (LIFETIME, DELTA))
        )
        if not fits:
            with pytest.raises(Refused):
                self.try_open(grant, loss)
            return _nothing()
        ticket = self.try_open(grant, loss)
        self.spent[grant.grant_id] = by_grant
        self.uses[grant.grant_id] += 1
        self.reserved[ticket.ticket_id] = loss
        return ticket, grant

    @rule(target=ended, item=consumes(opened), released=st.booleans())
    def close(self, item, released):  # type: ignore[no-untyped-def]
        if item is None:
            return _nothing()
        ticket, grant = item
        self.book.close(ticket, grant, b"{}" if released else None)
        self.receipts += 1
        return item

    @rule(target=ended, item=consumes(opened), data=st.data())
    def close_and_return(self, item, data):  # type: ignore[no-untyped-def]
        if item is None:
            return _nothing()
        ticket, grant = item
        reserved = self.reserved[ticket.ticket_id]
        kept = data.draw(st.tuples(st.integers(0, reserved[0]), st.integers(0, reserved[1])))
        self.book.close(ticket, grant, spent=(home_loss(kept),))
        back = (kept[0] - reserved[0], kept[1] - reserved[1])
        self.spent[grant.grant_id] = added(self.spent[grant.grant_id], back)
        self.shown = added(self.shown, back)  # the only way down, by exactly what was returned
        self.receipts += 1
        return item

    @rule(item=opened, more=st.sampled_from([(1, 0), (0, 1)]))
    def claim_more(self, item, more):  # type: ignore[no-untyped-def]
        if item is None:
            return
        ticket, grant = item
        with pytest.raises(Failed):
            self.book.close(ticket, grant, spent=(home_loss(added(self.reserved[ticket.ticket_id], more)),))

    @rule(item=opened)
    def die_while_closing(self, item):  # type: ignore[no-untyped-def]
        if item is None:
            return

        def die(sequence: int, losses: Losses):  # type: ignore[no-untyped-def]
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            self.book.ledger.close_ticket(item[0].ticket_id, die, b"{}", ())
        self.restart()

    @rule(target=ended, grant=st.sampled_from(GRANTS))
    def refuse(self, grant):  # type: ignore[no-untyped-def]
        ticket = make_open_ticket()
        self.book.refuse(ticket, grant)
        self.receipts += 1
        return ticket, grant

    @rule(item=st.one_of(opened, ended), loss=LOSSES)
    def replay(self, item, loss):  # type: ignore[no-untyped-def]
        if item is None:
            return
        ticket, grant = item
        assert isinstance(ticket, Ticket)
        with pytest.raises(Refused):
            self.try_open(grant, loss, ticket.ticket_id)
        with pytest.raises(Refused):
            self.book.refuse(ticket, grant)

    @rule()
    def restart(self) -> None:
        self.stack.close()
        self.book = self.open_file()

    @invariant()
    def the_ledger_is_the_model(self) -> None:
        spent = total(self.spent)
        assert within((0, 0), spent)
        assert within(spent, (LIFETIME, DELTA))
        assert self.book.spent_of("household") == home_loss(spent)
        assert self.book.spent_of("resident") == lost(*spent)
        readings = {item.grant_id: item for item in self.book.ledger.grant_readings()}
        for grant_id, uses in self.uses.items():
            assert (readings[grant_id].uses if grant_id in readings else 0) == uses
            losses = readings[grant_id].losses if grant_id in readings else ()
            amounts = {loss.entity_set: (loss.pico_rho, loss.atto_delta) for loss in losses}
            assert amounts.get("household", (0, 0)) == amounts.get("resident", (0, 0)) == self.spent[grant_id]

    @invariant()
    def the_odometer_only_grows_but_for_what_is_returned(self) -> None:
        now = self.book.spent_of("resident")
        assert within(self.shown, (now.pico_rho, now.atto_delta))
        self.shown = now.pico_rho, now.atto_delta

    @invariant()
    def the_log_is_whole(self) -> None:
        assert self.book.check_log() == self.receipts


def added(one: Amount, other: Amount) -> Amount:
    return one[0] + other[0], one[1] + other[1]


def total(spent: dict[str, Amount]) -> Amount:
    return sum(amount[0] for amount in spent.values()), sum(amount[1] for amount in spent.values())


def within(one: Amount, other: Amount) -> bool:
    return one[0] <= other[0] and one[1] <= other[1]


def _nothing() -> None:
    """A rule that opened nothing."""
    return


TestOdometer = Odometer.TestCase
TestOdometer.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
