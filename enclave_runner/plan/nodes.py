"""The plan: all that a job may ask of its tables. Frozen; what has no node here cannot be asked.

Names are as the operator wrote them and are resolved by the binder; positions count characters of the text from 1.
"""

from __future__ import annotations

from enum import Enum, StrEnum

from enclave_runner.contract.codec import Value


class Literal(Enum):
    """What a constant is."""

    NUMBER = "number"
    TEXT = "text"
    BOOLEAN = "boolean"
    DATE = "date"
    NULL = "null"


class Function(Enum):
    """What an expression may do with one row, or with the noisy columns of one result row. None of them can raise."""

    ADD = "+"
    SUBTRACT = "-"
    MULTIPLY = "*"
    DIVIDE = "/"
    NEGATE = "negate"
    ABS = "abs"
    FLOOR = "floor"
    ROUND = "round"
    LEAST = "least"
    GREATEST = "greatest"
    EQ = "="
    NE = "<>"
    LT = "<"
    LE = "<="
    GT = ">"
    GE = ">="
    IN = "in"  # needle, then the constants
    AND = "and"
    OR = "or"
    NOT = "not"
    IS_NULL = "is-null"
    COALESCE = "coalesce"
    CASE = "case"  # condition, value, condition, value, …, else
    YEAR = "year"
    QUARTER = "quarter"
    MONTH = "month"
    DATE_TRUNC = "date-trunc"  # unit as a text constant (year, quarter, month, week, day), date
    WIDTH_BUCKET = "width-bucket"  # value, low, high, number of equal buckets: 0 below, number + 1 from high on


class Name(Value, frozen=True, tag="name"):
    """A column, with the alias or name of its table where the operator wrote one."""

    column: str
    table: str | None
    position: int


class Constant(Value, frozen=True, tag="constant"):
    """A constant: numbers as written, dates in ISO form, truth values as true and false."""

    kind: Literal
    text: str
    position: int


class Slot(Value, frozen=True, tag="slot"):
    """In the outputs, HAVING and ORDER BY: the key (`is_key`) or the aggregate of that number."""

    is_key: bool
    index: int


class Call(Value, frozen=True, tag="call"):
    """A function of expressions."""

    function: Function
    arguments: tuple[Expression, ...]
    position: int


Expression = Name | Constant | Slot | Call


class AggregateKind(Enum):
    """What can be asked over many units."""

    COUNT = "count"  # of rows, or of rows where the argument is not null
    COUNT_DISTINCT = "count-distinct"  # of privacy units, or of the values of a public domain
    SUM = "sum"
    AVG = "avg"
    VARIANCE = "variance"  # of the sample
    STDDEV = "stddev"
    QUANTILE = "quantile"  # also MEDIAN, and MIN and MAX as extreme quantiles


class Aggregate(Value, frozen=True):
    """One aggregate; `fraction` is the quantile's (decimal text), `condition` that of its FILTER clause."""

    kind: AggregateKind
    argument: Expression | None
    fraction: str | None
    condition: Expression | None
    position: int


class Source(Value, frozen=True):
    """A table of FROM under the name by which columns refer to it."""

    dataset_id: str
    alias: str
    position: int


class Join(Value, frozen=True):
    """The inner equi-join that brings in source number `source`: pairs of columns that must be equal."""

    source: int
    pairs: tuple[tuple[Name, Name], ...]
    position: int


class Key(Value, frozen=True):
    """One expression of GROUP BY under its output name."""

    expression: Expression
    name: str
    position: int


class Output(Value, frozen=True):
    """One column of the result: a slot, or arithmetic on slots, which is post-processing."""

    name: str
    expression: Expression

    @property
    def is_key(self) -> bool:
        """Whether it shows a group key."""
        return isinstance(self.expression, Slot) and self.expression.is_key


class Order(Value, frozen=True):
    """One expression of ORDER BY, over slots."""

    expression: Expression
    descending: bool


class Noise(StrEnum):
    """The law of the noise; AUTO takes the one with the smaller error at the asked (ε, δ)."""

    GAUSSIAN = "gaussian"
    LAPLACE = "laplace"
    AUTO = "auto"


class Bounds(StrEnum):
    """Where the clip comes from: AUTO learns it privately for a share of the budget."""

    AUTO = "auto"
    CATALOGUE = "catalogue"


class Options(Value, frozen=True):
    """What `OPTIONS(…)` said; None where it said nothing. Numbers are decimal text.

    `rows` is a lower clip than the catalogue's rows per unit; `groups` how many open keys one unit may count in;
    `correction` rescales totals by a private estimate of what the clip lost.
    """

    epsilon: str | None = None
    delta: str | None = None
    noise: Noise = Noise.GAUSSIAN
    bounds: Bounds | None = None
    rows: int | None = None
    groups: int | None = None
    correction: bool = False
    absolute_error: str | None = None
    relative_error: str | None = None
    unit_column: str | None = None


class SelectPlan(Value, frozen=True):
    """SELECT outputs FROM sources WHERE condition GROUP BY keys HAVING … ORDER BY … LIMIT …

    `grouping_sets` holds the key numbers of each set, finest first; one set of all keys where the text has a plain
    GROUP BY. Output, HAVING and ORDER BY see keys and aggregates as slots; an aggregate that is written twice is one.
    """

    sources: tuple[Source, ...]
    joins: tuple[Join, ...]
    condition: Expression | None
    keys: tuple[Key, ...]
    grouping_sets: tuple[tuple[int, ...], ...]
    aggregates: tuple[Aggregate, ...]
    outputs: tuple[Output, ...]
    having: Expression | None
    order: tuple[Order, ...]
    limit: int | None
    options: Options


class FeaturePlan(Value, frozen=True):
    """SELECT columns FROM dataset WHERE condition: the inputs of a model, one row at a time."""

    dataset_id: str
    columns: tuple[Name, ...]
    condition: Expression | None
