"""Orders to a jailed worker and its answers: closed, typed, size-capped. The supervisor parses nothing else from a
worker."""

from __future__ import annotations

from enum import StrEnum

from enclave_runner.contract.codec import Value
from enclave_runner.contract.dataset import Column, ColumnType, DatasetSpec, KeyKind
from enclave_runner.contract.job import Answer, Predicate
from enclave_runner.contract.wire import FileFormat, Rejection
from enclave_runner.jail.profile import JailProfile
from enclave_runner.plan.nodes import FeaturePlan, SelectPlan

MAX_FACT = 400  # the longest text that a refusal may carry out of a jail
STEPS = 1 << 20  # of the range of a script's output
CELL_BYTES = 8  # of one output of one block


class Unpacking(Value, frozen=True, tag="unpacking"):
    """Decompress gzip from a pipe (descriptor 0) into another one (1)."""


class Intake(Value, frozen=True, tag="intake"):
    """Read the source once, check every row against the spec, give each column out as a Parquet file in frames.

    Descriptors: the source (a pipe for CSV, sealed memory for Parquet), its first bytes, the output pipe, and, for a
    second reading, the numbers of the rows to leave out as duplicates.
    """

    spec: DatasetSpec
    format: FileFormat
    header: bool

    @property
    def columns(self) -> tuple[str, ...]:
        """What is stored: the declared columns, and the key where the enclave generates it."""
        names = tuple(column.name for column in self.spec.columns)
        return (*names, self.spec.entity_column) if self.spec.key_kind is KeyKind.ROW else names


class Part(Value, frozen=True):
    """One table of an extract: its granted `columns`, and what is added beside each row of a unit.

    `unit` asks for the unit's number in place of its identifier, `counted` for the number of its rows, `norm` for the
    sum of that expression over them; only rows that meet `condition` are counted, measured and kept. Expressions call
    the table t0, t1, … by its number. Where only units with more rows than `above` are counted, the others show 1.
    """

    spec: DatasetSpec
    rows: int
    columns: tuple[str, ...]
    unit: bool = False
    counted: bool = False
    norm: str | None = None
    condition: str | None = None
    above: int | None = None


class Extraction(Value, frozen=True, tag="extraction"):
    """Copy the granted columns out of the store (one Parquet file per needed column, part by part) into the last
    descriptor.

    With `spread`, one row per unit of the root part has its counts and norms; with a subject, only its rows go in; of
    several partitions, only the units of one.
    """

    parts: tuple[Part, ...]
    root: int = 0
    spread: bool = False
    subject: str | None = None
    partition: int = 0
    partitions: int = 1

    def needed(self, part: Part) -> tuple[str, ...]:
        """The stored columns that a part takes: the key first where the work needs it, and then only."""
        keyed = part.unit or part.counted or part.norm is not None or self.subject is not None
        split = self.partitions > 1 and not part.spec.public
        key = (part.spec.entity_column,) if keyed or split else ()
        return tuple(dict.fromkeys((*key, *part.columns)))


class Rehearsal(Value, frozen=True, tag="rehearsal"):
    """Run the rendered SQL over empty tables of the same columns: no data, so that its error may be told."""

    sql: tuple[str, ...]
    tables: tuple[tuple[tuple[str, ColumnType], ...], ...]


class CellQuery(Value, frozen=True):
    """One query: its group keys (public labels, or whole numbers from 0 to below a size), then `width` sums."""

    sql: str
    axes: tuple[tuple[str, ...] | int, ...]
    width: int


class Aggregation(Value, frozen=True, tag="aggregation"):
    """Run the rendered SQL over the extract (descriptor 0) of that many tables; give the exact vector of every sum,
    zeros included, floored to multiples of its query's coarsening."""

    tables: int
    queries: tuple[CellQuery, ...]
    coarsenings: tuple[int, ...]


class Discovery(Value, frozen=True, tag="discovery"):
    """Keys that are not public: `candidates` gives them with how many units count in each.

    More than `most` keys are a fault: how many there are was looked at before, under noise. Of the `keys` that may be
    told, once that is decided, each query gives the sums, floored to multiples of `coarsening`, and of no other: which
    keys a partition has candidates for must not decide what it adds to them.
    """

    tables: int
    depth: int
    most: int
    candidates: str
    queries: tuple[CellQuery, ...] = ()
    keys: tuple[tuple[str, ...], ...] = ()
    coarsening: int = 1


class Spread(Value, frozen=True, tag="spread"):
    """The histogram of one norm of the units (descriptor 0) over increasing edges: bin i has what is at most edge i."""

    norm: str
    edges: tuple[int, ...]


class Finishing(Value, frozen=True, tag="finishing"):
    """HAVING, ORDER BY, LIMIT and arithmetic over noisy columns, in an engine that holds nothing else.

    `keys` and `values` are the `depth` columns k0, … and the `width` columns a0, … of the table `noisy`, by rows; `sql`
    gives the number of each row that stays, then the computed columns.
    """

    sql: str
    depth: int
    width: int
    keys: tuple[tuple[str | None, ...], ...]
    values: tuple[tuple[str | None, ...], ...]

    def over(self, keys: tuple[tuple[str | None, ...], ...], values: tuple[tuple[str | None, ...], ...]) -> Finishing:
        """The same over these rows."""
        return Finishing(sql=self.sql, depth=self.depth, width=self.width, keys=keys, values=values)


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
    """Rehearse the features' SQL, load the model (descriptor 0) and score one made-up row: no data are near."""

    rehearsal: Rehearsal
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


