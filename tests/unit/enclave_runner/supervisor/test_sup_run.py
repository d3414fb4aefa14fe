"""A ticket from signature to receipt: what is released, refused, failed, and what it costs."""

from __future__ import annotations

import dataclasses
import os
import secrets
import signal
import time
from datetime import timedelta
from pathlib import Path

import pytest

from enclave_runner.contract.codec import decode, digest, encode
from enclave_runner.contract.dataset import ColumnType
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.grant import PURPOSE as GRANT_PURPOSE
from enclave_runner.contract.grant import Mode, Purpose, Scope
from enclave_runner.contract.job import Answer, Job, ModelJob, Predicate, QueryJob, VerificationJob
from enclave_runner.contract.privacy import RHO_UNIT, Budget, PrivacyLoss
from enclave_runner.contract.receipt import DPTable, Outcome, Receipt, VerificationAnswer
from enclave_runner.contract.signing import KeyFile, seal
from enclave_runner.contract.ticket import PURPOSE as TICKET_PURPOSE
from enclave_runner.contract.trust import Trust
from enclave_runner.contract.wire import AskPseudonym, AskQuote
from enclave_runner.dp.conversion import pico_rho_of
from enclave_runner.jail.launcher import Zygote
from enclave_runner.jail.profile import JailProfile
from enclave_runner.rawdata.store import RawStore
from enclave_runner.supervisor import enclave as enclave_module
from enclave_runner.supervisor import run, service
from enclave_runner.supervisor.ledger import utc_now
from enclave_runner.supervisor.quote import quote_job
from enclave_runner.supervisor.run import run_ticket
from tests.support import onnx_models
from tests.support.enclave_home import (
    AGES,
    BUDGET,
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
    verification,
    with_enclave,
)
from tests.support.hostile_models import ATTACKS
from tests.support.ledgers import check_log
from tests.support.tariffs import pack_charge

NUMBERED = (column("number", ColumnType.INTEGER), column("age", ColumnType.INTEGER, bounds=(0, 120)))
WIDE = column("note", ColumnType.TEXT)


def refused(receipt: Receipt) -> tuple[str | None, dict[str, str]]:
    assert (receipt.outcome, receipt.losses, receipt.release_sha256) == (Outcome.REFUSED, (), None)
    return receipt.rule, receipt.facts


def model_job(model: bytes, sql: str = "SELECT age FROM people", **fields: object) -> ModelJob:
    given = {"sql": sql, "budget": BUDGET, "model_sha256": digest(model), "output": "score", "high": 100_000, "bins": 5}
    return ModelJob(**{**given, **fields})  # type: ignore[arg-type]


# Released


def test_a_query_is_released_near_the_truth(site: Site) -> None:
    settled = site.settle(query(epsilon="4"))
    receipt = site.receipt(settled)
    assert (receipt.outcome, receipt.rule, receipt.fault) == (Outcome.RELEASED, None, None)
    assert settled.release is not None
    assert receipt.release_sha256 == digest(settled.release)
    table = decode(settled.release, DPTable)
    assert [row[0] for row in table.rows] == ["男", "女", "未知"]
    for (_, shown), true in zip(table.rows, (100, 100, 0), strict=True):
        assert abs(int(shown) - true) < 40
    assert (table.loss,) == receipt.losses


def test_the_receipt_echoes_what_was_ordered(site: Site) -> None:
    grant = make_grant()
    ticket = site.ticket(query(), grant, audit_size=7, audit_root="ab" * 32)
    receipt = site.receipt(site.run(ticket))
    assert (receipt.ticket_id, receipt.submission_id, receipt.charge) == (
        ticket.ticket_id,
        "submission-1",
        ticket.charge,
    )
    assert (receipt.grant_id, receipt.operator_id, receipt.purpose) == (
        grant.grant_id,
        grant.operator_id,
        grant.purpose,
    )
    assert (receipt.audit_size, receipt.audit_root, receipt.mode) == (7, "ab" * 32, Mode.QUERY)
    assert receipt.data_versions == ticket.data_versions
    assert receipt.policy_sha256 == site.enclave.pack.sha256
    assert receipt.measurement == site.enclave.measurement
    assert receipt.finished_at.microsecond == 0
    check_log(site.enclave.ledger, site.enclave.key)


