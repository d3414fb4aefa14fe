"""A ticket from signature to receipt: what is released, refused, failed, and what it costs."""

from __future__ import annotations

import dataclasses
import os
from datetime import timedelta
from pathlib import Path

import pytest

from enclave_runner.contract.codec import decode, digest, encode
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.grant import PURPOSE as GRANT_PURPOSE
from enclave_runner.contract.grant import Mode, Scope
from enclave_runner.contract.job import Answer, Job, Predicate, QueryJob
from enclave_runner.contract.privacy import RHO_UNIT, Budget, PrivacyLoss
from enclave_runner.contract.receipt import DPTable, Outcome, VerificationAnswer
from enclave_runner.contract.signing import seal
from enclave_runner.contract.ticket import PURPOSE as TICKET_PURPOSE
from enclave_runner.contract.wire import AskQuote
from enclave_runner.dp.conversion import pico_rho_of
from enclave_runner.jail.profile import JailProfile
from enclave_runner.supervisor import run
from enclave_runner.supervisor.ledger import utc_now
from enclave_runner.supervisor.quote import quote_job
from enclave_runner.supervisor.run import run_ticket
from tests.support import onnx_models
from tests.support.enclave_home import (
    AGES,
    Site,
    make_grant,
    query,
    question,
    verification,
)
from tests.support.ledgers import check_log
from tests.support.receipts import altered, model_job, refused

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
    assert quote.cells == len(table.rows)
    assert {name: {*columns} for name, columns in quote.datasets.items()} == {"people": {"sex", "income", "age"}}
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
        (query("DROP TABLE people"), "sql.statement"),
        (query("SELECT COUNT(* FROM people"), "sql.syntax"),
        (
            query("SELECT SUM(age), " + ", ".join(f"SUM(age + {n}) AS s{n}" for n in range(20)) + " FROM people"),
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


def test_uses_and_budget_run_out(site: Site) -> None:
    once = make_grant(max_uses=1)
    assert site.order(query(), once).outcome is Outcome.RELEASED
    assert refused(site.order(query(), once)) == ("grant.uses", {"max": "1"})
    cost = pico_rho_of(Budget(epsilon="0.1"))
    twice = make_grant(budgets=(PrivacyLoss(entity_set="resident", pico_rho=2 * cost + 1),))
    asked = [query(f"SELECT COUNT(*) AS n FROM people WHERE age < {age}") for age in (30, 40, 50)]
    assert [site.order(job, twice).outcome for job in asked[:2]] == [Outcome.RELEASED] * 2
    assert refused(site.order(asked[2], twice))[0] == "grant.budget"


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


def test_a_model_can_be_quoted_before_it_is_made(site: Site) -> None:
    grant = seal(make_grant(), GRANT_PURPOSE, site.bureau.officer)
    quote = quote_job(site.enclave, AskQuote(grant=grant, job=model_job(b"", bins=7)))
    assert (quote.cells, quote.datasets) == (7, {"people": ("age",)})
    assert [item.name for item in quote.measures] == ["entities"]
