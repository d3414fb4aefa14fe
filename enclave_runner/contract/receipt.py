"""The receipt: the enclave's signed answer, and the only source of ledger, meter, invoice, audit and disclosure."""

from __future__ import annotations

from datetime import datetime
from enum import Enum

from enclave_runner.contract.codec import Value
from enclave_runner.contract.grant import Mode, Purpose
from enclave_runner.contract.job import Answer
from enclave_runner.contract.privacy import PrivacyLoss
from enclave_runner.contract.ticket import Charge

PURPOSE = "receipt"


class Outcome(Enum):
    """How a job ended."""

    RELEASED = "released"
    REFUSED = "refused"
    FAILED = "failed"


class Measurement(Value, frozen=True):
    """What ran: digests of the runner's code and of the jail profile, and the engine versions. Software-only
    evidence."""

    assurance: str
    runner_sha256: str
    jail_sha256: str
    engines: dict[str, str]


class Receipt(Value, frozen=True):
    """What ran, on which data version, under which policy pack, at what loss, with which outcome and price tag.

    `sequence` is the receipt's index in the enclave's Merkle log. `rule` names the refusing rule, `fault` the opaque
    fault.
    `release_sha256` is the digest of the released bytes; None when nothing was released. Times are whole seconds.
    `policy_sha256` is the pack that the ticket named: under another one nothing runs.
    """

    receipt_id: str
    sequence: int
    ticket_id: str
    submission_id: str
    grant_id: str
    operator_id: str
    purpose: Purpose
    mode: Mode
    outcome: Outcome
    rule: str | None
    facts: dict[str, str]
    fault: str | None
    losses: tuple[PrivacyLoss, ...]
    data_versions: dict[str, str]
    input_sha256: str | None
    release_sha256: str | None
    policy_sha256: str
    charge: Charge
    measurement: Measurement
    audit_size: int
    audit_root: str
    finished_at: datetime


class Measure(Value, frozen=True):
    """One noisy column: its unit, and the half width of the 95 % interval around each value."""

    name: str
    unit: str
    half_width: str


class DPTable(Value, frozen=True, tag="table"):
    """A released table. `keys` and `measures` describe the columns; cells are text, in catalogue order of the keys."""

    keys: tuple[str, ...]
    measures: tuple[Measure, ...]
    rows: tuple[tuple[str, ...], ...]
    loss: PrivacyLoss
    epsilon: str
    delta: str


class VerificationAnswer(Value, frozen=True, tag="answer"):
    """A released answer; the question is named by its salted digest only."""

    answer: Answer
    question_sha256: str
    data_version: str


Release = DPTable | VerificationAnswer
