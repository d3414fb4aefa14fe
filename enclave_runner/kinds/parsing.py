"""An operator's SQL text becomes a plan here, in a worker without data or keys, under a short deadline."""

from __future__ import annotations

from enclave_runner.contract.errors import Refused
from enclave_runner.kinds.tasks import Declined, ParsedFeatures, ParsedTable, Parsing
from enclave_runner.plan.parse import parse_features, parse_table


def run(task: Parsing, descriptors: list[int]) -> ParsedTable | ParsedFeatures | Declined:
    """The plan, or the refusal with its position in the text."""
    try:
        if task.features:
            return ParsedFeatures(plan=parse_features(task.sql))
        return ParsedTable(plan=parse_table(task.sql))
    except Refused as refused:
        return Declined.quoting(refused.rule, refused.facts)
