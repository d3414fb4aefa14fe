"""Orders to a jailed worker and its answers: closed, typed, size-capped. The supervisor parses nothing else from a
worker."""

from __future__ import annotations

from enclave_runner.contract.codec import Value
from enclave_runner.contract.dataset import ColumnType, DatasetSpec
from enclave_runner.contract.job import Answer, Predicate
from enclave_runner.contract.wire import FileFormat, Rejection
from enclave_runner.plan.nodes import FeaturePlan, TablePlan


class Intake(Value, frozen=True, tag="intake"):
    """Read the source (descriptor 0) once, check every row against the spec, write typed rows to the store (1)."""

    spec: DatasetSpec
    format: FileFormat
    header: bool


class Extraction(Value, frozen=True, tag="extraction"):
    """Copy the granted columns out of the store (descriptor 0) into the extract (1).

    With `weighted`, each row gets its integer weight over the rows of its entity; with a subject, only its rows go in.
    """

    spec: DatasetSpec
    columns: tuple[str, ...]
    weight_scale: int
    weighted: bool
    subject: str | None = None


class Aggregation(Value, frozen=True, tag="aggregation"):
    """Run the rendered SQL over the extract (descriptor 0); give the exact vector of every aggregate, zeros
    included."""

    sql: str
    domains: tuple[tuple[str, ...], ...]
    coarsenings: tuple[int, ...]


class Lookup(Value, frozen=True, tag="lookup"):
    """Answer a yes/no question from an extract (descriptor 0) that holds one entity's rows. `claim` is typed."""

    attribute: str
    predicate: Predicate
    claim: int | str | None


class Parsing(Value, frozen=True, tag="parsing"):
    """Turn an operator's SQL text into a plan, away from keys and data: a text can be made slow to read."""

    sql: str
    features: bool


class Trial(Value, frozen=True, tag="trial"):
    """Load the model (descriptor 0) and score one made-up row: no data, so that its refusals tell nothing."""

    features: tuple[tuple[str, ColumnType, int], ...]
    output: str


class Scoring(Value, frozen=True, tag="scoring"):
    """Score the rows of the extract (descriptor 0) one by one with the model (1); give the weighted histogram."""

    sql: str
    features: tuple[tuple[str, ColumnType, int], ...]
    output: str
    low: int
    high: int
    bins: int


class Probe(Value, frozen=True, tag="probe"):
    """Try to escape. What to look for on the host: a file, a TCP port, an abstract socket, a process, a secret."""

    canary: str
    port: int
    abstract_name: str
    host_pid: int
    secret: str


Task = Parsing | Probe | Intake | Extraction | Aggregation | Lookup | Trial | Scoring


class IntakeAnswer(Value, frozen=True, tag="intake-answer"):
    """How many rows were taken; the first rejected ones by number, column and rule. `entities` counts distinct keys."""

    accepted: int
    rejected: int
    rejections: tuple[Rejection, ...]
    entities: int


class Done(Value, frozen=True, tag="done"):
    """The work left its result in the descriptor that it was given."""


class Vectors(Value, frozen=True, tag="vectors"):
    """One integer vector per aggregate (or one histogram), of a length that the data cannot change."""

    vectors: tuple[tuple[int, ...], ...]


class LookupAnswer(Value, frozen=True, tag="lookup-answer"):
    """Yes, no, or no record."""

    answer: Answer


class ParsedTable(Value, frozen=True, tag="parsed-table"):
    """The plan of a DP table."""

    plan: TablePlan


class ParsedFeatures(Value, frozen=True, tag="parsed-features"):
    """The plan of a model's inputs."""

    plan: FeaturePlan


class Declined(Value, frozen=True, tag="declined"):
    """The worker refuses by a rule, before any data could matter (a header, a malformed model)."""

    rule: str
    facts: dict[str, str]


class ProbeReport(Value, frozen=True, tag="probe-report"):
    """Which escapes were attempted, and which of them went through."""

    attempts: tuple[str, ...]
    allowed: tuple[str, ...]


TaskAnswer = ParsedTable | ParsedFeatures | ProbeReport | IntakeAnswer | Done | Vectors | LookupAnswer | Declined