def test_the_loss_is_the_budget_and_the_odometer_counts_it(site: Site) -> None:
    before = site.spent()
    receipt = site.order(query(epsilon="0.5"))
    (loss,) = receipt.losses
    asked = pico_rho_of(Budget(epsilon="0.5"))
    assert asked - 1 <= loss.pico_rho <= asked
    assert site.spent() - before == loss.pico_rho


def test_a_quote_is_what_the_job_then_costs(site: Site) -> None:
    grant, job = make_grant(), query("SELECT sex, COUNT(*), SUM(income) FROM people WHERE age > 30 GROUP BY sex")
    quote = quote_job(site.enclave, AskQuote(grant=seal(grant, GRANT_PURPOSE, site.bureau.officer), job=job))
    before = site.spent()
    settled = site.settle(job, grant)
    assert settled.release is not None
    table = decode(settled.release, DPTable)
    assert quote.losses == site.receipt(settled).losses == (table.loss,)
    assert [(item.name, item.half_width) for item in quote.measures] == [
        (item.name, item.half_width) for item in table.measures
    ]
    assert (quote.cells, quote.columns) == (len(table.rows), ("sex", "income", "age"))
    assert site.spent() - before == table.loss.pico_rho


def test_a_model_leaves_only_its_histogram(site: Site) -> None:
    model = onnx_models.identity()
    settled = site.settle(model_job(model, budget=Budget(epsilon="4")), attached=model)
    assert site.receipt(settled).outcome is Outcome.RELEASED
    assert settled.release is not None
    table = decode(settled.release, DPTable)
    assert [row[0] for row in table.rows] == ["0–20", "20–40", "40–60", "60–80", "80–100"]
    for (_, shown), true in zip(table.rows, (0, 80, 60, 60, 0), strict=True):
        assert abs(int(shown) - true) < 40


@pytest.mark.parametrize(
    ("subject", "attribute", "predicate", "claim", "answer"),
    [
        ("p1", "sex", Predicate.EQUALS, "男", Answer.YES),
        ("p1", "sex", Predicate.EQUALS, "女", Answer.NO),
        ("p1", "age", Predicate.AT_LEAST, "21", Answer.YES),
        ("p1", "age", Predicate.AT_LEAST, "22", Answer.NO),
        ("p1", "income", Predicate.EQUALS, "1.5", Answer.YES),
        ("p1", "joined", Predicate.AT_LEAST, "2001-01-02", Answer.YES),
        ("p0", "active", Predicate.EQUALS, "false", Answer.YES),
        ("p1", "city", Predicate.EXISTS, "", Answer.YES),
        ("nobody", "age", Predicate.EXISTS, "", Answer.NO_RECORD),
        ("' OR 1=1 --", "age", Predicate.EXISTS, "", Answer.NO_RECORD),
    ],
)
def test_a_verification_is_exact_and_costs_no_loss(
    site: Site, subject: str, attribute: str, predicate: Predicate, claim: str, answer: Answer
) -> None:
    asked = question(subject, claim)
    settled = site.settle(verification(attribute, predicate), attached=asked)
    receipt = site.receipt(settled)
    assert (receipt.outcome, receipt.losses, receipt.input_sha256) == (Outcome.RELEASED, (), digest(asked))
    assert settled.release is not None
    released = decode(settled.release, VerificationAnswer)
    assert (released.answer, released.question_sha256) == (answer, digest(asked))
    assert subject.encode() not in encode(receipt) + settled.release


