"""Application scenarios: the authorized purpose from which free or paid follows (article 35). Never the caller's
word."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from enclave_runner.contract.dataset import SLUG
from enclave_runner.contract.errors import Refused
from enclave_runner.contract.grant import Purpose


@dataclass(frozen=True)
class Scenario:
    """One authorized scenario of one operator.

    Both free and paid use are conditional: `evidence_sha256` is the digest of the filed approval, `recipients` the
    parties that may receive releases (the operator itself always may), `valid_until` the end of the authorization.
    """

    scenario_id: str
    operator_id: str
    title: str
    purpose: Purpose
    evidence_sha256: str
    recipients: tuple[str, ...]
    valid_until: datetime

    def __post_init__(self) -> None:
        if not SLUG.fullmatch(self.scenario_id) or not self.title.strip():
            raise Refused("scenario.incomplete")
        if len(self.evidence_sha256) != 64 or set(self.evidence_sha256) - set("0123456789abcdef"):
            raise Refused("scenario.evidence")
        if self.valid_until.tzinfo is None:
            raise Refused("scenario.incomplete")
