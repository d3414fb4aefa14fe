"""Invariant 7: the control plane's key alone exceeds neither what an officer signed nor the enclave's own caps."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from enclave_runner.contract.codec import decode
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.grant import PURPOSE as GRANT_PURPOSE
from enclave_runner.contract.grant import Grant, Mode, Purpose, Scope
from enclave_runner.contract.job import Job, QueryJob
from enclave_runner.contract.privacy import RHO_UNIT, Budget, PrivacyLoss
from enclave_runner.contract.receipt import Outcome, Receipt
from enclave_runner.contract.signing import KeyFile, Signed, seal
from enclave_runner.contract.ticket import PURPOSE, Ticket
from enclave_runner.contract.wire import (
    DATASET_PURPOSE,
    AskHoldings,
    FileFormat,
    Holdings,
    ImportData,
    RunJob,
    Settlement,
)
from sandbox.workflow.grants import get_grant
from tests.support.deployment import FREE, PAID, World, furnish, make_deployment, open_world
from tests.support.tariffs import pack_charge

SQL = "SELECT district, COUNT(*) AS n FROM people GROUP BY district"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    home = make_deployment(tmp_path_factory.mktemp("thief") / "home")
    with open_world(home) as opened:
        furnish(opened)
        yield opened


def _signed_grant(world: World, grant_id: str = FREE) -> Signed:
    signed = get_grant(world.office, world.actor(), grant_id).signed
    assert signed is not None
    return signed


def _ticket(world: World, grant: Signed, job: Job, **changes: Any) -> Signed:
    """A ticket that the thief signs with the control plane's own key."""
    holdings = world.office.enclave.call(AskHoldings())
    assert isinstance(holdings, Holdings)
    now = world.office.clock()
    ticket = Ticket(
        ticket_id=f"stolen-{secrets.token_hex(8)}",
        submission_id=f"stolen-{secrets.token_hex(8)}",
        grant=grant,
        job=job,
        data_versions={item.dataset_id: item.version for item in holdings.items},
        input_sha256=None,
        policy_sha256=world.office.pack.sha256,
        charge=pack_charge(job.mode, decode(grant.payload, Grant).purpose),
        issued_at=now - timedelta(seconds=1),
        expires_at=now + timedelta(seconds=60),
        audit_size=0,
        audit_root="",
    )
    return seal(msgspec.structs.replace(ticket, **changes), PURPOSE, world.office.signer)


def _run(world: World, signed: Signed) -> Receipt:
    settled = world.office.enclave.call(RunJob(ticket=signed))
    assert isinstance(settled, Settlement)
    assert settled.receipt is not None
    return decode(settled.receipt.payload, Receipt)


def _query(sql: str = SQL, epsilon: str = "0.1") -> QueryJob:
    return QueryJob(sql=sql, budget=Budget(epsilon=epsilon))


def test_an_honest_ticket_runs(world: World) -> None:
    """Positive control: the forgeries below fail for their own reasons."""
    assert _run(world, _ticket(world, _signed_grant(world), _query())).outcome is Outcome.RELEASED


def _widened(grant: Grant) -> dict[str, Grant]:
    people = Scope(dataset_id="people", columns=("person", "district", "income", "note", "active"))
    return {
        "columns": msgspec.structs.replace(grant, scopes=(people,)),
        "deadline": msgspec.structs.replace(grant, deadline=grant.deadline + timedelta(days=999)),
        "budget": msgspec.structs.replace(
            grant, budgets=(PrivacyLoss(entity_set="resident", pico_rho=999 * RHO_UNIT),)
        ),
        "uses": msgspec.structs.replace(grant, max_uses=grant.max_uses + 1),
        "operator": msgspec.structs.replace(grant, operator_id="thief"),
    }


@pytest.mark.parametrize("what", ["columns", "deadline", "budget", "uses", "operator"])
def test_a_widened_grant_does_not_verify(world: World, what: str) -> None:
    honest = _signed_grant(world)
    wider = _widened(decode(honest.payload, Grant))[what]
    forged = [
        seal(wider, GRANT_PURPOSE, world.office.signer),
        msgspec.structs.replace(honest, payload=msgspec.json.encode(wider, order="deterministic")),
        msgspec.structs.replace(seal(wider, GRANT_PURPOSE, world.office.signer), key_id=honest.key_id),
    ]
    for signed in forged:
        with pytest.raises(Refused, match=r"signature\.invalid"):
            world.office.enclave.call(RunJob(ticket=_ticket(world, signed, _query())))


