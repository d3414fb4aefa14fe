"""Grants as stored, with their status and the officer's signature."""

from __future__ import annotations

from sandbox.domain.grant import GrantRecord
from sandbox.store import schema
from sandbox.store.documents import Documents

GRANTS = Documents(
    schema.grants,
    GrantRecord,
    lambda record: {
        "grant_id": record.grant.grant_id,
        "operator_id": record.grant.operator_id,
        "scenario_id": record.grant.scenario_id,
        "status": record.status.value,
    },
)
