"""An open product in the bureau of tests, and calls of it."""

from __future__ import annotations

import secrets

from msgspec import structs

from enclave_runner.contract.call import Ask, Asked, Call, EqualityAsk, Offer, OpeningAsk, PlainAsk
from enclave_runner.contract.check import Check, CheckKind, VerificationMode
from enclave_runner.contract.codec import decode
from enclave_runner.contract.dataset import Column, ColumnType, KeyKind
from enclave_runner.contract.grant import Scope
from enclave_runner.contract.wire import CallReply
from sandbox.domain.product import Product
from sandbox.domain.standing import StandingOrder
from sandbox.workflow.calls import get_offer, run_call
from sandbox.workflow.products import publish_product
from sandbox.workflow.standing import finish_opening, open_product
from tests.support.articles import a_dataset, a_spec
from tests.support.bureau import BANK, OPERATOR, Bureau, import_rows, paid_grant

FIRMS, LICENCE, INSURED = "firms", "licence", "insured-check"
FIRM = "91110000600037341L"


def check(**changes: object) -> Check:
    """Is the firm's status the claimed one?"""
    fields: dict[str, object] = {
        "dataset_id": FIRMS,
        "attribute": "status",
        "kind": CheckKind.EQUALS,
        "modes": (VerificationMode.PLAIN, VerificationMode.EQUALITY),
    }
    return Check(**{**fields, **changes})  # type: ignore[arg-type]


def licence(**changes: object) -> Product:
    """A product about firms, which needs nobody's consent."""
    fields: dict[str, object] = {
        "product_id": LICENCE,
        "operator_id": OPERATOR,
        "grant_id": "grant-firms",
        "title": "企业状态核验",
        "job": check(),
        "needs_consent": False,
    }
    return Product(**{**fields, **changes})  # type: ignore[arg-type]


def insured(**changes: object) -> Product:
    """A product about residents, who consent."""
    fields: dict[str, object] = {
        "product_id": INSURED,
        "operator_id": OPERATOR,
        "grant_id": "grant-paid",
        "title": "参保核验",
        "job": check(
            dataset_id="insurance",
            attribute="insured",
            modes=(VerificationMode.PLAIN, VerificationMode.EQUALITY),
        ),
        "needs_consent": True,
    }
    return Product(**{**fields, **changes})  # type: ignore[arg-type]


def furnish_firms(bureau: Bureau) -> None:
    """A dataset about firms, a grant over it, and a published product; not open yet."""
    entry = a_dataset(
        personal=False,
        spec=a_spec(
            Column(name="status", title="状态", type=ColumnType.TEXT),
            Column(name="capital", title="注册资本", type=ColumnType.DECIMAL, scale=2, bounds=(0, 10**10)),
            dataset_id=FIRMS,
            entity_set="enterprise",
            key_kind=KeyKind.OPAQUE,
        ),
    )
    import_rows(bureau, entry=entry)
    bureau.sign(paid_grant("grant-firms", scopes=(Scope(dataset_id=FIRMS, columns=("status", "capital")),), budgets=()))
    publish_product(bureau.office, bureau.actor(OPERATOR), licence())
    bureau.enclave.calls.values[FIRM] = "active"


def opened(bureau: Bureau, product_id: str = LICENCE, **options: object) -> StandingOrder:
    """The product, opened by its operator."""
    order = open_product(bureau.office, bureau.actor(OPERATOR), product_id, **options)  # type: ignore[arg-type]
    return finish_opening(bureau.office, order.ticket_id)


def offer_of(bureau: Bureau, product_id: str = LICENCE) -> Offer:
    """The offer, as a business fetches it."""
    return decode(get_offer(bureau.office, bureau.actor(BANK), product_id).offer.payload, Offer)


def a_call(version: str, ask: Ask, call_id: bytes | None = None) -> Call:
    """A call with a fresh id and salt."""
    return Call(call_id=call_id or secrets.token_bytes(16), salt=secrets.token_bytes(32), version=version, ask=ask)


def plain(*subjects: str, claim: str = "active") -> PlainAsk:
    """One claim about each subject, in the clear."""
    return PlainAsk(asked=tuple(Asked(subject=subject, claim=claim) for subject in subjects or (FIRM,)))


def equality(subject: str) -> EqualityAsk:
    """A blinded claim; any point will do for the simulated enclave."""
    return EqualityAsk(subject=subject, blinded=bytes(32))


def ask(bureau: Bureau, product_id: str = LICENCE, asked: Ask | None = None, caller: str = BANK) -> CallReply:
    """One call of an open product."""
    version = bureau.enclave.calls.opened[product_id].version
    return run_call(bureau.office, bureau.actor(caller), product_id, a_call(version, asked or plain()))


def with_version(call: Call, version: str) -> Call:
    """The same call for another table version."""
    return structs.replace(call, version=version)


OPENING = OpeningAsk()
