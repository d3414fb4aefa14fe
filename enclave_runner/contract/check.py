"""What a verification product asks: one question over one attribute of one dataset, and how privately it may be asked.

The modes are those of docs/verification.md. P0 hides nothing from the platform; P1 hides the claimed value, P2 the
threshold, P3 who is asked about among k, P4 who is asked about at all; P5 scores features under encryption.
"""

from __future__ import annotations

from enum import Enum

from enclave_runner.contract.codec import Value
from enclave_runner.contract.dataset import SLUG
from enclave_runner.contract.grant import Mode

MAX_MEMBERS = 1000
MAX_EDGES = 250


class VerificationMode(Enum):
    """How a question is asked, and so what it hides."""

    PLAIN = "P0"
    EQUALITY = "P1"
    THRESHOLD = "P2"
    BUCKET = "P3"
    LOOKUP = "P4"
    SCORE = "P5"

    @property
    def hides_subject(self) -> bool:
        """Whether the platform cannot tell who is asked about: no limit and no consent can be looked up at the call."""
        return self in (VerificationMode.BUCKET, VerificationMode.LOOKUP)


class CheckKind(Enum):
    """What may be asked of an attribute."""

    EQUALS = "equals"
    AT_LEAST = "at-least"
    MEMBER = "member"
    LEVEL = "level"
    EXISTS = "exists"


# P1 compares a value, P2 a threshold; a table of labels (P3, P4) cannot answer a threshold of the caller's choice.
FITTING = {
    VerificationMode.PLAIN: frozenset(CheckKind),
    VerificationMode.EQUALITY: frozenset({CheckKind.EQUALS}),
    VerificationMode.THRESHOLD: frozenset({CheckKind.AT_LEAST}),
    VerificationMode.BUCKET: frozenset(CheckKind) - {CheckKind.AT_LEAST},
    VerificationMode.LOOKUP: frozenset(CheckKind) - {CheckKind.AT_LEAST},
}


class Verdict(Enum):
    """The answer to a question that is not about a level. CANNOT_SAY only where the check says so."""

    NO = "no"
    YES = "yes"
    CANNOT_SAY = "cannot-say"


class Check(Value, frozen=True, tag="check"):
    """One question over one attribute; whom it is about, and what is claimed, stands in the call.

    EQUALS: is the attribute the claimed value? AT_LEAST: is it at least the claimed number (in units of 10^-scale)?
    MEMBER: is it one of `members` (a licence that is valid, a list)? LEVEL: in which band is it? EXISTS: is there a
    record? `edges` are increasing, in units of 10^-scale, of dates in days since 1970: the thresholds that P2 offers,
    or the lower edges of the bands 1, 2, … (band 0 is below the first).

    With `says_unknown` a question about nobody on record, about an empty cell or about data older than `max_age_days`
    is answered CANNOT_SAY (of a level: no band); without, it is answered NO (band 0).
    """

    dataset_id: str
    attribute: str
    kind: CheckKind
    modes: tuple[VerificationMode, ...]
    members: tuple[str, ...] = ()
    edges: tuple[int, ...] = ()
    says_unknown: bool = False
    max_age_days: int | None = None

    def __post_init__(self) -> None:
        _require(SLUG.fullmatch(self.dataset_id) is not None and bool(self.attribute), "dataset and attribute")
        _require(0 < len(self.modes) == len(set(self.modes)), "modes, each once")
        _require(all(self.kind in FITTING.get(mode, ()) for mode in self.modes), "modes that can answer this kind")
        _require(bool(self.members) == (self.kind is CheckKind.MEMBER), "members are for the kind member")
        _require(len(set(self.members)) == len(self.members) <= MAX_MEMBERS, "members, each once")
        wants_edges = self.kind is CheckKind.LEVEL or VerificationMode.THRESHOLD in self.modes
        _require(bool(self.edges) == wants_edges and len(self.edges) <= MAX_EDGES, "edges for levels and thresholds")
        _require(all(low < high for low, high in zip(self.edges, self.edges[1:], strict=False)), "edges increase")
        hidden = any(mode.hides_subject for mode in self.modes)
        # Their keyword is subject and claim together: not found is a wrong claim, or nobody, and nothing tells which.
        told = not (hidden and self.kind is CheckKind.EQUALS and self.says_unknown)
        _require(told, "equality in a hidden mode cannot say unknown")
        _require(self.max_age_days is None or 0 < self.max_age_days <= 36_500, "age in days")

    @property
    def mode(self) -> Mode:
        """The grant mode that this product needs."""
        return Mode.VERIFICATION

    @property
    def attributes(self) -> tuple[str, ...]:
        """The columns that it reads, beside the key."""
        return (self.attribute,)

    @property
    def outcomes(self) -> int:
        """How many answers there are to one question: its logarithm bounds what one answer tells."""
        told = len(self.edges) + 1 if self.kind is CheckKind.LEVEL else 2
        return told + self.says_unknown


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise ValueError(what)
