"""One call of an open product: the rules of the moment, consents where the product needs them, then the enclave.

Nothing durable is written here for a call that goes through: its receipt is durable in the enclave (`call_sync`).
Identifiers and claims pass through and are stored nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from enclave_runner.contract.call import Call, CallReceipt
from enclave_runner.contract.codec import digest
from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.wire import (
    AskHint,
    AskOffer,
    AskPseudonyms,
    CallReply,
    HintPart,
    OfferReply,
    Pseudonyms,
    RunCall,
)
from sandbox.domain.consent import Consent
from sandbox.domain.product import Product
from sandbox.rules.access import Action, Record
from sandbox.rules.calling import decide_callable, subjects_of
from sandbox.rules.scenario import decide_use
from sandbox.store import callable as callables
from sandbox.store import calls, consents
from sandbox.store.callable import Callable
from sandbox.store.database import reading, writing
from sandbox.workflow.call_sync import sync_calls
from sandbox.workflow.consents import clean_subject
from sandbox.workflow.keys import identify
from sandbox.workflow.office import Actor, Office, authorize, is_allowed, note_act
from sandbox.workflow.products import get_product

PAGE = 1000


@dataclass(frozen=True)
class CallPage:
    """Receipts of calls in order; `following` is where to go on, None at the end."""

    receipts: tuple[CallReceipt, ...]
    following: int | None


def run_call(office: Office, actor: Actor, product_id: str, call: Call) -> CallReply:
    """Have the enclave answer one call. A call that a rule of the enclave refuses has its receipt and no answer.

    Raises:
        Refused: by access, `record.unknown`, `product.…`, the grant, the scenario, `consent.missing`: before the
            enclave has seen it, with an audit entry and no receipt; or as the enclave says of a call that has none.
        Failed: when the enclave was lost: the same call may be sent again, and is paid for once.
    """
    with reading(office.engine) as connection:
        found = callables.find(connection, product_id)
    return _run(office, actor, found, call)


def run_call_with_key(office: Office, token: str, product_id: str, call: Call) -> CallReply:
    """As `run_call`, for whoever holds an API key: caller and rules are read in one snapshot.

    Raises:
        Refused: also `key.unknown` and `party.inactive`.
    """
    with reading(office.engine) as connection:
        actor = identify(connection, token)
        found = callables.find(connection, product_id)
    return _run(office, actor, found, call)


def _run(office: Office, actor: Actor, found: Callable, call: Call) -> CallReply:
    try:
        _check(office, actor, found)
        covering = _consents(office, actor, found, call) if found.product.needs_consent else None
    except Refused as refused:
        _note_refusal(office, actor, found.product, refused)
        raise
    caller = actor.party.party_id
    request = RunCall(
        product_id=found.product.product_id,
        caller_id=caller,
        consents=covering,
        call=call,
        calls_seen=found.calls_seen,
    )
    reply = office.enclave.call(request)
    if not isinstance(reply, CallReply):
        raise Failed("enclave.answer")
    return reply


def _check(office: Office, actor: Actor, found: Callable) -> None:
    """Whether this caller may call this product now."""
    product, now = found.product, office.clock()
    authorize(office, actor, Action.CALL_PRODUCT, Record("product", product.product_id))
    if product.check is None:
        raise Refused("product.one-by-one", product=product.product_id)
    decide_callable(product, found.record, found.scenario, found.operator, found.dataset, now).enforce()
    decide_use(found.scenario, found.record.grant, actor.party.party_id, now).enforce()
    if not found.is_open:
        raise Refused("product.not-open", product=product.product_id)


def _consents(office: Office, actor: Actor, found: Callable, call: Call) -> str | None:
    """What covers a call about people: the one consent's id, or the digest of several, one line for each subject."""
    subjects = tuple(clean_subject(subject) for subject in subjects_of(call.ask))
    if not subjects:
        return None
    pseudonyms = _pseudonyms(office, found.product, tuple(dict.fromkeys(subjects)))
    caller, purpose, now = actor.party.party_id, found.record.grant.purpose, office.clock()
    product_id = found.product.product_id
    with reading(office.engine) as connection:
        filed = consents.about_many(connection, tuple(pseudonyms.values()), caller, product_id)
    covering: dict[str, Consent] = {}
    for consent in sorted(filed, key=lambda consent: (consent.expires_at, consent.consent_id)):
        if consent.covers(consent.subject, caller, product_id, purpose, now):
            covering[consent.subject] = consent  # of several, the one that lasts longest
    if any(pseudonym not in covering for pseudonym in pseudonyms.values()):
        raise Refused("consent.missing", product=product_id)
    return consents_reference([covering[pseudonyms[subject]].consent_id for subject in subjects])


