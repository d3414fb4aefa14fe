"""The conversations of a workbench with the platform, apart from how they travel."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from enclave_runner.contract.errors import Refused
from enclave_runner.contract.job import ModelJob, QueryJob
from enclave_runner.contract.privacy import asked_budget
from enclave_runner.contract.script import ScriptJob
from sandbox.client.catalogue import Budgets, Catalogue, Dataset, Grants
from sandbox.client.exchange import BYTES, JSON, Exchange, Flow, Reply
from sandbox.client.problems import Declined, Texts, require_answered
from sandbox.client.records import Ended, Entry, Filed, Granted, Kept, Odometers, Quoted
from sandbox.client.results import JobQuote, Result, Submission, Submissions

Job = QueryJob | ModelJob | ScriptJob
T = TypeVar("T")
MAX_REPLY = 24 << 20  # the largest release, and what stands around it
WRITTEN = (200, 201)


@dataclass(frozen=True)
class Order:
    """A job under one grant with the key that makes it run once, however often it is sent."""

    grant_id: str
    job: Job
    key: str = field(default_factory=lambda: f"sdk-{secrets.token_hex(16)}")


def catalogue() -> Flow[Catalogue]:
    """All datasets."""
    entries = yield from _read("/v1/datasets", tuple[Entry, ...])
    return Catalogue(tuple(map(Dataset, entries)))


def dataset(dataset_id: str) -> Flow[Dataset]:
    """One of them."""
    return Dataset((yield from _read(f"/v1/datasets/{dataset_id}", Entry)))


def budgets() -> Flow[Budgets]:
    """The odometers."""
    return Budgets((yield from _read("/v1/budgets", Odometers)))


def grants() -> Flow[Grants]:
    """The caller's grants, with what is left of them."""
    granted = yield from _read("/v1/grants", tuple[Granted, ...])
    return Grants(granted, (yield from _read("/v1/budgets", Odometers)))


def order(job: str | Job | Order, grant: str | None, epsilon: str, delta: str) -> Flow[Order]:
    """A job that is ready to be sent. SQL becomes a query; without a grant, the only one that allows it is taken.

    Raises:
        Refused: `client.grant` unless exactly one grant fits; `budget.malformed`.
    """
    if isinstance(job, Order):
        return job
    made = QueryJob(sql=job, budget=asked_budget(epsilon, delta)) if isinstance(job, str) else job
    if grant is not None:
        return Order(grant, made)
    granted = yield from _read("/v1/grants", tuple[Granted, ...])
    fitting = [one.grant for one in granted if one.status == "signed" and made.mode in one.grant.modes]
    named = [one for one in fitting if all(_names(made.sql, scope.dataset_id) for scope in one.scopes)]
    found = fitting if len(fitting) == 1 else named
    if len(found) != 1:
        raise Refused("client.grant", grants=", ".join(one.grant_id for one in found or fitting) or "-")
    return Order(found[0].grant_id, made)


def quote(job: str | Job | Order, grant: str | None, epsilon: str, delta: str) -> Flow[JobQuote]:
    """Loss, accuracy and price; nothing is spent."""
    made = yield from order(job, grant, epsilon, delta)
    reply = yield Exchange("POST", "/v1/quotes", MAX_REPLY, _body(made))
    quoted = _answer(reply, Quoted)
    return JobQuote(quoted, (yield from _read("/v1/budgets", Odometers)))


def submit(job: str | Job | Order, grant: str | None, epsilon: str, delta: str) -> Flow[Submission]:
    """File it, and run it unless people must read it first. The same order is never filed twice."""
    made = yield from order(job, grant, epsilon, delta)
    reply = yield Exchange("POST", "/v1/submissions", MAX_REPLY, _body(made), key=made.key)
    return Submission(_answer(reply, Ended).submission)


def submission(submission_id: str) -> Flow[Submission]:
    """Where it stands now."""
    return Submission((yield from _read(f"/v1/submissions/{submission_id}", Filed)))


def submissions() -> Flow[Submissions]:
    """All that the caller may see."""
    filed = yield from _read("/v1/submissions", tuple[Filed, ...])
    return Submissions(tuple(map(Submission, filed)))


def result(submission_id: str) -> Flow[Result]:
    """What was released.

    Raises:
        Declined: with the rule that refused it, the ground of a reviewer, or `submission.unsettled`.
    """
    ended = yield from _read(f"/v1/releases/{submission_id}", Ended)
    if ended.refusal is not None:
        told = ended.refusal
        texts = Texts(
            rule=told.rule,
            article=told.article,
            reason=told.reason,
            remedy=told.remedy,
            reason_zh=told.reason_zh,
            remedy_zh=told.remedy_zh,
        )
        raise Declined(told.rule, {}, texts)
    return Result(ended)


def upload(kind: str, content: bytes) -> Flow[str]:
    """Store a model or a script (`kind`: models, scripts); its SHA-256 in hex, which is checked against our own."""
    sha256 = hashlib.sha256(content).hexdigest()
    path, key = f"/v1/{kind}", f"up-{sha256[:40]}"
    reply = yield Exchange("POST", path, MAX_REPLY, content, sends=BYTES, key=key)
    if _answer(reply, Kept).sha256 != sha256:
        raise Refused("client.answer", what="another digest than that of what was sent")
    return sha256


def _names(sql: str, dataset_id: str) -> bool:
    """Whether the text has that name at all; the platform judges what it means."""
    return dataset_id in sql


def _body(made: Order) -> bytes:
    return msgspec.json.encode({"grant_id": made.grant_id, "job": made.job})


def _read(path: str, kind: type[T]) -> Generator[Exchange, Reply, T]:
    reply = yield Exchange("GET", path, MAX_REPLY)
    return _answer(reply, kind)


def _answer(reply: Reply, kind: type[T]) -> T:
    require_answered(reply, JSON, WRITTEN)
    try:
        return msgspec.json.decode(reply.body, type=kind)
    except (ValueError, RecursionError):
        raise Refused("client.answer", what="no such document") from None
