"""`yunei product`: what an operator publishes and a business calls."""

from __future__ import annotations

from typing import Annotated

import typer

from enclave_runner.contract.job import Predicate, VerificationJob
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
    attribute: Annotated[str, typer.Option(help="属性 / dataset.column")],
    predicate: Annotated[Predicate, typer.Option(help="判断 / predicate")] = Predicate.EQUALS,
    consent: Annotated[bool, typer.Option(help="需数据主体同意（第四十三条）/ needs the subject's consent")] = True,
) -> None:
    """Publish as the acting operator (`--as`)."""
    session: Session = context.obj
    dataset_id, _, column = attribute.partition(".")
    job = VerificationJob(dataset_id=dataset_id, attribute=column, predicate=predicate)
    product = Product(
        product_id=product_id,
        operator_id=session.party,
        grant_id=grant,
        title=title,
        job=job,
        needs_consent=consent,
    )
    with session.office() as (office, actor):
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


def _show(session: Session, products: tuple[Product, ...]) -> None:
    rows = [
        (
            p.product_id,
            p.title,
            p.operator_id,
            f"{p.job.dataset_id}.{p.job.attribute} {p.job.predicate.value}",
            "yes" if p.needs_consent else "no",
            p.status.value,
        )
        for p in products
    ]
    session.table(products, "数据产品 / products", ("id", "title", "operator", "question", "consent", "status"), rows)
