"""An operator's SQL text becomes a plan here, in a worker without data or keys, under a short deadline."""

from __future__ import annotations

from enclave_runner.contract.errors import Refused
from enclave_runner.kinds.tasks import Declined, ParsedFeatures, ParsedTable, ParsedWorkload, Parsing
from enclave_runner.plan.parse import parse_features
from enclave_runner.plan.workload import parse_workload


def run(task: Parsing, descriptors: list[int]) -> ParsedTable | ParsedWorkload | ParsedFeatures | Declined:
    """The plan, or the refusal with its position in the text."""
    try:
        if task.features:
            return ParsedFeatures(plan=parse_features(task.sql))
        plans = parse_workload(task.sql)
        return ParsedTable(plan=plans[0]) if len(plans) == 1 else ParsedWorkload(plans=plans)
    except Refused as refused:
        return Declined.quoting(refused.rule, refused.facts)
