"""`yunei scenario`: the authorized purposes from which free or paid follows (article 35)."""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from enclave_runner.contract.grant import Purpose
from sandbox.cli.session import Session, readable
from sandbox.cli.times import end_of
from sandbox.domain.scenario import Scenario
from sandbox.workflow.scenarios import authorize_scenario, list_scenarios

app = typer.Typer(help="应用场景 / Application scenarios", no_args_is_help=True)


@app.command(name="add", help="授权应用场景 / Authorize a scenario")
def add(
    context: typer.Context,
    scenario_id: Annotated[str, typer.Argument(help="场景编号 / scenario id")],
    operator: Annotated[str, typer.Option(help="授权运营机构 / operator")],
    title: Annotated[str, typer.Option(help="名称 / title")],
    purpose: Annotated[Purpose, typer.Option(help="用途类别 / purpose class")],
    evidence: Annotated[Path, typer.Option(help="批准文件，只存摘要 / the approval; only its digest is kept")],
    until: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="有效期至 / last valid day")],
    recipient: Annotated[list[str] | None, typer.Option(help="可接收方 / who may receive releases")] = None,
) -> None:
    """Authorize one scenario."""
    session: Session = context.obj
    scenario = Scenario(
        scenario_id=scenario_id,
        operator_id=operator,
        title=title,
        purpose=purpose,
        evidence_sha256=hashlib.sha256(readable(evidence).read_bytes()).hexdigest(),
        recipients=tuple(recipient or ()),
        valid_until=end_of(until),
    )
    with session.office() as (office, actor):
        authorize_scenario(office, actor, scenario)
    _show(session, (scenario,))


@app.command(name="list", help="列出应用场景 / List scenarios")
def list_all(context: typer.Context) -> None:
    """All scenarios that the actor may see."""
    session: Session = context.obj
    with session.office() as (office, actor):
        scenarios = list_scenarios(office, actor)
    _show(session, scenarios)


def _show(session: Session, scenarios: tuple[Scenario, ...]) -> None:
    rows = [
        (
            s.scenario_id,
            s.title,
            s.operator_id,
            s.purpose.value,
            "free" if s.purpose.is_free else "paid",
            s.valid_until.date(),
        )
        for s in scenarios
    ]
    session.table(scenarios, "应用场景 / scenarios", ("id", "title", "operator", "purpose", "use", "until"), rows)
