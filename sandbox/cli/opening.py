"""`yunei product open`, `refresh`, `close`, `status`: a product that answers calls, from its order to its end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from enclave_runner.contract.errors import YuneiError
from sandbox.cli.money import yuan
from sandbox.cli.session import Session
from sandbox.workflow.office import Actor, Office
from sandbox.workflow.product_state import ProductState, product_state
from sandbox.workflow.standing import CALLS, DAYS, ask_progress, close_product, finish_opening, open_product

ProductId = Annotated[str, typer.Argument(help="产品编号 / product id")]
Days = Annotated[int, typer.Option(min=1, help="开通天数 / days to stay open")]
Calls = Annotated[int, typer.Option(min=1, help="调用次数上限，被拒的也计 / calls at most, refused ones included")]

POLL_SECONDS = 0.3
STAGES = {
    "waiting": "等待 / waiting",
    "reading": "读取数据 / reading",
    "evaluating": "计算标签 / evaluating",
    "assembling": "装表 / assembling",
    "hint": "计算提示数据 / hint",
    "open": "已开通 / open",
}


def add_commands(app: typer.Typer) -> None:
    """Register the four commands."""
    app.command(name="open", help="开通产品，开始接受调用 / Open a product: from then on it answers calls")(open_)
    app.command(name="refresh", help="以新数据或新期限重新开通，其间不中断 / Open anew, without a gap")(refresh)
    app.command(name="close", help="关闭产品，不再接受调用 / Close a product: it answers no more calls")(close)
    app.command(name="status", help="查看开通、调用与告警 / Orders, calls, offer and alarms of a product")(status)


def open_(context: typer.Context, product_id: ProductId, days: Days = DAYS, calls: Calls = CALLS) -> None:
    """Ctrl-C leaves the order as it is: the same command carries it on."""
    _open(context.obj, product_id, days, calls, is_refresh=False)


def refresh(context: typer.Context, product_id: ProductId, days: Days = DAYS, calls: Calls = CALLS) -> None:
    """The version that is open answers until the new one does."""
    _open(context.obj, product_id, days, calls, is_refresh=True)


def close(context: typer.Context, product_id: ProductId) -> None:
    """At once, and for good under the orders of now; it may be opened again."""
    session: Session = context.obj
    with session.office() as (office, actor):
        close_product(office, actor, product_id)
        state = product_state(office, actor, product_id)
    _show(session, state)


def status(context: typer.Context, product_id: ProductId) -> None:
    """Calls count as soon as the enclave has settled them."""
    session: Session = context.obj
    with session.office() as (office, actor):
        state = product_state(office, actor, product_id)
    _show(session, state)


def _open(session: Session, product_id: str, days: int, calls: int, *, is_refresh: bool) -> None:
    with session.office() as (office, actor):
        _order(session, office, actor, product_id, days, calls, is_refresh)
        state = product_state(office, actor, product_id)
    _show(session, state)


def _order(
    session: Session, office: Office, actor: Actor, product_id: str, days: int, calls: int, is_refresh: bool
) -> None:
    order = open_product(office, actor, product_id, days, calls, refresh=is_refresh)
    with _progress_of(session, office, order.ticket_id):
        finish_opening(office, order.ticket_id)


@contextmanager
def _progress_of(session: Session, office: Office, ticket_id: str) -> Iterator[None]:
    """A bar on standard error while the enclave builds; a script, and a pipe, see none."""
    console = Console(stderr=True)
    if session.as_json or not console.is_terminal:
        yield
        return
    done = threading.Event()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        thread = threading.Thread(target=_watch, args=(office, ticket_id, bar, done), daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def _watch(office: Office, ticket_id: str, bar: Progress, done: threading.Event) -> None:
    task = bar.add_task(STAGES["waiting"], total=None)
    while not done.wait(POLL_SECONDS):
        try:
            progress = ask_progress(office, ticket_id)
        except YuneiError:
            continue  # the enclave does not know the order yet, or is about to say why it ends
        bar.update(
            task,
            description=STAGES.get(progress.stage, progress.stage),
            completed=progress.done,
            total=progress.total or None,
        )


def _show(session: Session, state: ProductState) -> None:
    rows = [
        (
            order.ticket_id,
            order.status.value if order.stage is None else f"{order.stage} {order.done}/{order.total}",
            " ".join(order.data_versions.values()),
            order.expires_at.isoformat(),
            f"{order.calls} / {order.max_calls}",
            order.units,
            order.rule or "-",
        )
        for order in state.orders
    ]
    columns = ("ticket", "status", "data", "until (UTC)", ">calls", ">answered", "refused by")
    if session.as_json:
        session.show(state, lambda console: None)
        return
    session.table(state, f"产品 / product {state.product.product_id}", columns, rows)
    offer = state.offer
    if offer is not None:
        table = "" if offer.table is None else f" · k {offer.table.k}"
        price = yuan(offer.charge.unit_price_fen)
        modes = " ".join(mode.value for mode in offer.check.modes)
        session.console.print(
            f"报价 / offer: {modes} · {price} · version {offer.version} · data of {offer.source_at.isoformat()}{table}"
        )
    for alarm in state.alarms:
        bits = f"{alarm.milli_bits / 1000:.1f} bits"
        session.console.print(
            f"告警 / alarm: {alarm.pseudonym[:16]}… {alarm.attribute} {bits}, {alarm.callers} callers"
        )