def test_a_dataset_spec_needs_the_officer_too(world: World, tmp_path: Path) -> None:
    source = tmp_path / "x.csv"
    source.write_text("a\n1\n")
    held = world.office.enclave.call(AskHoldings())
    assert isinstance(held, Holdings)
    forged = seal({"dataset_id": "people"}, DATASET_PURPOSE, world.office.signer)
    with source.open("rb") as file, pytest.raises(Refused, match=r"signature\.invalid"):
        world.office.enclave.call(ImportData(spec=forged, format=FileFormat.CSV), file.fileno())


@pytest.mark.parametrize(
    ("sql", "epsilon", "rule"),
    [
        ("SELECT district, COUNT(*) AS n FROM people WHERE note = 'x' GROUP BY district", "0.1", "grant.column"),
        ("SELECT COUNT(person) AS n FROM people", "0.1", "grant.column"),
        ("SELECT COUNT(*) AS n FROM secrets", "0.1", "grant.dataset"),
        (SQL, "50", "budget.cap"),
    ],
)
def test_a_job_outside_the_grant_or_the_caps_is_refused(world: World, sql: str, epsilon: str, rule: str) -> None:
    receipt = _run(world, _ticket(world, _signed_grant(world), _query(sql, epsilon)))
    assert (receipt.outcome, receipt.rule, receipt.losses) == (Outcome.REFUSED, rule, ())


def test_tickets_are_used_once_even_with_the_key(world: World) -> None:
    signed = _ticket(world, _signed_grant(world), _query())
    _run(world, signed)
    with pytest.raises(Refused, match=r"ticket\.replayed"):
        world.office.enclave.call(RunJob(ticket=signed))


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"policy_sha256": "0" * 64}, "ticket.policy"),
        ({"data_versions": {"people": "v9-000000000000"}}, "ticket.data-version"),
        ({"input_sha256": "0" * 64}, "ticket.input"),
    ],
)
def test_a_ticket_that_does_not_fit_is_refused(world: World, changes: dict[str, Any], rule: str) -> None:
    assert _run(world, _ticket(world, _signed_grant(world), _query(), **changes)).rule == rule


def test_a_price_tag_that_is_not_the_packs_is_refused(world: World) -> None:
    """Invariant 9: free or paid follows from the scenario that the officer signed, not from who writes the ticket."""
    industry = pack_charge(Mode.QUERY, Purpose.INDUSTRY)
    assert industry.unit_price_fen > 0
    for grant_id, charge in (
        (PAID, msgspec.structs.replace(industry, unit_price_fen=0)),  # a paid use given away
        (PAID, pack_charge(Mode.QUERY, Purpose.PUBLIC_INTEREST)),
        (PAID, pack_charge(Mode.VERIFICATION, Purpose.INDUSTRY)),
        (FREE, industry),  # a free use charged for
        (FREE, msgspec.structs.replace(pack_charge(Mode.QUERY, Purpose.PUBLIC_INTEREST), legal_basis="-")),
    ):
        receipt = _run(world, _ticket(world, _signed_grant(world, grant_id), _query(), charge=charge))
        assert (receipt.outcome, receipt.rule, receipt.losses) == (Outcome.REFUSED, "ticket.charge", ())
    paid = _run(world, _ticket(world, _signed_grant(world, PAID), _query()))
    assert (paid.outcome, paid.charge) == (Outcome.RELEASED, industry)


def test_a_long_or_late_ticket_is_refused(world: World) -> None:
    now = world.office.clock()
    long = {"expires_at": now + timedelta(days=30)}
    late = {"issued_at": now - timedelta(seconds=90), "expires_at": now - timedelta(seconds=30)}
    early = {"issued_at": now + timedelta(seconds=60), "expires_at": now + timedelta(seconds=90)}
    rules = [
        _run(world, _ticket(world, _signed_grant(world), _query(), **changes)).rule for changes in (long, late, early)
    ]
    assert rules == ["ticket.life", "ticket.expired", "ticket.expired"]


def test_the_lifetime_budget_outlives_every_grant(world: World) -> None:
    """Ask until the odometer stops it: the officer granted as much, the enclave's own cap still holds."""
    for number in range(60):  # never the same question: an equal one is answered again at no loss
        sql = f"SELECT COUNT(*) AS n FROM people WHERE income > {number}"
        receipt = _run(world, _ticket(world, _signed_grant(world), _query(sql, epsilon="4")))
        if receipt.outcome is Outcome.REFUSED:
            break
    assert receipt.rule in ("odometer.spent", "grant.budget")


def test_another_key_orders_nothing(world: World, tmp_path: Path) -> None:
    stranger = KeyFile.create(tmp_path / "key")
    ticket = decode(_ticket(world, _signed_grant(world), _query()).payload, Ticket)
    with pytest.raises(Refused, match=r"signature\.invalid"):
        world.office.enclave.call(RunJob(ticket=seal(ticket, PURPOSE, stranger)))
