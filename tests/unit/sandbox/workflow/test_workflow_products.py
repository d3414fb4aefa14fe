from __future__ import annotations

import pytest

from enclave_runner.contract.grant import Mode
from enclave_runner.contract.job import Predicate, VerificationJob
from sandbox.domain.party import PartyStatus
from sandbox.domain.product import ProductStatus
from sandbox.workflow.grants import revoke_grant
from sandbox.workflow.parties import set_party_status
from sandbox.workflow.products import get_product, list_products, publish_product, suspend_product
from tests.support.bureau import BANK, FREE, OPERATOR, OTHER, PAID, PRODUCT, Bureau, paid_grant, product
from tests.support.refusals import refused_by


def about(attribute: str, dataset_id: str = "insurance") -> dict[str, object]:
    return {"job": VerificationJob(dataset_id=dataset_id, attribute=attribute, predicate=Predicate.EQUALS)}


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"grant_id": FREE}, "grant.mode"),
        (about("income"), "grant.column"),
        (about("nothing"), "dataset.column"),
        (about("insured", "elsewhere"), "grant.dataset"),
        ({"needs_consent": False}, "product.consent-needed"),
        ({"grant_id": "nothing"}, "record.unknown"),
        ({"operator_id": OTHER}, "access.foreign"),
    ],
)
def test_a_product_stays_within_its_operators_grant(bureau: Bureau, changes: dict[str, object], rule: str) -> None:
    with refused_by(rule):
        publish_product(bureau.office, bureau.actor(OPERATOR), product(product_id="new", **changes))
    assert [item.product_id for item in list_products(bureau.office, bureau.actor())] == [PRODUCT]


def test_a_product_under_a_foreign_grant_is_refused(bureau: Bureau) -> None:
    with refused_by("grant.foreign"):
        publish_product(bureau.office, bureau.actor(OTHER), product(product_id="new", operator_id=OTHER))


def test_only_operators_publish(bureau: Bureau) -> None:
    for who in ("bureau", BANK):
        with refused_by("access.operator-only"):
            publish_product(bureau.office, bureau.actor(who), product(product_id="new", operator_id=who))


def test_nothing_is_published_under_a_revoked_grant(bureau: Bureau) -> None:
    revoke_grant(bureau.office, bureau.actor(), PAID)
    with refused_by("grant.not-signed"):
        publish_product(bureau.office, bureau.actor(OPERATOR), product(product_id="new"))


def test_a_suspended_product_comes_back_only_as_it_was(bureau: Bureau) -> None:
    office, operator = bureau.office, bureau.actor(OPERATOR)
    with refused_by("lifecycle.illegal", current="published"):
        publish_product(office, operator, product())
    assert suspend_product(office, operator, PRODUCT).status is ProductStatus.SUSPENDED
    with refused_by("lifecycle.illegal"):
        suspend_product(office, operator, PRODUCT)
    with refused_by("record.exists", what="product"):
        publish_product(office, operator, product(title="别的产品"))
    assert publish_product(office, operator, product()).status is ProductStatus.PUBLISHED


def test_who_suspends_and_who_sees_a_suspended_product(bureau: Bureau) -> None:
    office = bureau.office
    with refused_by("access.foreign"):
        suspend_product(office, bureau.actor(OTHER), PRODUCT)
    with refused_by("access.foreign"):
        suspend_product(office, bureau.actor(BANK), PRODUCT)
    assert len(list_products(office, bureau.actor(BANK))) == 1
    suspended = suspend_product(office, bureau.actor(), PRODUCT)
    for who in ("bureau", OPERATOR):
        assert list_products(office, bureau.actor(who)) == (suspended,)
        assert get_product(office, bureau.actor(who), PRODUCT) == suspended
    assert list_products(office, bureau.actor(BANK)) == ()
    with refused_by("access.foreign"):
        get_product(office, bureau.actor(BANK), PRODUCT)
    with refused_by("record.unknown"):
        get_product(office, bureau.actor(BANK), "nothing")


def test_a_suspended_party_sees_no_products(bureau: Bureau) -> None:
    set_party_status(bureau.office, bureau.actor(), BANK, PartyStatus.SUSPENDED, "整改")
    assert list_products(bureau.office, bureau.actor(BANK)) == ()


def test_a_grant_for_verification_alone_is_enough(bureau: Bureau) -> None:
    bureau.sign(paid_grant("narrow", modes=(Mode.VERIFICATION,)))
    published = publish_product(bureau.office, bureau.actor(OPERATOR), product(product_id="new", grant_id="narrow"))
    assert published.status is ProductStatus.PUBLISHED
