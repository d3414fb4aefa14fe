"""`yunei consent`: a data subject's authorization (article 43). The identifier comes on standard input."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from sandbox.cli.session import Session, identifier_from_input
from sandbox.cli.times import end_of
from sandbox.domain.consent import Consent
from sandbox.workflow.consents import file_consent, withdraw_consent

app = typer.Typer(help="数据主体同意 / Consents", no_args_is_help=True)


@app.command(help="登记同意；编号从标准输入读 / File a consent; the identifier is read from standard input")
def add(
    context: typer.Context,
    product: Annotated[str, typer.Option(help="产品 / product")],
    business: Annotated[str, typer.Option(help="企业 / business")],
    until: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="有效期至 / last valid day")],
) -> None:
    """Only the enclave's keyed pseudonym is kept."""
    session: Session = context.obj
    identifier = identifier_from_input()
    with session.office() as (office, actor):
        consent = file_consent(office, actor, product, business, identifier, end_of(until))
    _show(session, consent)


@app.command(help="撤回同意 / Withdraw a consent")
def withdraw(context: typer.Context, consent_id: Annotated[str, typer.Argument(help="同意编号 / consent id")]) -> None:
    """From the next call on it does not count."""
    session: Session = context.obj
    with session.office() as (office, actor):
        consent = withdraw_consent(office, actor, consent_id)
    _show(session, consent)


def _show(session: Session, consent: Consent) -> None:
    state = "withdrawn" if consent.withdrawn_at else f"until {consent.expires_at.date()}"
    row = (consent.consent_id, consent.product_id, consent.business_id, state)
    session.table(consent, "同意 / consent", ("id", "product", "business", "state"), [row])