def consents_reference(consent_ids: Sequence[str]) -> str:
    """How a receipt names its consents: the id of one subject's, else the SHA-256 of all ids, each ended by a line
    feed, in the order of the subjects."""
    if len(consent_ids) == 1:
        return consent_ids[0]
    return digest("".join(f"{consent_id}\n" for consent_id in consent_ids).encode())


def _pseudonyms(office: Office, product: Product, subjects: tuple[str, ...]) -> dict[str, str]:
    """The enclave's pseudonym of each subject."""
    reply = office.enclave.call(AskPseudonyms(dataset_id=product.job.dataset_id, identifiers=subjects))
    if not isinstance(reply, Pseudonyms) or len(reply.values) != len(subjects):
        raise Failed("enclave.answer")
    return dict(zip(subjects, reply.values, strict=True))


def _note_refusal(office: Office, actor: Actor, product: Product, refused: Refused) -> None:
    """Who was refused which product by which rule. Not what was asked."""
    with writing(office.engine) as connection:
        note_act(office, connection, actor, "call.refuse", product.product_id, rule=refused.rule)


def get_offer(office: Office, actor: Actor, product_id: str) -> OfferReply:
    """The signed offer of an open product, for everybody who may see the product.

    Raises:
        Refused: by access, `record.unknown`, `product.one-by-one`, `product.not-published`, `product.not-open`, or as
            the enclave says.
    """
    product = get_product(office, actor, product_id)
    if product.check is None:
        raise Refused("product.one-by-one", product=product_id)
    with reading(office.engine) as connection:
        found = callables.find(connection, product_id)
    decide_callable(
        found.product, found.record, found.scenario, found.operator, found.dataset, office.clock()
    ).enforce()
    if not found.is_open:
        raise Refused("product.not-open", product=product_id)
    reply = office.enclave.call(AskOffer(product_id=product_id))
    if not isinstance(reply, OfferReply):
        raise Failed("enclave.answer")
    return reply


def read_hint(office: Office, actor: Actor, product_id: str, version: str, offset: int) -> bytes:
    """A part of the hint of that table version, for whoever may call the product; nothing past its end.

    Raises:
        Refused: as `run_call` does, or as the enclave says of a version that is not there.
    """
    with reading(office.engine) as connection:
        found = callables.find(connection, product_id)
    _check(office, actor, found)
    reply = office.enclave.call(AskHint(product_id=product_id, version=version, offset=offset))
    if not isinstance(reply, HintPart):
        raise Failed("enclave.answer")
    return reply.data


def list_calls(office: Office, actor: Actor, since: int = 0) -> CallPage:
    """Receipts of the calls that the actor pays for or that run under its grants, all of them for the bureau: a page
    from that number on. What the enclave has settled is fetched first.

    Raises:
        Refused: by access, or as `sync_calls` does.
    """
    own = actor.party.party_id
    authorize(office, actor, Action.READ_METER, Record("meter", own, (own,)))
    everything = is_allowed(office, actor, Action.READ_METER, Record("meter", "all"))
    sync_calls(office)
    with reading(office.engine) as connection:
        found = calls.page(connection, since, PAGE + 1, None if everything else own)
    following = found[PAGE].sequence if len(found) > PAGE else None
    return CallPage(found[:PAGE], following)
