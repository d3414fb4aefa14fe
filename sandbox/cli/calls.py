"""`yunei call`: ask an open product from this machine, in the clear (P0), and list receipts of calls.

The modes that hide something need the client library (`yunei-client verify`).
"""

from __future__ import annotations

import secrets
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from enclave_runner.contract.call import (
    CALL_ID_BYTES,
    OFFER_PURPOSE,
    SALT_BYTES,
    Asked,
    Call,
    CallReceipt,
    Offer,
    PlainAnswer,
    PlainAsk,
    open_settled,
)
from enclave_runner.contract.check import Verdict
from enclave_runner.contract.codec import Value
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.signing import unseal
from sandbox.cli.money import yuan
from sandbox.cli.session import Session, identifier_from_input
from sandbox.rules.rating import call_receipt_id
from sandbox.workflow.calls import get_offer, list_calls, run_call
from sandbox.workflow.consents import clean_subject
from sandbox.workflow.office import Actor, Office

app = typer.Typer(help="产品调用 / Calls of open products", no_args_is_help=True)

IN_WORDS = {
    Verdict.YES.value: "是 / yes",
    Verdict.NO.value: "否 / no",
    Verdict.CANNOT_SAY.value: "不能判断 / cannot-say",
}


class Told(Value, frozen=True):
    """The verdict and the receipt of one call."""

    verdict: str
    receipt: CallReceipt


@app.command(help="明文调用一次；编号从标准输入读 / Ask once, in the clear; the identifier is read from standard input")
def ask(
    context: typer.Context,
    product_id: Annotated[str, typer.Argument(help="产品编号 / product id")],
    claim: Annotated[str, typer.Option(help="待核验内容 / what is claimed")] = "",
) -> None:
    """As the acting party (`--as`), which pays."""
    session: Session = context.obj
    subject = clean_subject(identifier_from_input())
    with session.office() as (office, actor):
        told = _ask(office, actor, product_id, subject, claim)
    name, units = call_receipt_id(told.receipt), told.receipt.units
    price = yuan(told.receipt.charge.unit_price_fen * units)

    def draw(console: Console) -> None:
        console.print(Text(f"答复 / verdict: {in_words(told.verdict)}", style="bold"))
        console.print(f"回执 / receipt {name} · {price} · {told.receipt.finished_at.isoformat()}")

    session.show(told, draw)


def in_words(verdict: str) -> str:
    """An answer in Chinese and English; of a level, the number of its band."""
    return IN_WORDS.get(verdict) or f"第 {verdict} 档 / level {verdict}"


def _ask(office: Office, actor: Actor, product_id: str, subject: str, claim: str) -> Told:
    signed = get_offer(office, actor, product_id).offer
    offer = unseal(signed, OFFER_PURPOSE, (office.enclave_key,), Offer)
    call = Call(
        call_id=secrets.token_bytes(CALL_ID_BYTES),
        salt=secrets.token_bytes(SALT_BYTES),
        version=offer.version,
        ask=PlainAsk(asked=(Asked(subject=subject, claim=claim),)),
    )
    answered = run_call(office, actor, product_id, call)
    if answered.rule is not None:
        raise Refused(answered.rule, **answered.facts)
    if not isinstance(answered.answer, PlainAnswer) or len(answered.answer.verdicts) != 1:
        raise Failed("enclave.answer")
    receipt, _ = open_settled(answered.settled, (office.enclave_key,))
    return Told(verdict=answered.answer.verdicts[0], receipt=receipt)


@app.command(name="list", help="列出调用回执 / List receipts of calls")
def list_all(
    context: typer.Context,
    since: Annotated[int, typer.Option(min=0, help="从第几次调用起 / number of the first call")] = 0,
) -> None:
    """Those that the actor pays for or that run under its grants; all of them for the bureau. A page at a time."""
    session: Session = context.obj
    with session.office() as (office, actor):
        page = list_calls(office, actor, since)
    rows = [
        (
            call_receipt_id(receipt),
            receipt.finished_at.isoformat(),
            receipt.caller_id,
            receipt.product_id,
            receipt.mode.value,
            receipt.outcome.value,
            receipt.units,
            receipt.rule or "-",
        )
        for receipt in page.receipts
    ]
    columns = ("receipt", "at (UTC)", "caller", "product", "mode", "outcome", ">units", "refused by")
    session.table(page, "调用回执 / calls", columns, rows)
    if page.following is not None and not session.as_json:
        session.console.print(f"续 / go on with: --since {page.following}")
