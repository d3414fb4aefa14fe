"""A home that was copied back by hand: found at the first ticket or quote, whatever else is right with it."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from enclave_runner.contract.errors import Refused
from enclave_runner.contract.grant import PURPOSE as GRANT_PURPOSE
from enclave_runner.contract.signing import KeyFile, seal
from enclave_runner.contract.wire import AskQuote, Settlement
from enclave_runner.supervisor.continuity import check_seen
from enclave_runner.supervisor.quote import quote_job
from enclave_runner.supervisor.restore import Proof
from tests.support.backups import archive_of, bring_back, make_custody, open_ledger
from tests.support.enclave_home import Bureau, Site, make_bureau, make_grant, query, running_site


def note_of(settled: Settlement) -> str:
    assert settled.receipt is not None
    return settled.checkpoint


def refused_by(site: Site, note: str) -> tuple[Refused, Refused]:
    """How a ticket and a quote are refused for that checkpoint; neither leaves a receipt or uses anything up."""
    before = site.enclave.ledger.head()
    with pytest.raises(Refused) as ticket:
        site.settle(query(), receipts_seen=note)
    grant = seal(make_grant(), GRANT_PURPOSE, site.bureau.officer)
    with pytest.raises(Refused) as quote:
        quote_job(site.enclave, AskQuote(grant=grant, job=query(), receipts_seen=note))
    assert site.enclave.ledger.head() == before
    return ticket.value, quote.value


@pytest.fixture
def bureau(tmp_path: Path) -> Bureau:
    return make_bureau(tmp_path)


def test_an_older_home_is_found_and_so_is_one_that_went_another_way(bureau: Bureau, tmp_path: Path) -> None:
    """The jobs are refused, there being no data: a refusal too is a receipt that must not be forgotten."""
    with running_site(bureau) as site:
        first = note_of(site.settle(query()))
    shutil.copytree(bureau.home.folder, tmp_path / "old")
    with running_site(bureau) as site:
        second = note_of(site.settle(query(), receipts_seen=first))
        third = note_of(site.settle(query(), receipts_seen=first))  # an older checkpoint is no fault
    shutil.rmtree(bureau.home.folder)
    shutil.copytree(tmp_path / "old", bureau.home.folder)
    with running_site(bureau) as site:
        for error in refused_by(site, second):
            assert (error.rule, error.facts) == ("enclave.rolled-back", {"have": "1", "seen": "2"})
        site.settle(query(), receipts_seen=first)
        site.settle(query(), receipts_seen=first)
        # As long as before, and longer: the roots are others.
        assert {error.rule for error in refused_by(site, second)} == {"enclave.rolled-back"}
        assert {error.rule for error in refused_by(site, third)} == {"enclave.rolled-back"}
        site.settle(query(), receipts_seen=None)


def test_a_checkpoint_of_another_enclave_or_none_at_all_is_no_checkpoint(bureau: Bureau, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with running_site(make_bureau(tmp_path / "other")) as other:
        note = note_of(other.settle(query()))
    with running_site(bureau) as site:
        assert {error.rule for error in refused_by(site, note)} == {"checkpoint.invalid"}
        assert {error.rule for error in refused_by(site, "")} == {"checkpoint.invalid"}


def test_every_earlier_checkpoint_stays_known(tmp_path: Path) -> None:
    custody = make_custody(tmp_path)
    notes = []
    with open_ledger(custody.home) as ledger:
        notes.append(ledger.checkpoint())
        for ending in ("released", "refused", "failed", "released", "refused"):
            custody.order(ledger, ending, 1)
            notes.append(str(custody.note))
        key = KeyFile.load(custody.home.receipt_key).public_key
        for note in notes:
            check_seen(ledger, key, note)
    home, _ = bring_back(archive_of(custody.home), tmp_path / "new", Proof(checkpoint=notes[-1]))
    with open_ledger(home) as ledger:
        for note in notes:
            check_seen(ledger, key, note)


def test_a_restored_enclave_runs_new_tickets_and_ends_old_ones(bureau: Bureau, tmp_path: Path) -> None:
    with running_site(bureau) as site:
        note = note_of(site.settle(query()))
        held_back = site.ticket(query())
        archive = archive_of(bureau.home)
    home, report = bring_back(archive, tmp_path / "new", Proof(checkpoint=note))
    with running_site(Bureau(bureau.officer, bureau.control, home)) as site:
        receipt = site.receipt(site.run(held_back))
        assert (receipt.rule, receipt.facts) == ("ticket.voided", {"since": report.not_before.isoformat()})
        assert receipt.sequence == 1
        later = report.not_before + timedelta(seconds=1)
        fresh = site.ticket(query(), issued_at=report.not_before, expires_at=later)
        assert site.receipt(site.run(fresh)).rule in ("ticket.expired", "dataset.unknown", "grant.dataset")