# Refused with a receipt


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"policy_sha256": "0" * 64}, "ticket.policy"),
        ({"data_versions": {}}, "ticket.data-version"),
        ({"data_versions": {"people": "v9-000000000000"}}, "ticket.data-version"),
        ({"data_versions": {"other": "v1"}}, "ticket.data-version"),
        ({"input_sha256": "0" * 64}, "ticket.input"),
        ({"expires_at": utc_now() + timedelta(hours=2)}, "ticket.life"),
        (
            {"issued_at": utc_now() - timedelta(minutes=2), "expires_at": utc_now() - timedelta(minutes=1)},
            "ticket.expired",
        ),
        (
            {"issued_at": utc_now() + timedelta(hours=1), "expires_at": utc_now() + timedelta(hours=1, minutes=1)},
            "ticket.expired",
        ),
    ],
)
def test_a_ticket_that_does_not_hold_is_refused(site: Site, fields: dict[str, object], rule: str) -> None:
    before = site.spent()
    assert refused(site.order(query(), **fields))[0] == rule
    assert site.spent() == before


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"not_before": utc_now() + timedelta(days=1), "deadline": utc_now() + timedelta(days=2)}, "grant.not-yet"),
        ({"not_before": utc_now() - timedelta(days=2), "deadline": utc_now() - timedelta(days=1)}, "grant.expired"),
        ({"modes": (Mode.VERIFICATION, Mode.MODEL)}, "grant.mode"),
        ({"scopes": (Scope(dataset_id="other", columns=("x",)),)}, "grant.dataset"),
        ({"scopes": (Scope(dataset_id="people", columns=("age",)),)}, "grant.column"),
        ({"budgets": ()}, "grant.budget"),
        ({"budgets": (PrivacyLoss(entity_set="enterprise", pico_rho=RHO_UNIT),)}, "grant.budget"),
        ({"budgets": (PrivacyLoss(entity_set="resident", pico_rho=1),)}, "grant.budget"),
    ],
)
def test_a_job_outside_its_grant_is_refused(site: Site, fields: dict[str, object], rule: str) -> None:
    before = site.spent()
    assert refused(site.order(query(), make_grant(**fields)))[0] == rule
    assert site.spent() == before


@pytest.mark.parametrize(
    ("job", "rule"),
    [
        (query("SELECT id, COUNT(*) FROM people GROUP BY id"), "grant.column"),
        (query("SELECT COUNT(*) FROM nothing"), "grant.dataset"),
        (query("DROP TABLE people"), "sql.unsupported"),
        (query("SELECT COUNT(* FROM people"), "sql.syntax"),
        (
            query("SELECT SUM(age), " + ", ".join(f"COUNT(*) AS c{n}" for n in range(20)) + " FROM people"),
            "sql.aggregates",
        ),
        (query(epsilon="4.0001"), "budget.cap"),
        (QueryJob(sql=AGES, budget=Budget(epsilon="1e-300", delta="1e-15")), "budget.malformed"),
        (QueryJob(sql=AGES, budget=Budget(epsilon="1", delta="1e-4")), "budget.cap"),
    ],
)
def test_a_job_that_breaks_a_rule_is_refused(site: Site, job: Job, rule: str) -> None:
    before = site.spent()
    budgets = (PrivacyLoss(entity_set="resident", pico_rho=4 * RHO_UNIT),)
    assert refused(site.order(job, make_grant(budgets=budgets)))[0] == rule
    assert site.spent() == before


@pytest.mark.parametrize(
    ("attribute", "predicate", "claim", "rule"),
    [
        ("nothing", Predicate.EXISTS, "", "verification.attribute"),
        ("id", Predicate.EXISTS, "", "grant.column"),
        ("age", Predicate.EQUALS, "old", "verification.claim"),
        ("age", Predicate.AT_LEAST, "", "verification.claim"),
        ("joined", Predicate.EQUALS, "2023-02-30", "verification.claim"),
        ("city", Predicate.AT_LEAST, "东", "verification.claim"),
        ("active", Predicate.AT_LEAST, "true", "verification.claim"),
    ],
)
def test_a_question_that_cannot_be_asked_is_refused(
    site: Site, attribute: str, predicate: Predicate, claim: str, rule: str
) -> None:
    receipt = site.order(verification(attribute, predicate), attached=question("p1", claim))
    found, facts = refused(receipt)
    assert found == rule
    assert claim == "" or claim not in facts.values()


