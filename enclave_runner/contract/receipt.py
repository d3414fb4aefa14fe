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


class Receipt(Value, frozen=True, omit_defaults=True):
    """What ran, on which data version, under which policy pack, at what loss, with which outcome and price tag.

    `sequence` is the receipt's index in the enclave's Merkle log. `rule` names the refusing rule, `fault` the opaque
    fault.
    `release_sha256` is the digest of the released bytes; None when nothing was released. Times are whole seconds.
    `policy_sha256` is the pack that the ticket named: under another one nothing runs.
    `losses` is what was spent in the end: reserved before data were touched, less what was certain not to be needed.
    `repeats` names the receipt of the same grant whose answer was given again, at no loss. It is written down only
    then: receipts of earlier versions have the same bytes as ever.
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
    repeats: str | None = None


class Measure(Value, frozen=True):
    """One noisy column: its unit, and the half width of the 95 % interval around each value where it is one for all.

    An empty `half_width` means that it differs by cell (a mean, a quantile): the table then has it beside each value.
    """

    name: str
    unit: str
    half_width: str


class Clip(Value, frozen=True):
    """How far one unit's contribution counts: `bound` rows (or, for sums, units of the sum's norm).

    `learned`: chosen from a private histogram, within the loss, and not taken from the catalogue. `lost` is a private
    estimate of the share of all contributions that the clip cut away, with the half width of its 95 % interval, in
    decimal text; None: not known. `corrected`: totals were rescaled by a private estimate of what was cut away.
    """

    bound: str
    learned: bool
    lost: str | None = None
    lost_half_width: str | None = None
    corrected: bool = False


class DPTable(Value, frozen=True, tag="table", omit_defaults=True):
    """A released table. `keys` and `measures` describe the columns of `rows`: key texts, then values as decimal text.

    A key is None in the rows of a coarser grouping set; a value is None where noise leaves none (a mean over no rows).
    `half_widths` has, row by row, the half width of each value's 95 % interval; None: not known. It covers the noise,
    not what the clip cut away. Rows stand in the catalogue's order of the keys unless the query ordered them.

    Defaults are not written down: tables of earlier versions, which had one half width for each column, have the same
    bytes as ever. `widths` reads both.
    """

    keys: tuple[str, ...]
    measures: tuple[Measure, ...]
    rows: tuple[tuple[str | None, ...], ...]
    loss: PrivacyLoss
    epsilon: str
    delta: str
    half_widths: tuple[tuple[str | None, ...], ...] = ()
    noise: str = "gaussian"
    clip: Clip | None = None

    @property
    def widths(self) -> tuple[tuple[str | None, ...], ...]:
        """The half width of every value's interval, row by row, whichever version released the table."""
        return self.half_widths or (tuple(measure.half_width for measure in self.measures),) * len(self.rows)


class DPTables(Value, frozen=True, tag="tables"):
    """The tables of a workload, in the order of its statements; the loss in each is that of all together."""

    tables: tuple[DPTable, ...]


class VerificationAnswer(Value, frozen=True, tag="answer"):
    """A released answer; the question is named by its salted digest only."""

    answer: Answer
    question_sha256: str
    data_version: str


Release = DPTable | DPTables | VerificationAnswer
