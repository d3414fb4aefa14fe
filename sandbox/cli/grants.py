"""`yunei grant`: drafting, signing with the officer's key, revoking (article 28)."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from enclave_runner.contract.errors import Refused
from enclave_runner.contract.grant import PURPOSE, Grant, Mode, Scope
from enclave_runner.contract.privacy import PrivacyLoss, losses_text, number, to_atto_delta, to_pico_rho
from enclave_runner.contract.signing import KeyFile, seal
from sandbox.cli.session import Session, built
from sandbox.cli.times import end_of, start_of
from sandbox.domain.grant import GrantRecord
from sandbox.workflow.grants import draft_grant, get_grant, list_grants, revoke_grant, sign_grant
from sandbox.workflow.parties import get_party
from sandbox.workflow.scenarios import get_scenario

app = typer.Typer(help="授权 / Grants", no_args_is_help=True)
GrantId = Annotated[str, typer.Argument(help="授权编号 / grant id")]


@app.command(name="draft", help="起草授权（第二十八条要素）/ Draft a grant (the elements of article 28)")
def draft(
    context: typer.Context,
    grant_id: GrantId,
    scenario: Annotated[str, typer.Option(help="应用场景 / scenario")],
    column: Annotated[list[str], typer.Option(help="所需数据 / data: dataset:column,column")],
    mode: Annotated[list[Mode], typer.Option(help="使用方式 / how: query, verification, model")],
    until: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="截止日期 / last valid day")],
    rho: Annotated[list[str] | None, typer.Option(help="隐私预算 / privacy budget: entity-set=ρ")] = None,
    delta: Annotated[
        list[str] | None, typer.Option(help="非公开分组键的 δ 预算 / δ for keys without a public domain: entity-set=δ")
    ] = None,
    uses: Annotated[int, typer.Option(help="使用次数上限 / cap on uses")] = 1000,
    since: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="起始日期 / first valid day")] = None,
) -> None:
    """Draft one grant; it allows nothing before an officer has signed it."""
    session: Session = context.obj
    scopes = tuple(parse_scope(text) for text in column)
    budgets = with_deltas(tuple(parse_budget(text) for text in rho or ()), delta or [])
    begin, end = start_of(since) if since else None, end_of(until)
    with session.office() as (office, actor):
        authorized = get_scenario(office, actor, scenario)
        operator = get_party(office, actor, authorized.operator_id)
        now = office.clock()
        if end <= now:  # said as the rule, before the contract's own check of the two dates
            raise Refused("grant.expired", deadline=end.date().isoformat())
        grant = built(
            lambda: Grant(
                grant_id=grant_id,
                operator_id=operator.party_id,
                operator_code=operator.credit_code,
                scenario_id=scenario,
                purpose=authorized.purpose,
                modes=tuple(mode),
                scopes=scopes,
                not_before=begin or now,
                deadline=end,
                budgets=budgets,
                max_uses=uses,
            )
        )
        record = draft_grant(office, actor, grant)
    _show(session, (record,))


def parse_scope(text: str) -> Scope:
    """`dataset:column,column` as a scope; typer.BadParameter for anything else."""
    dataset_id, colon, columns = text.partition(":")
    names = tuple(name.strip() for name in columns.split(",") if name.strip())
    if not colon or not names:
        raise typer.BadParameter("write --column dataset:column,column")
    return built(lambda: Scope(dataset_id=dataset_id, columns=names))


def parse_budget(text: str) -> PrivacyLoss:
    """`entity-set=ρ` as a budget; typer.BadParameter for anything else, NaN and negative numbers included."""
    entity_set, _, rho = text.partition("=")
    try:
        if not entity_set:
            raise ValueError("no entity set")
        return PrivacyLoss(entity_set=entity_set, pico_rho=to_pico_rho(number(rho)))
    except ValueError:
        raise typer.BadParameter("write --rho entity-set=0.5, with a number from 0 to 1000000") from None


def with_deltas(budgets: tuple[PrivacyLoss, ...], texts: list[str]) -> tuple[PrivacyLoss, ...]:
    """The budgets with the δ that each `entity-set=δ` adds; typer.BadParameter for anything else.

    A δ alone buys nothing: its entity set needs a ρ as well.
    """
    deltas: dict[str, int] = {}
    for text in texts:
        entity_set, _, delta = text.partition("=")
        if entity_set in deltas or entity_set not in {budget.entity_set for budget in budgets}:
            raise typer.BadParameter("write --delta entity-set=1e-6 once for an entity set that has a --rho")
        deltas[entity_set] = _atto_delta(delta)
    return tuple(
        PrivacyLoss(entity_set=budget.entity_set, pico_rho=budget.pico_rho, atto_delta=deltas.get(budget.entity_set, 0))
        for budget in budgets
    )


def _atto_delta(text: str) -> int:
    try:
        delta = number(text)
        if not 0 <= delta < 1:
            raise ValueError("no δ")
    except ValueError:
        raise typer.BadParameter("write --delta entity-set=1e-6, with a number from 0 to below 1") from None
    return to_atto_delta(delta)


@app.command(help="以授权官密钥签署 / Sign with the officer's key")
def sign(
    context: typer.Context,
    grant_id: GrantId,
    officer_key: Annotated[Path | None, typer.Option(help="授权官密钥 / the officer's key file")] = None,
) -> None:
    """The key is read here, by the officer's command, and never by the control plane.

    At a terminal the officer is shown what would be signed, since the draft comes out of the control plane's database.
    """
    session: Session = context.obj
    key = KeyFile.load(officer_key or session.home.officer_key)
    with session.office() as (office, actor):
        record = get_grant(office, actor, grant_id)
        if sys.stdin.isatty() and not session.as_json:
            _show(session, (record,))
            _show_scopes(session, record)
            typer.confirm("签署这项授权？/ Sign this grant?", abort=True)
        record = sign_grant(office, actor, grant_id, seal(record.grant, PURPOSE, key))
    _show(session, (record,))


@app.command(help="撤销授权 / Revoke a grant")
def revoke(context: typer.Context, grant_id: GrantId) -> None:
    """Revoke for good."""
    session: Session = context.obj
    with session.office() as (office, actor):
        record = revoke_grant(office, actor, grant_id)
    _show(session, (record,))


@app.command(name="list", help="列出授权 / List grants")
def list_all(context: typer.Context) -> None:
    """All grants that the actor may see."""
    session: Session = context.obj
    with session.office() as (office, actor):
        records = list_grants(office, actor)
    _show(session, records)


@app.command(help="查看一项授权 / Show one grant")
def show(context: typer.Context, grant_id: GrantId) -> None:
    """One grant with its scopes."""
    session: Session = context.obj
    with session.office() as (office, actor):
        record = get_grant(office, actor, grant_id)
    _show_scopes(session, record)


def _show_scopes(session: Session, record: GrantRecord) -> None:
    rows = [(scope.dataset_id, ", ".join(scope.columns)) for scope in record.grant.scopes]
    session.table(record, f"{record.grant.grant_id} · {record.status.value}", ("dataset", "columns"), rows)


def _show(session: Session, records: tuple[GrantRecord, ...]) -> None:
    rows = [
        (
            r.grant.grant_id,
            r.grant.operator_id,
            r.grant.scenario_id,
            r.grant.purpose.value,
            "+".join(mode.value for mode in r.grant.modes),
            r.grant.deadline.date(),
            losses_text(r.grant.budgets),
            r.grant.max_uses,
            r.status.value,
        )
        for r in records
    ]
    columns = ("id", "operator", "scenario", "purpose", "modes", "deadline", "budget", ">uses", "status")
    session.table(records, "授权 / grants", columns, rows)