class Dealing(Value, frozen=True, tag="dealing"):
    """Deal the entities of the extract (descriptor 0) to `blocks` blocks; write those from `first` on into the others.

    `sql` gives the columns and, with `unit`, the entity's number last. `secret` (hex) is fresh for every job.
    """

    sql: str
    names: tuple[str, ...]
    unit: bool
    secret: str
    blocks: int
    first: int


class ScriptTrial(Value, frozen=True, tag="script-trial"):
    """Compile a script and run it over rows made up from the catalogue: no data are near."""

    script: str
    columns: tuple[Column, ...]
    ranges: tuple[tuple[float, float], ...]


class ScriptBlock(Value, frozen=True, tag="script-block"):
    """Run a script over one block (descriptor 0). The answer is not typed: eight bytes for each range, big-endian."""

    script: str
    columns: tuple[tuple[str, ColumnType, int], ...]
    ranges: tuple[tuple[float, float], ...]


class Probe(Value, frozen=True, tag="probe"):
    """Try to escape. What to look for on the host: a file, a TCP port, an abstract socket, a process, a secret.

    `handed` descriptors come with the task and its answer goes to the descriptor `answer`. `excess` names one attempt
    that may end its worker; empty means: all the others.
    """

    canary: str
    port: int
    abstract_name: str
    host_pid: int
    secret: str
    profile: JailProfile
    handed: int = 0
    answer: int = 3
    excess: str = ""


class Gating(Value, frozen=True, tag="gating"):
    """Read another worker's answer (descriptor 0), which may be hostile, and say it again or not at all."""


Task = (
    Gating
    | Parsing
    | Probe
    | Unpacking
    | Intake
    | Extraction
    | Rehearsal
    | Aggregation
    | Discovery
    | Spread
    | Finishing
    | Lookup
    | Trial
    | Scoring
    | Dealing
    | ScriptTrial
    | ScriptBlock
)


class IntakeAnswer(Value, frozen=True, tag="intake-answer"):
    """How many rows were taken; the first rejected ones by number, column and rule. `entities` counts distinct keys.

    With `again` the output still holds duplicates, whose row numbers went out beside it: the source is to be read again
    without them.
    """

    accepted: int
    rejected: int
    rejections: tuple[Rejection, ...]
    entities: int
    again: bool = False


class Done(Value, frozen=True, tag="done"):
    """The work left its result in the descriptor that it was given."""


class Vectors(Value, frozen=True, tag="vectors"):
    """One integer vector per aggregate (or one histogram), of a length that the data cannot change."""

    vectors: tuple[tuple[int, ...], ...]


class KeyedVectors(Value, frozen=True, tag="keyed-vectors"):
    """Keys that occur, how many units count in each, and one vector per sum, all of one length."""

    keys: tuple[tuple[str, ...], ...]
    units: tuple[int, ...]
    vectors: tuple[tuple[int, ...], ...]


class Finished(Value, frozen=True, tag="finished"):
    """The rows that stay, in order, by their numbers, and the computed columns of each as text."""

    rows: tuple[int, ...]
    computed: tuple[tuple[str | None, ...], ...]


class LookupAnswer(Value, frozen=True, tag="lookup-answer"):
    """Yes, no, or no record."""

    answer: Answer


class ParsedTable(Value, frozen=True, tag="parsed-table"):
    """The plan of a DP query."""

    plan: SelectPlan


class ParsedWorkload(Value, frozen=True, tag="parsed-workload"):
    """The plans of several statements."""

    plans: tuple[SelectPlan, ...]


class ParsedFeatures(Value, frozen=True, tag="parsed-features"):
    """The plan of a model's inputs."""

    plan: FeaturePlan


class Declined(Value, frozen=True, tag="declined"):
    """The worker refuses by a rule, before any data could matter (a header, a malformed model)."""

    rule: str
    facts: dict[str, str]

    @classmethod
    def quoting(cls, rule: str, facts: dict[str, str]) -> Declined:
        """A refusal that quotes an operator's text: what the output gate does not let pass becomes a question mark."""
        quoted = {
            name: "".join(letter if letter.isprintable() else "?" for letter in text)[:MAX_FACT]
            for name, text in facts.items()
        }
        return cls(rule=rule, facts=quoted)


class Outcome(StrEnum):
    """How an escape attempt ended. MISSING: the layer that should block it did not answer, or it could not be tried."""

    BLOCKED = "BLOCKED"
    ALLOWED = "ALLOWED"
    MISSING = "MISSING"


class Finding(Value, frozen=True):
    """One escape attempt: its name, the layer that must block it, and what the kernel or the engine answered."""

    name: str
    layer: str
    outcome: Outcome
    detail: str


class ProbeReport(Value, frozen=True, tag="probe-report"):
    """How every escape attempt went."""

    findings: tuple[Finding, ...]


TaskAnswer = (
    ParsedTable
    | ParsedWorkload
    | ParsedFeatures
    | ProbeReport
    | IntakeAnswer
    | Done
    | Vectors
    | KeyedVectors
    | Finished
    | LookupAnswer
    | Declined
)
