"""`yunei party`: organisations and their API keys."""

from __future__ import annotations

from typing import Annotated

import typer

from sandbox.cli.session import Session
from sandbox.domain.party import Party, PartyStatus, Role
from sandbox.workflow.keys import create_api_key
from sandbox.workflow.parties import list_parties, register_party, set_party_status

app = typer.Typer(help="主体：部门、授权运营机构、企业 / Parties", no_args_is_help=True)
PartyId = Annotated[str, typer.Argument(help="主体编号 / party id")]
Ground = Annotated[str, typer.Option(help="理由 / ground")]


@app.command(name="add", help="登记主体 / Register a party")
def add(
    context: typer.Context,
    party_id: PartyId,
    name: Annotated[str, typer.Option(help="名称 / name")],
    role: Annotated[Role, typer.Option(help="角色 / role")],
    credit_code: Annotated[str, typer.Option(help="统一社会信用代码 / credit code")],
) -> None:
    """Register one party."""
    session: Session = context.obj
    party = Party(party_id=party_id, name=name, role=role, credit_code=credit_code)
    with session.office() as (office, actor):
        register_party(office, actor, party)
    _show(session, (party,))


@app.command(name="list", help="列出主体 / List parties")
def list_all(context: typer.Context) -> None:
    """All parties that the actor may see."""
    session: Session = context.obj
    with session.office() as (office, actor):
        parties = list_parties(office, actor)
    _show(session, parties)


@app.command(help="发放接口密钥，只显示一次 / Make an API key; shown once")
def key(
    context: typer.Context,
    party_id: PartyId,
    holder: Annotated[str, typer.Option("--holder", help="持有人 / who holds it")],
) -> None:
    """A new API key for a person of a party."""
    session: Session = context.obj
    with session.office() as (office, actor):
        token = create_api_key(office, actor, party_id, holder)
    session.show({"party_id": party_id, "person": holder, "token": token}, lambda console: console.print(token))


def _status_command(name: str, status: PartyStatus, summary: str) -> None:
    @app.command(name=name, help=summary)
    def change(context: typer.Context, party_id: PartyId, ground: Ground) -> None:
        session: Session = context.obj
        with session.office() as (office, actor):
            party = set_party_status(office, actor, party_id, status, ground)
        _show(session, (party,))


_status_command("suspend", PartyStatus.SUSPENDED, "暂停（第四十九条）/ Suspend (article 49)")
_status_command("restore", PartyStatus.ACTIVE, "恢复 / Restore")
_status_command("terminate", PartyStatus.TERMINATED, "终止（第四十九条）/ Terminate (article 49)")


def _show(session: Session, parties: tuple[Party, ...]) -> None:
    rows = [(p.party_id, p.name, p.role.value, p.credit_code, p.status.value) for p in parties]
    session.table(parties, "主体 / parties", ("id", "name", "role", "credit code", "status"), rows)
