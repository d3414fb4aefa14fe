"""Data products: published by an operator under its grant, called by others."""

from __future__ import annotations

from dataclasses import replace

from enclave_runner.contract.dataset import KeyKind
from enclave_runner.contract.errors import Refused
from sandbox.domain.product import PRODUCT_LIFECYCLE, Product, ProductStatus
from sandbox.rules.access import Action, Record
from sandbox.rules.admission import decide_grant, decide_mode, decide_scope
from sandbox.store import datasets
from sandbox.store.database import reading, writing
from sandbox.store.grants import GRANTS
from sandbox.store.products import PRODUCTS
from sandbox.workflow.office import Actor, Office, authorize, is_allowed, note_act


def publish_product(office: Office, actor: Actor, product: Product) -> Product:
    """Publish a product, or publish again one that was suspended and is otherwise the same.

    Raises:
        Refused: by access, the grant, `product.consent-needed` for a question about residents without consent
            (article 43), `record.exists`.
    """
    authorize(office, actor, Action.PUBLISH_PRODUCT, _record(product))
    published = replace(product, status=ProductStatus.PUBLISHED)
    with writing(office.engine) as connection:
        record = GRANTS.get(connection, product.grant_id)
        catalogue = datasets.catalogue(connection)
        decide_grant(record, actor.party.party_id, office.clock()).enforce()
        decide_mode(record.grant, product.job.mode).enforce()
        decide_scope(record.grant, product.job.dataset_id, (product.job.attribute,), catalogue).enforce()
        about_people = catalogue[product.job.dataset_id].spec.key_kind is KeyKind.RESIDENT_ID
        if about_people and not product.needs_consent:
            raise Refused("product.consent-needed", product=product.product_id)
        known = PRODUCTS.find(connection, product.product_id)
        if known is None:
            PRODUCTS.add(connection, published)
        else:
            _check_same(known, published)
            PRODUCTS.save(connection, published)
        note_act(office, connection, actor, "product.publish", product.product_id, grant=product.grant_id)
    return published


def _check_same(known: Product, published: Product) -> None:
    """Only the same product comes back: consents and receipts refer to what it was."""
    if replace(known, status=published.status) != published:
        raise Refused("record.exists", what="product")
    PRODUCT_LIFECYCLE.check(known.status, published.status)


def suspend_product(office: Office, actor: Actor, product_id: str) -> Product:
    """Stop a product from answering, at once.

    Raises:
        Refused: by access, `record.unknown`, `lifecycle.illegal`.
    """
    with writing(office.engine) as connection:
        product = PRODUCTS.get(connection, product_id)
        authorize(office, actor, Action.SUSPEND_PRODUCT, _record(product))
        status = PRODUCT_LIFECYCLE.check(product.status, ProductStatus.SUSPENDED)
        product = replace(product, status=status)
        PRODUCTS.save(connection, product)
        note_act(office, connection, actor, "product.suspend", product_id)
    return product


def list_products(office: Office, actor: Actor) -> tuple[Product, ...]:
    """Published products for every active party; others for their operator and the bureau."""
    with reading(office.engine) as connection:
        products = PRODUCTS.listed(connection)
    return tuple(item for item in products if _is_visible(office, actor, item))


def get_product(office: Office, actor: Actor, product_id: str) -> Product:
    """One product.

    Raises:
        Refused: by access, or `record.unknown`.
    """
    with reading(office.engine) as connection:
        product = PRODUCTS.get(connection, product_id)
    if not _is_visible(office, actor, product):
        authorize(office, actor, Action.SUSPEND_PRODUCT, _record(product))
    return product


def _is_visible(office: Office, actor: Actor, product: Product) -> bool:
    if product.status is ProductStatus.PUBLISHED:
        return is_allowed(office, actor, Action.READ_PRODUCT, _record(product))
    return is_allowed(office, actor, Action.SUSPEND_PRODUCT, _record(product))


def _record(product: Product) -> Record:
    return Record("product", product.product_id, (product.operator_id,))
