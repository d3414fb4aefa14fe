"""The plan: all that a job may ask of a table. Frozen; what has no node here cannot be asked."""

from __future__ import annotations

from enum import Enum

from enclave_runner.contract.codec import Value


class Operator(Enum):
    """Row-local comparisons of one column with constants."""

    EQ = "="
    NE = "<>"
    LT = "<"
    LE = "<="
    GT = ">"
    GE = ">="
    IN = "in"


class Comparison(Value, frozen=True):
    """`column operator constants`; more than one constant only for IN. Constants are text as the operator wrote
    them."""

    column: str
    operator: Operator
    constants: tuple[str, ...]
    position: int


class AggregateKind(Enum):
    """What can be counted or summed over units."""

    COUNT = "count"
    SUM = "sum"


class Aggregate(Value, frozen=True):
    """COUNT(*) (column None), COUNT(column) or SUM(column), under its output name."""

    kind: AggregateKind
    column: str | None
    name: str
    position: int


class Named(Value, frozen=True):
    """A column as the operator named it, with the position of the name in the text (from 1)."""

    column: str
    position: int


class TablePlan(Value, frozen=True):
    """SELECT keys, aggregates FROM dataset WHERE filters GROUP BY keys."""

    dataset_id: str
    keys: tuple[Named, ...]
    aggregates: tuple[Aggregate, ...]
    filters: tuple[Comparison, ...]


class FeaturePlan(Value, frozen=True):
    """SELECT columns FROM dataset WHERE filters: the inputs of a model, one row at a time."""

    dataset_id: str
    columns: tuple[Named, ...]
    filters: tuple[Comparison, ...]
