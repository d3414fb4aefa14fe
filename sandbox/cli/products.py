"""`yunei product`: what an operator publishes and opens, and a business calls."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from enclave_runner.contract.check import CheckKind
from enclave_runner.contract.job import Predicate, VerificationJob
from enclave_runner.contract.scoring import ScoreCheck
from sandbox.cli.checks import Wanted, parse_wanted
from sandbox.cli.opening import add_commands
from sandbox.cli.session import Session
from sandbox.domain.product import Product
from sandbox.workflow.products import list_products, publish_product, suspend_product

app = typer.Typer(help="数据产品 / Data products", no_args_is_help=True)


@app.command(help="发布核验产品 / Publish a verification product")
def publish(
    context: typer.Context,
    product_id: Annotated[str, typer.Argument(help="产品编号 / product id")],
    grant: Annotated[str, typer.Option(help="授权 / grant")],
    title: Annotated[str, typer.Option(help="名称 / title")],
    attribute: Annotated[str | None, typer.Option(help="属性 / dataset.column")] = None,
    predicate: Annotated[
        Predicate | None,
        typer.Option(help="按单次作业票核验的判断，默认 equals / of a product asked one ticket at a time; else equals"),
    ] = None,
    check: Annotated[
        CheckKind | None, typer.Option(help="开通后以调用方式核验 / what an opened product is called for")
    ] = None,
    modes: Annotated[
        str | None,
        typer.Option(help="调用模式，如 P0,P1，默认 P0 / modes of the calls, such as P0,P1; else P0"),
    ] = None,
    edges: Annotated[
        str | None, typer.Option(help="档位或门槛，逗号分隔，递增 / bands or thresholds, by commas, increasing")
    ] = None,
    members: Annotated[str | None, typer.Option(help="成员值，逗号分隔 / values that are members, by commas")] = None,
    unknown: Annotated[
        bool, typer.Option("--unknown", help="无记录时答“不能判断” / say cannot-say where nothing is known")
    ] = False,
    max_age_days: Annotated[
        int | None, typer.Option(help="数据超过此天数即过时 / data older than this are stale")
    ] = None,
    score: Annotated[
        Path | None, typer.Option(help="密文评分产品的 JSON 文件 / the JSON file of a scoring product (P5)")
    ] = None,
    consent: Annotated[bool, typer.Option(help="需数据主体同意（第四十三条）/ needs the subject's consent")] = True,
) -> None:
    """Publish as the acting operator (`--as`)."""
    session: Session = context.obj
    wanted = Wanted(attribute, predicate, check, modes, edges, members, unknown, max_age_days, score)
    wanted.require_fit()
    with session.office() as (office, actor):
        product = Product(
            product_id=product_id,
            operator_id=session.party,
            grant_id=grant,
            title=title,
            job=parse_wanted(office, wanted),
            needs_consent=consent,
        )
        published = publish_product(office, actor, product)
    _show(session, (published,))


@app.command(help="暂停产品 / Suspend a product")
def suspend(context: typer.Context, product_id: Annotated[str, typer.Argument(help="产品编号 / product id")]) -> None:
    """It stops answering at once."""
    session: Session = context.obj
    with session.office() as (office, actor):
        product = suspend_product(office, actor, product_id)
    _show(session, (product,))


@app.command(name="list", help="列出产品 / List products")
def list_all(context: typer.Context) -> None:
    """All products that the actor may see."""
    session: Session = context.obj
    with session.office() as (office, actor):
        products = list_products(office, actor)
    _show(session, products)


add_commands(app)


def _show(session: Session, products: tuple[Product, ...]) -> None:
    rows = [
        (
            p.product_id,
            p.title,
            p.operator_id,
            question(p),
            " ".join(mode.value for mode in p.modes) or "-",
            "yes" if p.needs_consent else "no",
            p.status.value,
        )
        for p in products
    ]
    columns = ("id", "title", "operator", "question", "modes", "consent", "status")
    session.table(products, "数据产品 / products", columns, rows)


def question(product: Product) -> str:
    """What it asks, in a few words."""
    job = product.job
    if isinstance(job, ScoreCheck):
        return f"{job.dataset_id} score of {len(job.model.features)} features"
    asked = job.predicate if isinstance(job, VerificationJob) else job.kind
    return f"{job.dataset_id}.{job.attribute} {asked.value}"
