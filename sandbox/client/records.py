"""What the platform's API answers, as far as a workbench reads it; members that a later version adds are ignored."""

from __future__ import annotations

from datetime import datetime

import msgspec

from enclave_runner.contract.dataset import DatasetSpec
from enclave_runner.contract.grant import Grant
from enclave_runner.contract.job import Job
from enclave_runner.contract.privacy import PrivacyLoss
from enclave_runner.contract.receipt import Receipt, Release
from enclave_runner.contract.ticket import Charge
from enclave_runner.contract.wire import GrantReading, Quote, Reading

FINAL = frozenset({"released", "withheld", "refused", "failed"})


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Base of what is read here: frozen, open to members of later versions."""


class Party(Record, frozen=True):
    """Who asks."""

    party_id: str
    name: str
    role: str
    status: str


class Entry(Record, frozen=True):
    """A catalogue entry: its titles, and the spec that the enclave enforces."""

    title: str
    department_id: str
    category: str
    frequency: str
    personal: bool
    spec: DatasetSpec


class Granted(Record, frozen=True):
    """A grant and how it stands: draft, signed or revoked."""

    grant: Grant
    status: str


class Odometers(Record, frozen=True):
    """Lifetime loss of every entity set, and what each visible grant has used."""

    readings: tuple[Reading, ...]
    grants: tuple[GrantReading, ...]


class Quoted(Record, frozen=True):
    """The enclave's quote and the price tag."""

    quote: Quote
    charge: Charge


class Filed(Record, frozen=True):
    """A submission as the platform keeps it."""

    submission_id: str
    grant_id: str
    job: Job
    status: str
    submitted_at: datetime


class Refusal(Record, frozen=True):
    """A refusal in full text."""

    rule: str
    article: str
    reason: str
    remedy: str
    reason_zh: str
    remedy_zh: str


class Ended(Record, frozen=True):
    """A submission and what came of it; no receipt means that it has not ended, or that nothing was let out."""

    submission: Filed
    receipt: Receipt | None
    release: Release | None
    refusal: Refusal | None


class Kept(Record, frozen=True):
    """The identity of an uploaded file."""

    sha256: str


def fen_text(fen: int) -> str:
    """Money for people: `12.50 元 / yuan`; free is said so."""
    return f"{fen // 100}.{fen % 100:02d} 元 / yuan" if fen else "免费 / free"


def left_of(budget: PrivacyLoss, used: tuple[PrivacyLoss, ...]) -> int:
    """What is left of a grant's ρ·10¹² for its entity set, never below zero."""
    spent = sum(loss.pico_rho for loss in used if loss.entity_set == budget.entity_set)
    return max(budget.pico_rho - spent, 0)
