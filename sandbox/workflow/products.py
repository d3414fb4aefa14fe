"""Data products: drafted and published by an operator under its grant, called by others."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection

from enclave_runner.contract.errors import Refused
from enclave_runner.contract.scoring import ScoreCheck
from sandbox.domain.product import PRODUCT_LIFECYCLE, Product, ProductStatus
from sandbox.rules.access import Action, Record
from sandbox.rules.admission import decide_grant, decide_mode, decide_question, decide_scope
from sandbox.rules.calling import decide_check, decide_score_bits, read_call_limits
from sandbox.store import datasets
from sandbox.store.database import reading, writing
from sandbox.store.grants import GRANTS
from sandbox.store.products import PRODUCTS
from sandbox.workflow.office import Actor, Office, authorize, is_allowed, note_act


def publish_product(office: Office, actor: Actor, product: Product) -> Product:
    """Publish a product: a new one is drafted first, in the same transaction; a draft, or one that was suspended and is
    otherwise the same, is published as it is.

    Raises:
        Refused: by access, the grant, `product.no-key`, `product.consent-needed` for a question about people without
            their consent (article 43), `product.hidden-consent` for modes that hide of whom a consent would be,
            `product.check-type`, `verification.many-rows`, `verification.score-bits`, `verification.claim-form`,
            `record.exists`, `lifecycle.illegal`.
    """
    authorize(office, actor, Action.PUBLISH_PRODUCT, _record(product))
    with writing(office.engine) as connection:
        _check_product(office, connection, actor, product)
        known = PRODUCTS.find(connection, product.product_id)
        if known is None:
            known = _add_draft(office, connection, actor, product)
        # Only the same product comes back: consents and receipts refer to what it was.
        if replace(known, status=product.status) != product:
            raise Refused("record.exists", what="product")
        published = replace(known, status=PRODUCT_LIFECYCLE.check(known.status, ProductStatus.PUBLISHED))
        PRODUCTS.save(connection, published)
        note_act(office, connection, actor, "product.publish", product.product_id, grant=product.grant_id)
    return published


def draft_product(office: Office, actor: Actor, product: Product) -> Product:
    """File a product that does not answer yet; only its operator and the bureau see it.

    Raises:
        Refused: as `publish_product`.
    """
    authorize(office, actor, Action.PUBLISH_PRODUCT, _record(product))
    with writing(office.engine) as connection:
        _check_product(office, connection, actor, product)
        return _add_draft(office, connection, actor, product)


def _add_draft(office: Office, connection: Connection, actor: Actor, product: Product) -> Product:
    draft = replace(product, status=PRODUCT_LIFECYCLE.initial)
    PRODUCTS.add(connection, draft)
    note_act(office, connection, actor, "product.draft", product.product_id, grant=product.grant_id)
    return draft


def _check_product(office: Office, connection: Connection, actor: Actor, product: Product) -> None:
    """The grant covers the question, somebody can be asked about, and people are asked for their consent."""
    record = GRANTS.get(connection, product.grant_id)
    catalogue = datasets.catalogue(connection)
    decide_grant(record, actor.party.party_id, office.clock()).enforce()
    decide_mode(record.grant, product.job.mode).enforce()
    decide_scope(record.grant, product.job.dataset_id, product.attributes, catalogue).enforce()
    decide_question(product, catalogue[product.job.dataset_id]).enforce()
    decide_check(product, catalogue[product.job.dataset_id]).enforce()
    if isinstance(product.job, ScoreCheck):
        decide_score_bits(product.job, read_call_limits(office.pack).score_bits).enforce()


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
