"""What the enclave must know of a dataset: types, bounds, domains, the protected entity. Declared, never inferred.

The bureau signs a `DatasetSpec` before the first import; the catalogue of the control plane adds the fields of
article 17.
"""

from __future__ import annotations

import re
from datetime import date
from enum import Enum

from enclave_runner.contract.codec import Value

SLUG = re.compile(r"[a-z][a-z0-9_-]{0,62}")
NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
MAX_DOMAIN = 10_000
MAX_MAGNITUDE = 10**15
EPOCH = date(1970, 1, 1)
FIRST_DAY, LAST_DAY = (date.min - EPOCH).days, (date.max - EPOCH).days


class ColumnType(Enum):
    """The value types of a raw table. DECIMAL is fixed point with the column's `scale`."""

    TEXT = "text"
    INTEGER = "integer"
    DECIMAL = "decimal"
    BOOLEAN = "boolean"
    DATE = "date"


class KeyKind(Enum):
    """How an entity key is checked at import (article 12: the necessary identifiers)."""

    RESIDENT_ID = "resident-id"  # GB 11643-1999, check digit mod 11-2
    CREDIT_CODE = "credit-code"  # GB 32100-2015, check character mod 31
    OPAQUE = "opaque"  # 1 to 64 printable ASCII characters without blanks: one person, one spelling
    ROW = "row"  # one row is one entity; the enclave numbers the rows itself


class Column(Value, frozen=True):
    """One column.

    `grade` is 1 to 4 (4 = core: never granted). `bounds` are inclusive, in units of 10^-scale; of dates, in days since
    1970. `domain` lists the public values of a group key. `withheld` is the legal basis when the column stands on the
    negative list (article 24).
    """

    name: str
    title: str
    type: ColumnType
    grade: int = 2
    nullable: bool = False
    scale: int = 0
    bounds: tuple[int, int] | None = None
    domain: tuple[str, ...] | None = None
    withheld: str | None = None

    def __post_init__(self) -> None:
        _require(NAME.fullmatch(self.name) is not None, "column name")
        _require(1 <= self.grade <= 4, "grade is 1 to 4")
        _require(0 <= self.scale <= 6 and (self.scale == 0 or self.type is ColumnType.DECIMAL), "scale")
        _require(self.withheld is None or bool(self.withheld.strip()), "a withheld column names its legal basis")
        if self.bounds is not None:
            low, high = self.bounds
            ordered = (ColumnType.INTEGER, ColumnType.DECIMAL, ColumnType.DATE)
            _require(self.type in ordered, "bounds are for numbers and dates")
            _require(-MAX_MAGNITUDE <= low <= high <= MAX_MAGNITUDE, "bounds: low <= high")
            dated = self.type is ColumnType.DATE
            _require(not dated or FIRST_DAY <= low <= high <= LAST_DAY, "bounds of dates: from year 1 to year 9999")
        if self.domain is not None:
            _require(self.type in (ColumnType.TEXT, ColumnType.BOOLEAN, ColumnType.INTEGER), "domain type")
            _require(0 < len(self.domain) <= MAX_DOMAIN, "domain size")
            _require(len(set(self.domain)) == len(self.domain), "a domain has no duplicates")


class DatasetSpec(Value, frozen=True):
    """One raw table and its protected entity.

    `entity_set` names the people or organisations whose privacy loss is counted ("resident", "enterprise", …).
    `rows_per_entity` is the contribution bound K; None means that sums and counts over this table are refused.
    `unique` says that one entity has at most one row (enforced at import). `population_cap` bounds the number of
    entities.
    `max_rejected_permille` is how many of 1000 rows may be rejected before the whole import is refused.
    `public`: reference data (administrative divisions, industry codes) whose rows concern nobody: its entity column is
    a unique public key, reading it costs no privacy loss, and protected tables may be joined to it by that key.
    """

    dataset_id: str
    columns: tuple[Column, ...]
    entity_set: str
    entity_column: str
    key_kind: KeyKind
    population_cap: int
    unique: bool = False
    rows_per_entity: int | None = None
    max_rejected_permille: int = 0
    public: bool = False

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        _require(SLUG.fullmatch(self.dataset_id) is not None, "dataset id")
        _require(SLUG.fullmatch(self.entity_set) is not None, "entity set")
        _require(0 < len(names) == len(set(names)) <= 500, "columns: 1 to 500, each once")
        generated = self.key_kind is KeyKind.ROW
        _require((self.entity_column in names) != generated, "the entity column is a column, or generated")
        _require(NAME.fullmatch(self.entity_column) is not None, "entity column name")
        _require(0 < self.population_cap <= 2 * 10**9, "population cap")
        _require(self.rows_per_entity is None or 0 < self.rows_per_entity <= 10**6, "rows per entity")
        _require(not self.unique or self.rows_per_entity == 1, "a unique key has rows_per_entity 1")
        _require(not generated or self.unique, "generated keys are unique")
        _require(not self.public or self.unique, "a public table has a unique key")
        _require(not self.public or self.key_kind is KeyKind.OPAQUE, "the key of a public table identifies nobody")
        _require(0 <= self.max_rejected_permille <= 1000, "rejected rows, per mille")

    def column(self, name: str) -> Column | None:
        """The column of that name, or None."""
        return next((column for column in self.columns if column.name == name), None)

    def has_column(self, name: str) -> bool:
        """Whether the table has that column, or that generated key."""
        return name == self.entity_column or self.column(name) is not None


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise ValueError(what)
