"""One authenticated call: who asks, and for a write also what, at most once."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, TypeVar

import msgspec
from fastapi import Depends, Header
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from enclave_runner.contract.errors import Refused
from sandbox.api.problem import Misfit, misfit
from sandbox.workflow.idempotency import Remembered, remember
from sandbox.workflow.keys import authenticate
from sandbox.workflow.office import Actor, Office

T = TypeVar("T")

bearer = HTTPBearer(auto_error=False, scheme_name="apiKey", bearerFormat="yunei_…", description="API key of a person")


@dataclass(frozen=True)
class Call:
    """A read by an authenticated person."""

    office: Office
    actor: Actor
    token: str


@dataclass(frozen=True)
class Write(Call):
    """A write by an authenticated person, with its idempotency key and its whole body."""

    key: str
    fingerprint: str
    body: bytes

    def read(self, kind: type[T]) -> T:
        """The body as that type.

        Raises:
            Misfit: it does not fit.
        """
        return decode(self.body, kind)

    def once(self, run: Callable[[], object]) -> Remembered:
        """What `run` gives, as JSON. The same key and body never run twice; a refused run may be tried again.

        A process that dies between the work and keeping its answer leaves the key in progress (409): whoever retries
        must look up what was done.
        """
        return remember(self.office, self.actor, self.key, self.fingerprint, lambda: msgspec.json.encode(run()))

    def answer(self, run: Callable[[], object], status: int = 200) -> Response:
        """The answer to this write; the same key and body again give the same bytes, once the first was answered."""
        kept = self.once(run)
        return _json(kept.response, status, kept.replayed)


def office_of(request: Request) -> Office:
    """The office that this application serves."""
    office: Office = request.app.state.office
    return office


def begin(
    office: Annotated[Office, Depends(office_of)],
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
) -> Call:
    """Authenticate.

    Raises:
        Refused: `key.unknown` without a valid key, or what the rules say of the party.
    """
    if credentials is None:
        raise Refused("key.unknown")
    return Call(office, authenticate(office, credentials.credentials), credentials.credentials)


async def receive_body(request: Request, _: Annotated[Call, Depends(begin)]) -> bytes:
    """The body, read only after its sender is known; its size is capped around us."""
    return await request.body()


def begin_write(
    request: Request,
    call: Annotated[Call, Depends(begin)],
    body: Annotated[bytes, Depends(receive_body)],
    idempotency_key: Annotated[
        str,
        Header(
            min_length=8,
            max_length=64,
            pattern=r"^[A-Za-z0-9_-]+$",
            description="Chosen by the caller, one per intended write; a retry sends it again.",
        ),
    ],
) -> Write:
    """Take in a write.

    The fingerprint is keyed with the caller's token, which is stored nowhere: a plain digest of a body would let a
    reader of the database find the identifier in it by trying them all.
    """
    message = f"{request.method} {request.url.path}\n".encode() + body
    fingerprint = hmac.new(call.token.encode(), message, hashlib.sha256).hexdigest()
    return Write(call.office, call.actor, call.token, idempotency_key, fingerprint, body)


async def receive_json(request: Request, body: Annotated[bytes, Depends(receive_body)]) -> bytes:
    """The JSON body of a question that writes nothing."""
    _require_media_type(request, "application/json")
    return body


def begin_json(request: Request, write: Annotated[Write, Depends(begin_write)]) -> Write:
    """A write whose body is JSON."""
    _require_media_type(request, "application/json")
    return write


def begin_bytes(request: Request, write: Annotated[Write, Depends(begin_write)]) -> Write:
    """A write whose body is a file."""
    _require_media_type(request, "application/octet-stream")
    return write


Reading = Annotated[Call, Depends(begin)]
Writing = Annotated[Write, Depends(begin_json)]
Uploading = Annotated[Write, Depends(begin_bytes)]


def decode(body: bytes, kind: type[T]) -> T:
    """Strict JSON of that type.

    Raises:
        Misfit: it does not fit, or holds U+0000, which not every database can store.
    """
    if rb"\u0000" in body:
        raise Misfit("$", "the character U+0000")
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise misfit(error) from None
    except (ValueError, RecursionError):
        raise Misfit("$", "not JSON in UTF-8") from None


def reply(document: object, status: int = 200, replayed: bool = False) -> Response:
    """A document as JSON."""
    return _json(msgspec.json.encode(document), status, replayed)


def _json(content: bytes, status: int, replayed: bool) -> Response:
    headers = {"Idempotency-Replayed": "true"} if replayed else {}
    return Response(content, status, headers, "application/json")


def require_json(request: Request) -> None:
    """Raise HTTPException (415) unless the body is declared as JSON."""
    _require_media_type(request, "application/json")


def _require_media_type(request: Request, expected: str) -> None:
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given != expected:
        raise HTTPException(415, headers={"Accept": expected})
