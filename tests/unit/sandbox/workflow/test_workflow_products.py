from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec import structs

from enclave_runner.contract.dataset import KeyKind
from enclave_runner.contract.grant import Mode, Scope
from enclave_runner.contract.job import Predicate, VerificationJob
from sandbox.domain.party import PartyStatus
from sandbox.domain.product import ProductStatus
from sandbox.store import audit_log
from sandbox.store.database import reading
from sandbox.workflow.grants import revoke_grant
from sandbox.workflow.parties import set_party_status
from sandbox.workflow.products import draft_product, get_product, list_products, publish_product, suspend_product
from sandbox.workflow.verify import verify
from tests.support.bureau import (
    BANK,
    FREE,
    OPERATOR,
    OTHER,
    PAID,
    PRODUCT,
    RESIDENT,
    Bureau,
    dataset,
    import_rows,
    paid_grant,
    product,
)
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


def test_a_draft_does_not_answer_and_is_published_as_it_is(bureau: Bureau) -> None:
    office, operator = bureau.office, bureau.actor(OPERATOR)
    drafted = draft_product(office, operator, product(product_id="new"))
    assert drafted.status is ProductStatus.DRAFT
    assert get_product(office, bureau.actor(), "new") == drafted
    assert [item.product_id for item in list_products(office, bureau.actor(BANK))] == [PRODUCT]
    with refused_by("product.not-published", status="draft"):
        verify(office, bureau.actor(BANK), "new", RESIDENT, "true")
    with refused_by("record.exists"):
        draft_product(office, operator, product(product_id="new"))
    with refused_by("record.exists"):
        publish_product(office, operator, product(product_id="new", title="另一产品"))
    assert publish_product(office, operator, product(product_id="new")).status is ProductStatus.PUBLISHED
    with refused_by("access.operator-only"):
        draft_product(office, bureau.actor(BANK), product(product_id="other", operator_id=BANK))


def test_publishing_at_once_writes_draft_and_publication(bureau: Bureau) -> None:
    publish_product(bureau.office, bureau.actor(OPERATOR), product(product_id="new"))
    with reading(bureau.office.engine) as connection:
        acts = [entry.act for entry in audit_log.entries(connection) if entry.target == "new"]
    assert acts == ["product.draft", "product.publish"]


@pytest.mark.parametrize(
    ("kind", "column", "personal", "rule"),
    [
        (KeyKind.OPAQUE, "resident_id", True, "product.consent-needed"),
        (KeyKind.CREDIT_CODE, "resident_id", True, "product.consent-needed"),
        (KeyKind.OPAQUE, "resident_id", False, None),
        (KeyKind.ROW, "row_number", False, "product.no-key"),
        (KeyKind.ROW, "row_number", True, "product.no-key"),
    ],
)
def test_the_catalogue_says_who_must_consent(
    bureau: Bureau, kind: KeyKind, column: str, personal: bool, rule: str | None
) -> None:
    entry = dataset()
    described = structs.replace(entry.spec, dataset_id="other", key_kind=kind, entity_column=column)
    import_rows(bureau, entry=replace(entry, spec=described, personal=personal))
    bureau.sign(paid_grant("grant-other", scopes=(Scope(dataset_id="other", columns=("insured",)),)))
    asked = product(product_id="new", grant_id="grant-other", needs_consent=False, **about("insured", "other"))
    if rule is None:
        assert publish_product(bureau.office, bureau.actor(OPERATOR), asked).status is ProductStatus.PUBLISHED
    else:
        with refused_by(rule):
            publish_product(bureau.office, bureau.actor(OPERATOR), asked)


def test_a_product_stops_when_its_dataset_turns_out_to_be_about_people(bureau: Bureau) -> None:
    entry = dataset()
    described = structs.replace(entry.spec, dataset_id="other", key_kind=KeyKind.OPAQUE)
    import_rows(bureau, entry=replace(entry, spec=described, personal=False))
    bureau.sign(paid_grant("grant-other", scopes=(Scope(dataset_id="other", columns=("insured",)),)))
    asked = product(product_id="new", grant_id="grant-other", needs_consent=False, **about("insured", "other"))
    publish_product(bureau.office, bureau.actor(OPERATOR), asked)
    import_rows(bureau, b"header\nanother row\n", replace(entry, spec=described, personal=True))
    with refused_by("product.consent-needed", product="new"):
        verify(bureau.office, bureau.actor(BANK), "new", RESIDENT, "true")


def test_resident_numbers_are_personal_whatever_the_catalogue_says() -> None:
    with refused_by("dataset.personal", dataset="insurance"):
        replace(dataset(), personal=False)
