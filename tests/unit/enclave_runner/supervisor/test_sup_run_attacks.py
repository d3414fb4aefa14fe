"""Attacks on a run: hostile models, forged prices, a dead zygote, other spellings, other versions, new keys."""

from __future__ import annotations

import itertools
import json
import os
import secrets
import signal
import time
from datetime import timedelta
from pathlib import Path

import pytest

from enclave_runner.contract.codec import decode, encode
from enclave_runner.contract.dataset import ColumnType
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.grant import PURPOSE as GRANT_PURPOSE
from enclave_runner.contract.grant import Mode, Purpose, Scope
from enclave_runner.contract.job import Answer, Predicate, VerificationJob
from enclave_runner.contract.privacy import RHO_UNIT, Budget, PrivacyLoss
from enclave_runner.contract.receipt import DPTable, Outcome, VerificationAnswer
from enclave_runner.contract.signing import KeyFile, seal
from enclave_runner.contract.ticket import PURPOSE as TICKET_PURPOSE
from enclave_runner.contract.trust import Trust
from enclave_runner.contract.wire import AskPseudonym, AskQuote
from enclave_runner.jail.launcher import Zygote
from enclave_runner.jail.profile import JailProfile
from enclave_runner.rawdata.store import RawStore
from enclave_runner.supervisor import enclave as enclave_module
from enclave_runner.supervisor import run, service
from enclave_runner.supervisor.ledger import utc_now
from enclave_runner.supervisor.quote import quote_job
from enclave_runner.supervisor.run import run_ticket
from enclave_runner.supervisor.selftest import JailOpen
from tests.support import onnx_models
from tests.support.enclave_home import (
    PEOPLE,
    PEOPLE_CSV,
    Site,
    changed,
    column,
    make_bureau,
    make_grant,
    make_ticket,
    query,
    question,
    running_site,
    with_enclave,
)
from tests.support.hostile_models import ATTACKS
from tests.support.ledgers import check_log
from tests.support.receipts import altered, model_job, refused
from tests.support.tariffs import pack_charge

NUMBERED = (column("number", ColumnType.INTEGER), column("age", ColumnType.INTEGER, bounds=(0, 120)))
WIDE = column("note", ColumnType.TEXT)


