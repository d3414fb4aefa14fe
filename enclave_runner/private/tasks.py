"""Orders to a worker of the serving zygote and its answers: closed, typed, small. What is large goes into memory that
the supervisor handed, and the supervisor reads nothing of it.
"""

from __future__ import annotations

from enclave_runner.contract.check import Check
from enclave_runner.contract.codec import Value
from enclave_runner.contract.dataset import Column, KeyKind
from enclave_runner.contract.scoring import ScoreCheck
from enclave_runner.he.tasks import Scored, Scoring
from enclave_runner.kinds.tasks import Declined, Done, Gating, Probe, ProbeReport

SECRET_BYTES = 32
# A keyword record: the keyword of a row (32 bytes) and the code of its label (two bytes, little-endian). A cell: a word
# that says where an entry belongs (8 bytes, little-endian), and the entry (16).
KEYWORD_BYTES, CELL_BYTES = 34, 24


class Subject(Value, frozen=True):
    """What a worker must know to read a question: the check, how subjects are spelled, the declared columns of the
    check's attributes in their order, and the secret under which this table knows its subjects."""

    check: Check | ScoreCheck
    key_kind: KeyKind
    columns: tuple[Column, ...]
    secret: bytes


class Tabulating(Value, frozen=True, tag="tabulating"):
    """Make the plain table of an extract, and the keyword records where there will be a hidden-subject table.

    Descriptors: the extract (its only table has `entity_column` and the attributes), the plain table, the records. The
    records are ordered by the keyed digests of their subjects: a second run of the same order gives the same bytes.
    Answered by `Tabulated`, or `Declined` with `verification.many-rows`.
    """

    subject: Subject
    entity_column: str


class Evaluating(Value, frozen=True, tag="evaluating"):
    """Turn `count` keyword records (descriptor 0) from number `first` on into cells (descriptor 1), under the OPRF key
    of that table version. Answered by `Done`."""

    key: bytes
    version: str
    first: int
    count: int


class Assembling(Value, frozen=True, tag="assembling"):
    """Place all cells (descriptor 0) into a matrix (descriptor 1). Answered by `Assembled`."""

    k_min: int


class Hinting(Value, frozen=True, tag="hinting"):
    """The hint of `count` rows from row `first` on of the matrix (descriptor 0), into descriptor 1. Answered by
    `Done`."""

    seed: bytes
    height: int
    columns: int
    first: int
    count: int


class Hidden(Value, frozen=True):
    """What a serving worker needs beside the matrix (its second descriptor): the OPRF key and the shape."""

    key: bytes
    height: int
    columns: int
    bucket_columns: int


class Serving(Value, frozen=True, tag="serving"):
    """Answer asks (`asks`) until the connection ends. Descriptors: the plain table, the matrix where `hidden` is given,
    the connection. `opening_secret` is what P2 openings are made from."""

    subject: Subject
    opening_secret: bytes
    hidden: Hidden | None = None


Task = Gating | Probe | Tabulating | Evaluating | Assembling | Hinting | Serving | Scoring


class Tabulated(Value, frozen=True, tag="tabulated"):
    """How many subjects the plain table has, and how many keyword records there are."""

    rows: int
    records: int


class Assembled(Value, frozen=True, tag="assembled"):
    """The shape of the matrix, and `k`: how many entries in use every bucket has at least."""

    height: int
    columns: int
    bucket_columns: int
    k: int


TaskAnswer = Done | Tabulated | Assembled | Scored | Declined | ProbeReport
