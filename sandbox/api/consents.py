"""Consents of data subjects (article 43), kept under the enclave's pseudonym only."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter
from starlette.responses import Response

from enclave_runner.contract.codec import Value
from sandbox.api.call import Reading, Writing, reply
from sandbox.api.identifiers import Moment, Slug, TokenInPath, require_plausible
from sandbox.api.keys import Nothing
from sandbox.api.openapi import operation
from sandbox.domain.consent import Consent
from sandbox.workflow.consents import file_consent, list_consents, withdraw_consent

router = APIRouter(prefix="/v1/consents", tags=["consents"])


class NewConsent(Value, frozen=True):
    """Whose consent, to which business, for which product, until when. The identifier is stored nowhere."""

    product_id: Slug
    business_id: Slug
    identifier: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    expires_at: Moment


@router.get("", summary="列出授权同意 / List consents", **operation(tuple[Consent, ...]))
def list_all(call: Reading) -> Response:
    """Those that name the caller's own party; all of them for the bureau."""
    return reply(list_consents(call.office, call.actor))


@router.post("", summary="登记授权同意 / File a consent", **operation(Consent, takes=NewConsent, status=201))
def file(write: Writing) -> Response:
    """The enclave turns the identifier into a keyed pseudonym; only that is filed."""
    body = write.read(NewConsent)
    require_plausible(body.expires_at)
    return write.answer(
        lambda: file_consent(
            write.office, write.actor, body.product_id, body.business_id, body.identifier, body.expires_at
        ),
        201,
    )


@router.post("/{consent_id}/withdrawal", summary="撤回同意 / Withdraw a consent", **operation(Consent, takes=Nothing))
def withdraw(write: Writing, consent_id: TokenInPath) -> Response:
    """The next call is refused."""
    write.read(Nothing)
    return write.answer(lambda: withdraw_consent(write.office, write.actor, consent_id))
