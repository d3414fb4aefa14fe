"""The whole description against the running API: no 5xx, no undocumented status, type or shape, whatever is sent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.api_world import COUNT_SQL, ApiWorld, api_world, fresh_key, query
from tests.support.deployment import BANK, FREE, OPERATOR, PRODUCT

CHECKS = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
ROLES = ("bank", "operator", "bureau")  # the bureau last: it revokes and suspends


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiWorld]:
    """A deployment that may be spoiled."""
    with api_world(tmp_path_factory.mktemp("schemathesis") / "home") as served:
        yield served


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("role", ROLES)
def test_no_5xx_and_nothing_undocumented(own: ApiWorld, aimed: dict[str, str], role: str, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_url(f"{own.base}/v1/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 35
    for operation in operations:
        # What takes nothing cannot be asked wrongly.
        if mode is GenerationMode.POSITIVE or takes_anything(operation):
            attack(operation, own, role, mode, aimed)


def takes_anything(operation: Any) -> bool:
    """Whether there is a parameter or a body."""
    return any(len(place) for place in (operation.path_parameters, operation.query, operation.headers, operation.body))


@pytest.fixture(scope="module")
def aimed(own: ApiWorld) -> dict[str, str]:
    """Things that exist: without them, hardly a made-up request would get past its first look-up."""
    job = {"grant_id": FREE, "job": query("0.01")}
    submission = own.post("operator", "/v1/submissions", job).json()["submission"]["submission_id"]
    return {
        "grant_id": FREE,
        "product_id": PRODUCT,
        "submission_id": submission,
        "dataset_id": "people",
        "scenario_id": f"scenario-{FREE}",
        "operator_id": OPERATOR,
        "business_id": BANK,
        "payer_id": BANK,
        "entity_set": "resident",
        "sql": COUNT_SQL,
        "epsilon": "0.01",
    }


def aim(node: Any, aimed: dict[str, str]) -> Any:
    """The same document about things that exist."""
    if isinstance(node, dict):
        return {name: aimed.get(name, aim(value, aimed)) for name, value in node.items()}
    return [aim(item, aimed) for item in node] if isinstance(node, list) else node


def attack(operation: Any, own: ApiWorld, role: str, mode: GenerationMode, aimed: dict[str, str]) -> None:
    """Some requests of that kind; two in three with a good idempotency key, one in three about things that exist."""
    number = 0

    @settings(
        max_examples=12,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def send(case: Any) -> None:
        nonlocal number
        number += 1
        headers = own.headers(role)
        if number % 3:
            headers["idempotency-key"] = fresh_key()
        if number % 3 == 1:
            case.path_parameters = aim(case.path_parameters, aimed)
            case.body = aim(case.body, aimed)
        case.call_and_validate(headers=headers, checks=CHECKS)

    send()
    assert number > 0
