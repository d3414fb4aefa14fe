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


class Assurance(Enum):
    """What stands behind a measurement: the host's own word, or a quote of its hardware that somebody verified."""

    SOFTWARE_ONLY = "software-only"
    TEE_VERIFIED = "tee-verified"


class Measurement(Value, frozen=True):
    """What ran, as hex digests and versions. Software-only evidence: the host's root can make the enclave say anything.

    `runner_sha256` covers every file of the runner, `packages_sha256` every file of the distributions that it imports,
    `startup_sha256` what the interpreter runs before it, `lock_sha256` the lock file (None where there is none),
    `jail_sha256` the jail's profile, `selftest_sha256` the outcome of each escape probe at the start.
    """

    assurance: Assurance
    runner_sha256: str
    packages_sha256: str
    startup_sha256: str
    lock_sha256: str | None
    jail_sha256: str
    selftest_sha256: str
    python: str
    kernel: str
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