@pytest.mark.parametrize("name", ATTACKS)
def test_a_hostile_model_is_refused_before_any_data_are_opened(
    site: Site, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, real, before = [], RawStore.open_columns, site.spent()
    monkeypatch.setattr(RawStore, "open_columns", lambda self, *what: opened.append(what) or real(self, *what))
    make, what = ATTACKS[name]
    model = make()
    receipt = site.order(model_job(model), attached=model)
    assert refused(receipt) == ("model.malformed", {"what": what})
    assert (opened, site.spent()) == ([], before)


def test_an_honest_model_opens_them(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control of the test above."""
    opened, real, model = [], RawStore.open_columns, onnx_models.identity()
    monkeypatch.setattr(RawStore, "open_columns", lambda self, *what: opened.append(what) or real(self, *what))
    assert site.order(model_job(model), attached=model).outcome is Outcome.RELEASED
    assert len(opened) == 1


def test_a_row_takes_no_longer_for_small_numbers(site: Site) -> None:
    """Denormal numbers are zero in the jail; with them some rows would take twenty times the time of the others."""
    model = onnx_models.through_denormals()
    settled = site.settle(model_job(model, budget=Budget(epsilon="4")), attached=model)
    assert settled.release is not None
    counts = [int(row[1]) for row in decode(settled.release, DPTable).rows]
    for shown, true in zip(counts, (200, 0, 0, 0, 0), strict=True):
        assert abs(shown - true) < 40


@pytest.mark.parametrize("purpose", list(Purpose))
def test_a_price_tag_must_be_the_packs(site: Site, purpose: Purpose) -> None:
    grant, before = make_grant(purpose=purpose), site.spent()
    honest = pack_charge(Mode.QUERY, purpose)
    forged = [
        altered(honest, unit_price_fen=honest.unit_price_fen + 1),
        altered(honest, unit_price_fen=0 if honest.unit_price_fen else 20_000),
        altered(honest, legal_basis="-"),
        altered(honest, tariff_id="t"),
        pack_charge(Mode.VERIFICATION, purpose),
        *(pack_charge(Mode.QUERY, other) for other in Purpose if other is not purpose),
    ]
    for charge in forged:
        found = refused(site.order(query(), grant, charge=charge))
        assert found == ("ticket.charge", {"mode": "query", "purpose": purpose.value})
    assert site.spent() == before
    receipt = site.order(query(), grant)
    assert (receipt.outcome, receipt.charge) == (Outcome.RELEASED, honest)


def test_a_zygote_that_died_is_replaced_and_costs_at_most_one_free_failure(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_prepare, real_proof, proofs, before = run.prepare, enclave_module.require_jail, [], site.spent()

    def prepare_without_zygote(*arguments: object) -> object:
        os.kill(site.enclave.zygote.pid, signal.SIGKILL)
        return real_prepare(*arguments)  # type: ignore[arg-type]

    def prove(zygote: Zygote, profile: JailProfile) -> object:
        proofs.append((zygote.pid, real_proof(zygote, profile).allowed))
        return proofs

    monkeypatch.setattr(enclave_module, "require_jail", prove)
    monkeypatch.setattr(run, "prepare", prepare_without_zygote)
    failed = site.order(query())
    assert (failed.outcome, failed.losses) == (Outcome.FAILED, ())
    assert "jail.zygote-gone" in site.enclave.home.log.read_text(encoding="utf-8").splitlines()[-1]
    assert site.spent() == before
    monkeypatch.setattr(run, "prepare", real_prepare)
    assert site.order(query()).outcome is Outcome.RELEASED
    assert proofs == [(site.enclave.zygote.pid, ())]


def test_whatever_comes_first_after_its_death_replaces_the_zygote(site: Site) -> None:
    grant = seal(make_grant(), GRANT_PURPOSE, site.bureau.officer)
    spec = changed(PEOPLE, dataset_id="after-death")
    for use in (
        lambda: quote_job(site.enclave, AskQuote(grant=grant, job=query())),
        lambda: site.import_csv(spec, PEOPLE_CSV),
    ):
        _kill(site.enclave.zygote)
        use()


def test_without_proof_of_its_jail_a_new_zygote_runs_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the first ticket after it, and not the second."""

    def disprove(zygote: Zygote, profile: JailProfile) -> object:
        raise Failed("jail.open")

    _kill(site.enclave.zygote)
    with monkeypatch.context() as patched:
        patched.setattr(enclave_module, "require_jail", disprove)
        for _ in range(2):
            receipt = site.order(query())
            assert (receipt.outcome, receipt.losses) == (Outcome.FAILED, ())
            assert "jail.open" in site.enclave.home.log.read_text(encoding="utf-8").splitlines()[-1]
    assert site.order(query()).outcome is Outcome.RELEASED


def test_a_proof_that_fails_on_the_way_ends_that_zygote(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """One order before the periodic proof, the order that fails with it, and the next one, under a new zygote."""
    real, asked = enclave_module.require_jail, list[int]()

    def prove_but_once(zygote: Zygote, profile: JailProfile) -> object:
        asked.append(zygote.pid)
        if len(asked) == 1:
            raise JailOpen(("see-canary",))
        return real(zygote, profile)

    every = enclave_module.PROOF_EVERY
    counted = with_enclave(site, orders=itertools.count(every - 1))
    monkeypatch.setattr(enclave_module, "require_jail", prove_but_once)
    first, before = site.enclave.zygote.pid, site.spent()
    assert counted.order(query()).outcome is Outcome.RELEASED
    assert asked == []
    spent = site.spent()
    assert spent > before
    receipt = counted.order(query())
    assert (receipt.outcome, receipt.losses, site.spent()) == (Outcome.FAILED, (), spent)
    last = json.loads(site.enclave.home.log.read_text(encoding="utf-8").splitlines()[-1])
    assert (last["code"], last["rows"], last["fault"]) == ("jail.open", ["see-canary"], receipt.fault)
    assert not site.enclave.zygote.is_alive
    assert counted.order(query()).outcome is Outcome.RELEASED
    second = site.enclave.zygote.pid
    assert asked == [first, second]
    assert second != first
    assert counted.order(query()).outcome is Outcome.RELEASED
    assert len(asked) == 2


def _kill(zygote: Zygote) -> None:
    os.kill(zygote.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while zygote.is_alive:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("subject", "answer"),
    [("1", Answer.YES), (" 1 ", Answer.YES)]
    + [(other, Answer.NO_RECORD) for other in ("01", "+1", "1e0", "1.0", "1_", "0x1", "１", "1 or 1=1", "true")],
)
def test_a_number_that_is_a_key_has_one_spelling(site: Site, subject: str, answer: Answer) -> None:
    """A consent is filed under the spelling. Blanks around it are cut there too: another one is another person."""
    spec = changed(PEOPLE, dataset_id="numbered", entity_column="number", columns=NUMBERED)
    if site.enclave.holdings.find("numbered") is None:
        site.import_csv(spec, "number,age\n1,41\n22,42\n")
    job = VerificationJob(dataset_id="numbered", attribute="age", predicate=Predicate.EXISTS)
    grant = make_grant(scopes=(Scope(dataset_id="numbered", columns=("age",)),))
    settled = site.settle(job, grant, attached=question(subject))
    assert settled.release is not None, site.receipt(settled)
    assert decode(settled.release, VerificationAnswer).answer is answer
    asked = [AskPseudonym(dataset_id="numbered", identifier=text) for text in ("1", subject)]
    first, second = (service.answer(site.enclave, request, None) for request in asked)
    assert (first == second) == (answer is Answer.YES)


def test_the_version_that_was_planned_is_the_one_that_runs(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new version that is published in the middle of a job does not slip under a plan that was bound to the old."""
    spec = changed(PEOPLE, dataset_id="moving", entity_column="number", columns=NUMBERED)
    first = site.import_csv(spec, "number,age\n1,41\n")
    real = run.execute

    def execute_after_an_import(*arguments: object) -> object:
        site.import_csv(spec, "number,age\n1,99\n")
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(run, "execute", execute_after_an_import)
    job = VerificationJob(dataset_id="moving", attribute="age", predicate=Predicate.EQUALS)
    grant = make_grant(scopes=(Scope(dataset_id="moving", columns=("age",)),))
    settled = site.settle(job, grant, attached=question("1", "41"))
    assert settled.release is not None
    released = decode(settled.release, VerificationAnswer)
    assert (released.answer, released.data_version) == (Answer.YES, first.version)
    held = site.enclave.holdings.find("moving")
    assert held is not None
    assert held.version.startswith("v2-")


@pytest.mark.slow
def test_a_wide_extract_is_larger_than_any_file_of_a_job(site: Site) -> None:
    """An extract may be as large as `extract_mb` says; 64 MiB, what a job itself may write, would not do."""
    spec = changed(PEOPLE, dataset_id="wide", entity_column="number", columns=(NUMBERED[0], WIDE))
    rows = "".join(f"{number},{secrets.token_urlsafe(7300)}\n" for number in range(9000))
    site.import_csv(spec, "number,note\n" + rows)
    grant = make_grant(scopes=(Scope(dataset_id="wide", columns=("note",)),))
    held = site.enclave.holdings.find("wide")
    assert held is not None
    versions = {"wide": held.version}
    job = query("SELECT COUNT(*) AS n FROM wide WHERE note <> 'x'", epsilon="4")
    budgets = (PrivacyLoss(entity_set="resident", pico_rho=100 * RHO_UNIT),)
    grant = altered(grant, budgets=budgets)
    settled = site.settle(job, grant, data_versions=versions)
    assert settled.release is not None, site.receipt(settled)
    ((shown,),) = decode(settled.release, DPTable).rows
    assert abs(int(shown) - 9000) < 40
    narrow = with_enclave(site, limits=altered(site.enclave.limits, extract_profile=JailProfile()))
    again = query("SELECT COUNT(*) AS n FROM wide WHERE note <> 'y'", epsilon="4")
    assert narrow.order(again, grant, data_versions=versions).outcome is Outcome.FAILED  # it was over 64 MiB


def test_a_clock_that_is_put_back_revives_nothing(site: Site) -> None:
    past = with_enclave(site, clock=lambda: utc_now() - timedelta(days=365))
    then = utc_now() - timedelta(days=365)
    receipt = past.order(query(), issued_at=then - timedelta(seconds=1), expires_at=then + timedelta(minutes=1))
    assert refused(receipt)[0] == "ticket.expired"


def test_a_worker_that_answers_something_else_is_a_fault(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The jailed worker is not trusted: garbage, another answer, or a vector of another shape releases nothing."""
    real = Zygote.run
    for forged in (
        b"",
        b"garbage",
        b'{"type":"done"}',
        b'{"type":"vectors","vectors":[[1,2,3,4]]}',
        b'{"type":"declined"}',
    ):

        def answer(self: Zygote, task: bytes, files: list[int], profile: JailProfile, forged: bytes = forged) -> bytes:
            return forged if b'"type":"aggregation"' in task else real(self, task, files, profile)

        monkeypatch.setattr(Zygote, "run", answer)
        settled = site.settle(query())
        assert (site.receipt(settled).outcome, settled.release) == (Outcome.FAILED, None)
        assert site.receipt(settled).losses


def test_a_restart_under_new_keys_closes_what_the_old_ones_ordered(tmp_path: Path) -> None:
    """Keys are rotated, packs are changed: an open reservation still gets its receipt, and the enclave starts."""
    bureau = make_bureau(tmp_path)
    with running_site(bureau) as site:
        ticket, grant = make_ticket(bureau, query(), make_grant()), make_grant()
        signed = seal(ticket, TICKET_PURPOSE, bureau.control)
        loss = PrivacyLoss(entity_set="resident", pico_rho=12345)
        site.enclave.ledger.open_ticket(ticket, signed, grant, (loss,), site.enclave.now())
    control, officer = (KeyFile.create(tmp_path / f"new-{name}.key") for name in ("control", "officer"))
    bureau.home.trust.write_bytes(encode(Trust(control=(control.public_key,), officers=(officer.public_key,))))
    rules = bureau.home.policies / "limits.toml"
    rules.write_text(rules.read_text(encoding="utf-8") + "# another pack\n", encoding="utf-8")
    with running_site(bureau) as site:
        assert run.recover_open_tickets(site.enclave) == 1
        receipt = site.receipt(site.enclave.ledger.settlement(ticket.ticket_id))
        assert (receipt.outcome, receipt.losses) == (Outcome.FAILED, (loss,))
        assert receipt.policy_sha256 == ticket.policy_sha256 != site.enclave.pack.sha256
        with pytest.raises(Refused) as caught:
            run_ticket(site.enclave, signed, None)
        assert caught.value.rule == "signature.invalid"


def test_what_a_crash_left_open_gets_one_failed_receipt_and_keeps_its_loss(tmp_path: Path) -> None:
    bureau = make_bureau(tmp_path)
    with running_site(bureau) as site:
        site.import_csv(PEOPLE, PEOPLE_CSV)
        ticket, grant = site.ticket(query()), make_grant()
        signed = seal(ticket, TICKET_PURPOSE, bureau.control)
        loss = PrivacyLoss(entity_set="resident", pico_rho=12345)
        site.enclave.ledger.open_ticket(ticket, signed, grant, (loss,), site.enclave.now())
    with running_site(bureau) as site:
        assert run.recover_open_tickets(site.enclave) == 1
        assert site.enclave.schedule.held() == frozenset()  # who recovers after the crash is answered at once
        assert run.recover_open_tickets(site.enclave) == 0
        receipt = site.receipt(site.enclave.ledger.settlement(ticket.ticket_id))
        assert (receipt.outcome, receipt.losses, receipt.ticket_id) == (Outcome.FAILED, (loss,), ticket.ticket_id)
        assert site.spent() == loss.pico_rho
        assert check_log(site.enclave.ledger, site.enclave.key) == 1
        with pytest.raises(Refused):
            run_ticket(site.enclave, signed, None)