def test_a_question_that_is_none_is_refused(site: Site) -> None:
    assert refused(site.order(verification("age"), attached=b"{}"))[0] == "wire.malformed"
    assert refused(site.order(verification("age")))[0] == "ticket.input"


def test_what_travels_beside_must_be_what_the_ticket_names(site: Site) -> None:
    asked = question("p1", "5")
    ticket = site.ticket(verification("age"), attached=asked)
    assert refused(site.receipt(site.run(ticket, question("p2", "5"))))[0] == "ticket.input"
    ticket = site.ticket(query())
    assert refused(site.receipt(site.run(ticket, b"unasked")))[0] == "ticket.input"


def test_a_descriptor_that_cannot_be_read_is_refused_and_not_a_fault(site: Site, tmp_path: Path) -> None:
    read, write = os.pipe()
    os.write(write, b"in a pipe")
    folder = os.open(tmp_path, os.O_RDONLY)
    for descriptor in (read, write, folder):
        ticket = site.ticket(verification("age"), attached=question("p1", "5"))
        settled = run_ticket(site.enclave, seal(ticket, TICKET_PURPOSE, site.bureau.control), descriptor)
        assert refused(site.receipt(settled))[0] == "ticket.input"
        os.close(descriptor)


def test_a_model_is_tried_before_anything_is_spent(site: Site) -> None:
    before = site.spent()
    for model, rule in (
        (b"not a model", "model.malformed"),
        (onnx_models.identity(3), "model.malformed"),
        (onnx_models.random_score("RandomUniform"), "model.malformed"),
        (onnx_models.external_data("/etc/passwd"), "model.malformed"),
    ):
        assert refused(site.order(model_job(model), attached=model))[0] == rule
    good = onnx_models.identity()
    assert refused(site.order(model_job(good, model_sha256="0" * 64), attached=good))[0] == "model.digest"
    assert refused(site.order(model_job(good, output="no"), attached=good))[0] == "model.malformed"
    large = bytes(site.enclave.limits.model_bytes + 1)
    assert refused(site.order(model_job(large), attached=large))[0] == "model.too-large"
    assert site.spent() == before


