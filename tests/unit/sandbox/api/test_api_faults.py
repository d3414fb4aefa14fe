"""When the enclave is away, gets lost on the way, or something breaks that nobody foresaw."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from enclave_runner.contract.errors import Failed
from enclave_runner.contract.wire import AskOdometer, Reply, Request, RunJob
from sandbox.api.app import create_app
from sandbox.workflow.enclave import EnclaveDoor, SocketDoor
from sandbox.workflow.recover import recover
from tests.support.api_world import ApiWorld, fresh_key, is_problem, query
from tests.support.deployment import FREE, PRODUCT
from tests.support.http_server import serving

CANARY = "CANARY-in-a-fault"


@dataclass(frozen=True)
class LosesAnswers:
    """A door through which every order goes and from which no answer to an order comes back."""

    door: EnclaveDoor

    def call(self, request: Request, descriptor: int | None = None) -> Reply:
        """As the real door, but for orders."""
        reply = self.door.call(request, descriptor)
        if isinstance(request, RunJob):
            raise Failed("enclave.lost")
        return reply


@dataclass(frozen=True)
class LosesOrders:
    """A door through which no order ever gets."""

    door: EnclaveDoor

    def call(self, request: Request, descriptor: int | None = None) -> Reply:
        """As the real door, but for orders."""
        if isinstance(request, RunJob):
            raise Failed("enclave.lost")
        return self.door.call(request, descriptor)


@dataclass(frozen=True)
class AnswersAnother:
    """A door that answers every request with the odometer."""

    door: EnclaveDoor

    def call(self, request: Request, descriptor: int | None = None) -> Reply:
        """Never what was asked."""
        return self.door.call(AskOdometer())


class Breaks:
    """A door with a fault that nobody foresaw, whose text quotes data."""

    def call(self, request: Request, descriptor: int | None = None) -> Reply:
        """Never answers."""
        raise LookupError(CANARY)


@contextmanager
def through(api: ApiWorld, door: EnclaveDoor) -> Iterator[ApiWorld]:
    """The same deployment, served with another door to the enclave."""
    office = replace(api.world.office, enclave=door)
    with serving(create_app(office)) as base, httpx.Client(base_url=base, timeout=60) as client:
        yield replace(api, base=base, client=client)


def test_without_an_enclave_the_answer_is_503_and_nothing_is_half_written(api: ApiWorld, tmp_path: Path) -> None:
    key, body = fresh_key(), {"grant_id": FREE, "job": query("0.03")}
    before = api.get("operator", "/v1/submissions").json()
    with through(api, SocketDoor(tmp_path)) as alone:
        assert alone.client.get("/v1/health").json() == {"control": "ok", "enclave": "absent"}
        about = alone.client.get("/v1/about")
        assert is_problem(about, 503)
        assert about.headers["retry-after"].isdigit()
        answer = alone.post("operator", "/v1/submissions", body, **{"Idempotency-Key": key})
        assert is_problem(answer, 503)
        assert set(answer.json()) == {"type", "title", "title_zh", "title_en", "status", "fault"}
        assert alone.get("operator", "/v1/datasets").status_code == 200
    assert api.get("operator", "/v1/submissions").json() == before
    assert api.post("operator", "/v1/submissions", body, **{"Idempotency-Key": key}).status_code == 201


def test_a_job_whose_answer_got_lost_runs_once_and_is_found_again(api: ApiWorld) -> None:
    key, body = fresh_key(), {"grant_id": FREE, "job": query("0.03")}
    uses = _uses(api)
    with through(api, LosesAnswers(api.world.office.enclave)) as losing:
        assert is_problem(losing.post("operator", "/v1/submissions", body, **{"Idempotency-Key": key}), 503)
    waiting = api.post("operator", "/v1/submissions", body, **{"Idempotency-Key": key})
    assert waiting.json()["submission"]["status"] == "dispatched"
    assert waiting.headers["idempotency-replayed"] == "true"
    recover(api.world.office)
    found = api.post("operator", "/v1/submissions", body, **{"Idempotency-Key": key}).json()
    assert found["submission"]["status"] == "released"
    assert found["submission"]["submission_id"] == waiting.json()["submission"]["submission_id"]
    assert _uses(api) == uses + 1


def test_a_verification_whose_answer_got_lost_is_collected_and_paid_once(api: ApiWorld) -> None:
    key, asked = fresh_key(), {"product_id": PRODUCT, "subject": "p1", "claim": "true"}
    before = len(api.get("bank", "/v1/meter-events").json()["events"])
    with through(api, LosesAnswers(api.world.office.enclave)) as losing:
        assert is_problem(losing.post("bank", "/v1/verifications", asked, **{"Idempotency-Key": key}), 503)
    found = api.post("bank", "/v1/verifications", asked, **{"Idempotency-Key": key})
    assert found.status_code == 201
    assert found.headers["idempotency-replayed"] == "true"
    assert found.json()["release"]["answer"] == "yes"
    assert len(api.get("bank", "/v1/meter-events").json()["events"]) == before + 1


def test_a_verification_that_never_reached_the_enclave_is_refused_and_free(api: ApiWorld, tmp_path: Path) -> None:
    """The question died with the first attempt: the retry uses the ticket up, and a new key asks anew."""
    key, asked = fresh_key(), {"product_id": PRODUCT, "subject": "p1", "claim": "true"}
    with through(api, LosesOrders(api.world.office.enclave)) as losing:
        assert is_problem(losing.post("bank", "/v1/verifications", asked, **{"Idempotency-Key": key}), 503)
    assert is_problem(api.post("bank", "/v1/verifications", asked, **{"Idempotency-Key": key}), 503)
    recover(api.world.office)
    ended = api.post("bank", "/v1/verifications", asked, **{"Idempotency-Key": key}).json()
    assert (ended["submission"]["status"], ended["receipt"]["rule"]) == ("refused", "ticket.input")
    events = api.get("bank", "/v1/meter-events").json()["events"]
    assert [event["units"] for event in events if event["receipt_id"] == ended["receipt"]["receipt_id"]] == [0]
    assert api.post("bank", "/v1/verifications", asked).json()["release"]["answer"] == "yes"


def test_an_enclave_that_answers_something_else_is_a_fault(api: ApiWorld) -> None:
    with through(api, AnswersAnother(api.world.office.enclave)) as confused:
        assert is_problem(confused.client.get("/v1/about"), 500)
        assert confused.client.get("/v1/health").json()["enclave"] == "absent"


def test_a_fault_that_nobody_foresaw_tells_only_its_id(api: ApiWorld, caplog: pytest.LogCaptureFixture) -> None:
    asked = {"product_id": PRODUCT, "subject": CANARY, "claim": "true"}
    with through(api, Breaks()) as broken, caplog.at_level(logging.DEBUG):
        about = broken.client.get("/v1/about", headers={"Accept-Language": "en"})
        verification = broken.post("bank", "/v1/verifications", asked)
    for answer in (about, verification):
        assert is_problem(answer, 500)
        assert CANARY not in answer.text
        assert f"{answer.json()['fault']} LookupError" in caplog.messages
    assert CANARY not in caplog.text


def _uses(api: ApiWorld) -> int:
    grants = api.get("operator", "/v1/budgets").json()["grants"]
    return int(sum(item["uses"] for item in grants if item["grant_id"] == FREE))
