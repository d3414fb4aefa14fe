"""Whatever happened before and after a backup: no way of restoring it lowers an odometer or revives a ticket."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave_runner.contract.errors import Refused
from enclave_runner.contract.merkle import open_checkpoint
from enclave_runner.contract.privacy import DELTA_UNIT, RHO_UNIT
from enclave_runner.contract.signing import KeyFile
from enclave_runner.supervisor.home import EnclaveHome
from enclave_runner.supervisor.ledger import RECEIPT_ORIGIN
from enclave_runner.supervisor.restore import Proof
from tests.support.backups import Custody, archive_of, bring_back, make_custody, open_ledger, runs_again, spent
from tests.support.ledgers import check_log

MOST = RHO_UNIT // 200  # ε²/2: what the orders of these tests, at an ε of 0.1, may lose at most
ORDERS = st.tuples(
    st.sampled_from(["released", "failed", "refused", "open"]), st.integers(0, MOST), st.sampled_from([0, 1, 2])
)
HISTORY = st.lists(ORDERS, max_size=4)


def play(custody: Custody, history: list[tuple[str, int, int]]) -> None:
    """Orders, each with what it reserves and the halves of it that it gives back when it is released."""
    with open_ledger(custody.home) as ledger:
        for ending, pico_rho, halves in history:
            custody.order(ledger, ending, pico_rho, pico_rho * halves // 2)


def odometers(home: EnclaveHome) -> dict[str, int]:
    with open_ledger(home) as ledger:
        return spent(ledger)


def check_kept(home: EnclaveHome, custody: Custody, before: dict[str, int]) -> dict[str, int]:
    """No odometer shows less, no ticket runs again, the log verifies; what the odometers show."""
    with open_ledger(home) as ledger:
        after = spent(ledger)
        assert all(after.get(name, 0) >= shown for name, shown in before.items())
        assert not any(runs_again(ledger, *item) for item in custody.tickets)
        check_log(ledger, KeyFile.load(home.receipt_key))
    return after


@given(HISTORY, HISTORY)
@settings(max_examples=20, deadline=None)
def test_with_the_receipts_exactly_what_was_is_there_again(
    earlier: list[tuple[str, int, int]], later: list[tuple[str, int, int]]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        custody = make_custody(folder)
        play(custody, earlier)
        archive = archive_of(custody.home)
        play(custody, later)
        before = odometers(custody.home)
        home, report = bring_back(archive, folder / "new", Proof(receipts=custody.evidence(folder / "seen")))
        after = check_kept(home, custody, before)
        in_flight = [pico_rho for ending, pico_rho, _ in later if ending == "open"]
        # What is known is booked as it was; what nobody saw end, at its whole budget.
        expected = before.get("resident", 0) - sum(in_flight) + MOST * len(in_flight)
        assert after.get("resident", 0) == expected
        assert report.replayed == sum(ending != "open" for ending, *_ in later)
        assert report.reopened == len(in_flight)
        assert not report.is_lossy
        with open_ledger(home) as ledger, open_ledger(custody.home) as old:
            deltas = sum(item.spent_delta + item.reserved_delta for item in ledger.readings())
            assert deltas == DELTA_UNIT // 10**6 * len(in_flight)  # the δ that they asked for
            assert ledger.head() == old.head()
            if custody.note is not None:
                key = KeyFile.load(home.receipt_key).public_key
                assert ledger.contains(open_checkpoint(custody.note, RECEIPT_ORIGIN, key))
            for ticket, _, _ in custody.tickets:
                assert ledger.settlement(ticket.ticket_id) == old.settlement(ticket.ticket_id)


@given(HISTORY, HISTORY)
@settings(max_examples=15, deadline=None)
def test_with_a_checkpoint_only_what_it_has_seen_may_run(
    earlier: list[tuple[str, int, int]], later: list[tuple[str, int, int]]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        custody = make_custody(folder)
        play(custody, [*earlier, ("released", 1, 0)])
        before, archive = odometers(custody.home), archive_of(custody.home)
        play(custody, later)
        proof = Proof(checkpoint=custody.note)
        if any(ending != "open" for ending, *_ in later):
            with pytest.raises(Refused) as caught:
                bring_back(archive, folder / "new", proof)
            assert caught.value.rule == "restore.behind"
            assert not (folder / "new").exists()
        else:
            home, report = bring_back(archive, folder / "new", proof)
            check_kept(home, custody, before)
            assert not report.is_lossy


@given(HISTORY, HISTORY, st.booleans())
@settings(max_examples=15, deadline=None)
def test_with_nothing_to_show_every_budget_is_spent(
    earlier: list[tuple[str, int, int]], later: list[tuple[str, int, int]], has_note: bool
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        custody = make_custody(folder)
        play(custody, earlier)
        archive = archive_of(custody.home)
        play(custody, [*later, ("released", MOST, 0)])
        before = odometers(custody.home)
        with pytest.raises(Refused) as caught:
            bring_back(archive, folder / "new", Proof())
        assert caught.value.rule == "restore.unproven"
        proof = Proof(checkpoint=custody.note if has_note else None, accepts_loss=True)
        home, report = bring_back(archive, folder / "new", proof)
        check_kept(home, custody, before)
        assert report.is_lossy
        with open_ledger(home) as ledger:
            assert all(item.spent + item.reserved >= item.lifetime for item in ledger.readings())
            assert all(item.spent_delta + item.reserved_delta >= item.lifetime_delta > 0 for item in ledger.readings())
            with pytest.raises(Refused) as caught:
                custody.order(ledger, "released", 1)
            assert caught.value.rule == "odometer.spent"
