"""Application scenarios: the authorized purposes from which free or paid follows (article 35)."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter
from starlette.responses import Response

from enclave_runner.contract.codec import Value
from enclave_runner.contract.grant import Purpose
from sandbox.api.call import Reading, Writing, reply
from sandbox.api.identifiers import SHA256, Moment, Slug, SlugInPath, Text, require_plausible
from sandbox.api.keys import Nothing
from sandbox.api.openapi import operation
from sandbox.domain.scenario import Scenario
from sandbox.workflow.scenarios import authorize_scenario, end_scenario, get_scenario, list_scenarios

router = APIRouter(prefix="/v1/scenarios", tags=["scenarios"])


class NewScenario(Value, frozen=True):
    """A scenario to authorize. `evidence_sha256` is the digest of the filed approval."""

    scenario_id: Slug
    operator_id: Slug
    title: Text
    purpose: Purpose
    evidence_sha256: Annotated[str, msgspec.Meta(pattern=SHA256)]
    valid_until: Moment
    recipients: Annotated[tuple[Slug, ...], msgspec.Meta(max_length=1000)] = ()


@router.get("", summary="列出应用场景 / List scenarios", **operation(tuple[Scenario, ...]))
def list_all(call: Reading) -> Response:
    """All scenarios that the caller may see."""
    return reply(list_scenarios(call.office, call.actor))


@router.post("", summary="授权应用场景 / Authorize a scenario", **operation(Scenario, takes=NewScenario, status=201))
def authorize(write: Writing) -> Response:
    """Authorize one purpose of one operator."""
    body = write.read(NewScenario)
    require_plausible(body.valid_until)
    scenario = Scenario(**msgspec.structs.asdict(body))

    def run() -> Scenario:
        authorize_scenario(write.office, write.actor, scenario)
        return scenario

    return write.answer(run, 201)


@router.get("/{scenario_id}", summary="查看应用场景 / One scenario", **operation(Scenario))
def get(call: Reading, scenario_id: SlugInPath) -> Response:
    """One scenario."""
    return reply(get_scenario(call.office, call.actor, scenario_id))


@router.post("/{scenario_id}/end", summary="终止应用场景 / End a scenario", **operation(Scenario, takes=Nothing))
def end(write: Writing, scenario_id: SlugInPath) -> Response:
    """Now, for good: nothing is dispatched under its grants any more."""
    write.read(Nothing)
    return write.answer(lambda: end_scenario(write.office, write.actor, scenario_id))
