"""The odometer as a state machine: openings, endings, replays, restarts in any order, against plain integers."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from enclave_runner.contract.errors import Refused
from enclave_runner.contract.ticket import Ticket
from tests.support.ledgers import LIFETIME, Book, budgeted, make_open_ticket, open_book

GRANTS = (budgeted(400, 8, "grant-a"), budgeted(900, 100, "grant-b"), budgeted(LIFETIME, 100, "grant-c"))
LOSSES = st.one_of(st.integers(0, 60), st.integers(200, LIFETIME + 1))


class Odometer(RuleBasedStateMachine):
    """The model: what each grant spent, how often it was used, how many receipts there are."""

    opened = Bundle("opened")
    ended = Bundle("ended")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.stack = ExitStack()
        self.book: Book = self.stack.enter_context(open_book(self.folder))
        self.spent = {grant.grant_id: 0 for grant in GRANTS}
        self.uses = {grant.grant_id: 0 for grant in GRANTS}
        self.receipts = 0
        self.shown = 0

    def teardown(self) -> None:
        self.stack.close()
        shutil.rmtree(self.folder)

    @rule(target=opened, grant=st.sampled_from(GRANTS), loss=LOSSES)
    def open(self, grant, loss):  # type: ignore[no-untyped-def]
        fits = (
            self.uses[grant.grant_id] < grant.max_uses
            and self.spent[grant.grant_id] + loss <= grant.budget("resident")
            and sum(self.spent.values()) + loss <= LIFETIME
        )
        if not fits:
            with pytest.raises(Refused):
                self.book.open(grant, loss)
            return _nothing()
        ticket = self.book.open(grant, loss)
        self.spent[grant.grant_id] += loss
        self.uses[grant.grant_id] += 1
        return ticket, grant

    @rule(target=ended, item=consumes(opened), released=st.booleans())
    def close(self, item, released):  # type: ignore[no-untyped-def]
        if item is None:
            return _nothing()
        self.book.close(*item, b"{}" if released else None)
        self.receipts += 1
        return item

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
            self.book.open(grant, loss, ticket.ticket_id)
        with pytest.raises(Refused):
            self.book.refuse(ticket, grant)

    @rule()
    def restart(self) -> None:
        self.stack.close()
        self.book = self.stack.enter_context(open_book(self.folder))

    @invariant()
    def the_ledger_is_the_model(self) -> None:
        assert self.book.spent == sum(self.spent.values()) <= LIFETIME
        readings = {item.grant_id: item for item in self.book.ledger.grant_readings()}
        for grant_id, uses in self.uses.items():
            assert (readings[grant_id].uses if grant_id in readings else 0) == uses
            losses = readings[grant_id].losses if grant_id in readings else ()
            assert sum(loss.pico_rho for loss in losses) == self.spent[grant_id]

    @invariant()
    def the_odometer_only_grows(self) -> None:
        assert self.book.spent >= self.shown
        self.shown = self.book.spent

    @invariant()
    def the_log_is_whole(self) -> None:
        assert self.book.check_log() == self.receipts


def _nothing() -> None:
    """A rule that opened nothing."""
    return


TestOdometer = Odometer.TestCase
TestOdometer.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
