"""The grant: what a bureau officer signed (article 28: using unit, scenario, data, mode, deadline).

The officer's key lives outside the control plane. Every ticket embeds the signed grant, and the enclave checks the job
against it: a compromised control plane cannot exceed what an officer allowed.
"""

from __future__ import annotations

from datetime import datetime
from enum import Enum

from enclave_runner.contract.codec import Value
from enclave_runner.contract.privacy import PrivacyLoss

PURPOSE = "grant"


class Purpose(Enum):
    """The purpose classes of article 35."""

    GOVERNANCE = "public-governance"
    PUBLIC_INTEREST = "public-interest"
    INDUSTRY = "industry"

    @property
    def is_free(self) -> bool:
        """Public governance and public interest are conditionally free; industry pays."""
        return self is not Purpose.INDUSTRY


class Mode(Enum):
    """How granted data may be used (共享模式): the kinds of job."""

    QUERY = "query"
    VERIFICATION = "verification"
    MODEL = "model"
    SCRIPT = "script"


class Scope(Value, frozen=True):
    """The granted columns of one dataset; nothing else of it reaches a job."""

    dataset_id: str
    columns: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.columns or len(set(self.columns)) != len(self.columns):
            raise ValueError("a scope names columns, each once")


class Grant(Value, frozen=True):
    """Who may use what, for which purpose, until when, at what loss, how often."""

    grant_id: str
    operator_id: str
    operator_code: str
    scenario_id: str
    purpose: Purpose
    modes: tuple[Mode, ...]
    scopes: tuple[Scope, ...]
    not_before: datetime
    deadline: datetime
    budgets: tuple[PrivacyLoss, ...]
    max_uses: int

    def __post_init__(self) -> None:
        datasets = [scope.dataset_id for scope in self.scopes]
        sets = [budget.entity_set for budget in self.budgets]
        if not self.modes or not self.scopes or len(set(datasets)) != len(datasets) or len(set(sets)) != len(sets):
            raise ValueError("a grant names modes and datasets, each once, and one budget per entity set")
        if self.not_before.tzinfo is None or self.deadline.tzinfo is None or self.deadline <= self.not_before:
            raise ValueError("a grant has a beginning and a later deadline, both with a time zone")
        if not 0 < self.max_uses <= 10**9:
            raise ValueError("a grant caps its uses")

    def scope(self, dataset_id: str) -> Scope | None:
        """The scope over that dataset, or None."""
        return next((scope for scope in self.scopes if scope.dataset_id == dataset_id), None)

    def budget(self, entity_set: str) -> int:
        """Granted ρ·10¹² for that entity set, 0 when none was granted."""
        return self.allotment(entity_set).pico_rho

    def allotment(self, entity_set: str) -> PrivacyLoss:
        """Granted ρ and δ for that entity set, nothing of either when none was granted."""
        nothing = PrivacyLoss(entity_set=entity_set, pico_rho=0)
        return next((budget for budget in self.budgets if budget.entity_set == entity_set), nothing)
