"""The catalogue entry of a dataset: the fields of article 17 around the spec that the enclave enforces."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from enclave_runner.contract.dataset import DatasetSpec, KeyKind
from enclave_runner.contract.errors import Refused


class Form(Enum):
    """Data form (数据形式)."""

    TABLE = "table"
    EVENTS = "events"


class Sharing(Enum):
    """Sharing attribute (共享属性, article 23)."""

    UNCONDITIONAL = "unconditional"
    CONDITIONAL = "conditional"
    NONE = "none"


class Opening(Enum):
    """Opening attribute (开放属性, articles 30 and 31)."""

    UNCONDITIONAL = "unconditional"
    CONDITIONAL = "conditional"
    NONE = "none"


class Frequency(Enum):
    """Update frequency (更新频率, article 18)."""

    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"
    QUARTERLY = "quarterly"
    YEARLY = "yearly"
    ONCE = "once"


@dataclass(frozen=True)
class Dataset:
    """A catalogued dataset. `grade` is the highest grade of its columns.

    `personal` says that its entities are natural persons, or lead to them: a question about one of them then needs
    that person's consent (article 43). Resident identity numbers always do.
    """

    title: str
    department_id: str
    form: Form
    category: str
    sharing: Sharing
    opening: Opening
    frequency: Frequency
    source: str
    personal: bool
    spec: DatasetSpec

    def __post_init__(self) -> None:
        if not self.title.strip() or not self.department_id or not self.category.strip():
            raise Refused("dataset.incomplete")
        if self.sharing is Sharing.NONE and not all(column.withheld for column in self.spec.columns):
            raise Refused("dataset.no-basis", dataset=self.spec.dataset_id)
        if self.spec.key_kind is KeyKind.RESIDENT_ID and not self.personal:
            raise Refused("dataset.personal", dataset=self.spec.dataset_id)

    @property
    def dataset_id(self) -> str:
        """The id that grants and jobs name."""
        return self.spec.dataset_id

    @property
    def grade(self) -> int:
        """Classification grade: the highest of any column."""
        return max(column.grade for column in self.spec.columns)
