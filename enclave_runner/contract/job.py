"""The kinds of job that a ticket may order; `script` has a module of its own.

What must not be stored by the control plane (the identifier and the claim of a verification) is not in the job: it
travels beside the ticket as a `Question`, and the ticket holds only its digest.
"""

from __future__ import annotations

from enum import Enum

from enclave_runner.contract.codec import Value
from enclave_runner.contract.grant import Mode
from enclave_runner.contract.privacy import Budget
from enclave_runner.contract.script import MAX_SQL, ScriptJob

MAX_BINS = 1000


class QueryJob(Value, frozen=True, tag="query"):
    """A DP table: counts and clipped sums grouped by public keys, written as SQL over one granted dataset."""

    sql: str
    budget: Budget

    def __post_init__(self) -> None:
        if not 0 < len(self.sql) <= MAX_SQL:
            raise ValueError("SQL text: 1 to 20 000 characters")

    @property
    def mode(self) -> Mode:
        """The grant mode that this job needs."""
        return Mode.QUERY


class Predicate(Enum):
    """What a verification may ask of one attribute."""

    EQUALS = "equals"
    AT_LEAST = "at-least"
    EXISTS = "exists"


class VerificationJob(Value, frozen=True, tag="verification"):
    """A yes/no question about one attribute of one entity; who and what stand in the `Question` beside it."""

    dataset_id: str
    attribute: str
    predicate: Predicate

    @property
    def mode(self) -> Mode:
        """The grant mode that this job needs."""
        return Mode.VERIFICATION


class Question(Value, frozen=True):
    """The private half of a verification. `salt` (32 bytes, hex) makes its digest hide the identifier."""

    subject: str
    claim: str
    salt: str

    def __post_init__(self) -> None:
        if not 0 < len(self.subject) <= 64 or len(self.claim) > 200 or len(self.salt) != 64:
            raise ValueError("a question has a subject, a claim and a 32-byte salt")


class Answer(Enum):
    """What leaves a verification."""

    YES = "yes"
    NO = "no"
    NO_RECORD = "no-record"


class ModelJob(Value, frozen=True, tag="model"):
    """An ONNX model scored row by row over `SELECT columns FROM dataset [WHERE …]`; only a DP histogram leaves.

    `low` and `high` are the score range in thousandths, `bins` the number of equal bins over it.
    """

    sql: str
    budget: Budget
    model_sha256: str
    output: str
    low: int = 0
    high: int = 1000
    bins: int = 20

    def __post_init__(self) -> None:
        if not 0 < len(self.sql) <= MAX_SQL or not 1 < self.bins <= MAX_BINS or self.low >= self.high:
            raise ValueError("a model job has features, 2 to 1000 bins and low < high")

    @property
    def mode(self) -> Mode:
        """The grant mode that this job needs."""
        return Mode.MODEL


Job = QueryJob | VerificationJob | ModelJob | ScriptJob
