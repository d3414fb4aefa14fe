"""Problem documents (RFC 9457): the only form in which this API says no.

A refusal carries its rule, article, reason and remedy in both languages; a fault carries an opaque id and nothing else.
What the caller sent is never repeated: an identifier must not come back, nor reach a log.
"""

from __future__ import annotations

import logging
import re

import msgspec
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from enclave_runner.contract.errors import Failed, Refused, new_fault_id
from enclave_runner.contract.rulebook import PolicyPack, Refusal
from sandbox.api.language import Language, preferred

MEDIA_TYPE = "application/problem+json"
LOG = logging.getLogger("yunei.api")

# Faults that another attempt may not meet: the enclave is away or busy. All others are 500.
_PASSING = ("enclave.absent", "enclave.lost", "dispatch.running", "home.busy", "wire.closed")

# Chinese and English; not the standard library's phrases, which change between Python versions.
TITLES = {
    200: ("已完成", "OK"),
    201: ("已创建", "Created"),
    202: ("已受理", "Accepted"),
    400: ("请求无效", "Bad Request"),
    401: ("需要有效密钥", "Unauthorized"),
    403: ("规则不允许", "Forbidden"),
    404: ("没有这一资源", "Not Found"),
    405: ("不支持的方法", "Method Not Allowed"),
    409: ("与现状冲突", "Conflict"),
    410: ("已删除", "Gone"),
    413: ("请求体过大", "Content Too Large"),
    415: ("不支持的媒体类型", "Unsupported Media Type"),
    422: ("内容不合要求", "Unprocessable Content"),
    429: ("已达限额", "Too Many Requests"),
    500: ("发生故障", "Internal Server Error"),
    503: ("暂不可用", "Service Unavailable"),
}


class FieldError(msgspec.Struct, frozen=True):
    """Where a request does not fit, and how: a place and a kind from the schema, never a value."""

    place: str
    complaint: str


class Problem(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A refusal, a fault or a misfit request.

    `rule`, `article`, `reason…` and `remedy…` stand in a refusal, `fault` in a fault, `errors` in a misfit request.
    `title` and `detail` speak the language that the caller asked for.
    """

    type: str
    title: str
    title_zh: str
    title_en: str
    status: int
    detail: str | None = None
    rule: str | None = None
    article: str | None = None
    reason: str | None = None
    remedy: str | None = None
    reason_zh: str | None = None
    remedy_zh: str | None = None
    fault: str | None = None
    errors: tuple[FieldError, ...] | None = None


class Misfit(Exception):
    """A body that does not fit its schema. Only the schema's own words are kept."""

    def __init__(self, place: str, complaint: str) -> None:
        self.error = FieldError(place, complaint)
        super().__init__("a body does not fit its schema")


def misfit(error: msgspec.ValidationError) -> Misfit:
    """What may be told of a validation error: msgspec quotes unknown names and values, so only known phrases pass."""
    text = str(error)
    place = re.search(r" - at `(\$[^`]*)`$", text)
    message = text[: place.start()] if place else text
    if isinstance(error.__cause__, ValueError):
        complaint = str(error.__cause__)  # the fixed sentence of a value of the contract
    elif message.startswith(("Expected `", "Object missing required field `")):
        complaint = message
    elif message.startswith("Object contains unknown field"):
        complaint = "an unknown field"
    else:
        complaint = "not an accepted value"
    return Misfit(place.group(1) if place else "$", complaint)


def of_refusal(refusal: Refusal, language: Language) -> Response:
    """The answer to a request that a rule refused; the status is the rulebook's."""
    chinese = language is Language.ZH
    detail = f"{refusal.reason_zh}{refusal.remedy_zh}" if chinese else f"{refusal.reason} {refusal.remedy}"
    document = _titled(
        refusal.status,
        language,
        type=f"urn:yunei:rule:{refusal.rule}",
        detail=detail,
        rule=refusal.rule,
        article=refusal.article,
        reason=refusal.reason,
        remedy=refusal.remedy,
        reason_zh=refusal.reason_zh,
        remedy_zh=refusal.remedy_zh,
    )
    return _respond(document, language, {"WWW-Authenticate": 'Bearer realm="yunei"'} if refusal.status == 401 else {})


def of_fault(failed: Failed, language: Language) -> Response:
    """The answer when something broke: an opaque id."""
    status = 503 if failed.code in _PASSING else 500
    return _respond(
        _titled(status, language, type="urn:yunei:fault", fault=failed.fault),
        language,
        {"Retry-After": "5"} if status == 503 else {},
    )


def of_status(status: int, language: Language, headers: dict[str, str] | None = None) -> Response:
    """The answer to a request that HTTP itself turns away (no such route, method, size, media type)."""
    return _respond(_titled(status, language, type="about:blank"), language, headers or {})


def of_errors(errors: tuple[FieldError, ...], language: Language) -> Response:
    """The answer to a request that does not fit its schema."""
    return _respond(_titled(422, language, type="urn:yunei:misfit", errors=errors), language, {})


def unexpected(error: BaseException) -> Failed:
    """A fault for an exception that nobody foresaw: logged by id and type, since its text may quote data."""
    failed = Failed("api.unexpected", new_fault_id())
    LOG.error("%s %s", failed.fault, type(error).__name__)
    return failed


def answer(pack: PolicyPack, request: Request, error: Exception) -> Response:
    """The problem document of anything that an endpoint raises, in the caller's language."""
    language = language_of(request)
    match error:
        case Refused():
            return of_refusal(pack.explain(error), language)
        case Failed():
            LOG.error("%s %s", error.fault, error.code)
            return of_fault(error, language)
        case Misfit():
            return of_errors((error.error,), language)
        case RequestValidationError():
            # FastAPI's own answer would carry the input, its messages may: place and kind are enough.
            found = (FieldError(".".join(str(part) for part in e["loc"]), e["type"]) for e in error.errors())
            return of_errors(tuple(found), language)
        case HTTPException():
            return of_status(error.status_code, language, dict(error.headers or {}))
        case _:
            return of_fault(unexpected(error), language)


def language_of(request: Request) -> Language:
    """The language of an answer to that request."""
    return preferred(request.headers.get("accept-language"))


def _titled(status: int, language: Language, **members: object) -> Problem:
    chinese, english = TITLES.get(status, TITLES[400])
    title = chinese if language is Language.ZH else english
    fields = {"title": title, "title_zh": chinese, "title_en": english, "status": status, **members}
    return msgspec.convert(fields, Problem)


def _respond(document: Problem, language: Language, headers: dict[str, str]) -> Response:
    spoken = {"Content-Language": language.value, "Vary": "Accept-Language", **headers}
    return Response(msgspec.json.encode(document), document.status, spoken, MEDIA_TYPE)