@pytest.mark.parametrize("name", ATTACKS)
def test_a_hostile_model_is_refused_before_any_data_are_opened(
    site: Site, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, real, before = [], RawStore.open, site.spent()
    monkeypatch.setattr(RawStore, "open", lambda self, file: opened.append(file) or real(self, file))
    make, what = ATTACKS[name]
    model = make()
    receipt = site.order(model_job(model), attached=model)
    assert refused(receipt) == ("model.malformed", {"what": what})
    assert (opened, site.spent()) == ([], before)


def test_an_honest_model_opens_them(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control of the test above."""
    opened, real, model = [], RawStore.open, onnx_models.identity()
    monkeypatch.setattr(RawStore, "open", lambda self, file: opened.append(file) or real(self, file))
    assert site.order(model_job(model), attached=model).outcome is Outcome.RELEASED
    assert len(opened) == 1


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


def test_uses_and_budget_run_out(site: Site) -> None:
    once = make_grant(max_uses=1)
    assert site.order(query(), once).outcome is Outcome.RELEASED
    assert refused(site.order(query(), once)) == ("grant.uses", {"max": "1"})
    cost = pico_rho_of(Budget(epsilon="0.1"))
    twice = make_grant(budgets=(PrivacyLoss(entity_set="resident", pico_rho=2 * cost + 1),))
    assert [site.order(query(), twice).outcome for _ in range(2)] == [Outcome.RELEASED] * 2
    assert refused(site.order(query(), twice))[0] == "grant.budget"


# Refused without a receipt: nobody ordered it


def test_a_forged_replayed_or_foreign_ticket_gets_no_receipt(site: Site) -> None:
    size = check_log(site.enclave.ledger, site.enclave.key)
    ticket = site.ticket(query())
    good = seal(ticket, TICKET_PURPOSE, site.bureau.control)
    foreign = (
        seal(make_grant(), GRANT_PURPOSE, site.bureau.control),
        seal(make_grant(), TICKET_PURPOSE, site.bureau.officer),
    )
    forged = [
        seal(ticket, TICKET_PURPOSE, site.bureau.officer),
        seal(ticket, GRANT_PURPOSE, site.bureau.control),
        *(seal(altered(ticket, grant=grant), TICKET_PURPOSE, site.bureau.control) for grant in foreign),
    ]
    for signed in forged:
        with pytest.raises(Refused) as caught:
            run_ticket(site.enclave, signed, None)
        assert caught.value.rule == "signature.invalid"
    assert check_log(site.enclave.ledger, site.enclave.key) == size
    assert site.receipt(run_ticket(site.enclave, good, None)).outcome is Outcome.RELEASED
    with pytest.raises(Refused) as caught:
        run_ticket(site.enclave, good, None)
    assert caught.value.rule == "ticket.replayed"
    assert check_log(site.enclave.ledger, site.enclave.key) == size + 1


def altered(value: object, **fields: object) -> object:
    names = value.__struct_fields__  # type: ignore[attr-defined]
    return type(value)(**{**{name: getattr(value, name) for name in names}, **fields})


def test_a_refused_ticket_is_used_up_too(site: Site) -> None:
    ticket = site.ticket(query("DROP TABLE people"))
    site.run(ticket)
    with pytest.raises(Refused) as caught:
        site.run(ticket)
    assert caught.value.rule == "ticket.replayed"


# Failed


def test_a_job_over_its_limit_fails_and_its_loss_stays(site: Site) -> None:
    tight = dataclasses.replace(site.enclave, limits=_with_profile(site, JailProfile(wall_seconds=0, memory_mb=3072)))
    before = site.spent()
    receipt = Site(site.bureau, tight).order(query())
    assert (receipt.outcome, receipt.rule, receipt.release_sha256) == (Outcome.FAILED, None, None)
    assert receipt.fault is not None
    assert receipt.losses
    assert site.spent() - before == receipt.losses[0].pico_rho
    last = site.enclave.home.log.read_text(encoding="utf-8").splitlines()[-1]
    assert receipt.fault in last
    assert "job.deadline" in last


def _with_profile(site: Site, profile: JailProfile) -> object:
    return altered(site.enclave.limits, job_profile=profile)


def test_a_fault_of_our_own_keeps_its_text_inside(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> object:
        raise ValueError("canary-raw-cell")

    monkeypatch.setattr(run, "execute", broken)
    settled = site.settle(query())
    receipt = site.receipt(settled)
    assert (receipt.outcome, settled.release) == (Outcome.FAILED, None)
    assert b"canary" not in encode(settled)
    assert "canary" not in site.enclave.home.log.read_text(encoding="utf-8")


def test_a_fault_before_the_reservation_costs_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> object:
        raise Failed("jail.absent")

    before = site.spent()
    monkeypatch.setattr(run, "prepare", broken)
    receipt = site.order(query())
    assert (receipt.outcome, receipt.losses) == (Outcome.FAILED, ())
    assert site.spent() == before


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
    assert narrow.order(job, grant, data_versions=versions).outcome is Outcome.FAILED  # it was over 64 MiB


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


def test_a_model_can_be_quoted_before_it_is_made(site: Site) -> None:
    grant = seal(make_grant(), GRANT_PURPOSE, site.bureau.officer)
    quote = quote_job(site.enclave, AskQuote(grant=grant, job=model_job(b"", bins=7)))
    assert (quote.cells, quote.columns, [item.name for item in quote.measures]) == (7, ("age",), ["entities"])


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
        assert run.recover_open_tickets(site.enclave) == 0
        receipt = site.receipt(site.enclave.ledger.settlement(ticket.ticket_id))
        assert (receipt.outcome, receipt.losses, receipt.ticket_id) == (Outcome.FAILED, (loss,), ticket.ticket_id)
        assert site.spent() == loss.pico_rho
        assert check_log(site.enclave.ledger, site.enclave.key) == 1
        with pytest.raises(Refused):
            run_ticket(site.enclave, signed, None)
