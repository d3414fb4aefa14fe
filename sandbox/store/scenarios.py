"""Scenarios as stored."""

from __future__ import annotations

from sandbox.domain.scenario import Scenario
from sandbox.store import schema
from sandbox.store.documents import Documents

SCENARIOS = Documents(
    schema.scenarios,
    Scenario,
    lambda scenario: {"scenario_id": scenario.scenario_id, "operator_id": scenario.operator_id},
)
