from __future__ import annotations

import json
import logging

import msgspec
import pytest
from starlette.requests import Request

from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.grant import Grant
from enclave_runner.contract.job import QueryJob
from enclave_runner.contract.rulebook import PolicyPack
from sandbox.api import problem
from sandbox.api.call import decode
from sandbox.api.language import Language
from sandbox.api.openapi import PROBLEMS
from sandbox.api.parties import NewParty
from sandbox.settings import pack_folder

CANARY = "CANARY-11010519491231002X"


@pytest.fixture(scope="module")
def pack() -> PolicyPack:
    return PolicyPack(pack_folder())


def body_of(response: object) -> dict[str, object]:
    return json.loads(response.body)  # type: ignore[attr-defined, no-any-return]


def test_a_refusal_names_rule_article_reason_and_remedy_in_both_languages(pack: PolicyPack) -> None:
    response = problem.of_refusal(pack.explain(Refused("dataset.withheld", column="a", basis="law")), Language.EN)
    body = body_of(response)
    assert response.status_code == body["status"] == 403
    assert response.media_type == "application/problem+json"
    assert (body["rule"], body["article"], body["type"]) == (
        "dataset.withheld",
        "24",
        "urn:yunei:rule:dataset.withheld",
    )
    assert body["detail"] == f"{body['reason']} {body['remedy']}"
    assert "负面清单" in str(body["reason_zh"])


def test_the_title_and_the_detail_follow_the_language(pack: PolicyPack) -> None:
    refusal = pack.explain(Refused("access.denied"))
    chinese, english = (problem.of_refusal(refusal, language) for language in (Language.ZH, Language.EN))
    assert body_of(chinese)["title"] == body_of(chinese)["title_zh"] == "规则不允许"
    assert body_of(english)["title"] == body_of(english)["title_en"] == "Forbidden"
    assert body_of(chinese)["detail"] == f"{refusal.reason_zh}{refusal.remedy_zh}"
    assert (chinese.headers["content-language"], english.headers["content-language"]) == ("zh-CN", "en")
    assert chinese.headers["vary"] == "Accept-Language"


def test_an_unknown_key_is_challenged(pack: PolicyPack) -> None:
    response = problem.of_refusal(pack.explain(Refused("key.unknown")), Language.ZH)
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith("Bearer")


def test_every_status_of_the_rulebook_is_declared_in_the_description(pack: PolicyPack) -> None:
    assert {rule.status for rule in pack.rules.values()} <= set(PROBLEMS)


@pytest.mark.parametrize(("code", "status"), [("enclave.absent", 503), ("wire.closed", 503), ("job.answer", 500)])
def test_a_fault_tells_its_id_only(code: str, status: int) -> None:
    response = problem.of_fault(Failed(code, "fault-0123456789ab"), Language.EN)
    body = body_of(response)
    assert response.status_code == status
    assert body["fault"] == "fault-0123456789ab"
    assert code not in response.body.decode()
    assert ("retry-after" in response.headers) == (status == 503)


def test_what_nobody_foresaw_is_logged_by_id_and_type(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "yunei.api"):
        failed = problem.unexpected(KeyError(CANARY))
    assert caplog.messages == [f"{failed.fault} KeyError"]
    assert CANARY not in str(problem.of_fault(failed, Language.EN).body)


@pytest.mark.parametrize("status", [404, 405, 413, 415])
def test_http_itself_turns_away_with_a_problem(status: int) -> None:
    body = body_of(problem.of_status(status, Language.ZH))
    assert (body["type"], body["status"]) == ("about:blank", status)
    assert body["title"] == body["title_zh"] != body["title_en"]


@pytest.mark.parametrize(
    ("document", "kind", "place", "complaint"),
    [
        ({CANARY: 1}, NewParty, "$", None),
        ({"party_id": CANARY}, NewParty, "$.party_id", None),
        (
            {"party_id": "a", "name": "b", "role": CANARY, "credit_code": "c"},
            NewParty,
            "$.role",
            "not an accepted value",
        ),
        ({"party_id": 7}, NewParty, "$.party_id", "Expected `str`, got `int`"),
        ({"type": "query", "sql": "", "budget": {"epsilon": "1"}}, QueryJob, "$", "SQL text: 1 to 20 000 characters"),
        ({"type": CANARY}, QueryJob, "$.type", "not an accepted value"),
        ({"not_before": CANARY}, Grant, "$.not_before", "not an accepted value"),
        ([CANARY], Grant, "$", "Expected `object`, got `array`"),
    ],
)
def test_a_misfit_says_where_and_never_what(document: object, kind: type, place: str, complaint: str | None) -> None:
    with pytest.raises(problem.Misfit) as caught:
        decode(json.dumps(document).encode(), kind)
    assert caught.value.error.place == place
    assert CANARY not in repr(caught.value.error) + str(caught.value)
    if complaint is not None:
        assert caught.value.error.complaint == complaint


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'"\\ud800"', b'{"party_id": "\\u0000"}'])
def test_what_is_not_json_is_a_misfit(body: bytes) -> None:
    with pytest.raises(problem.Misfit) as caught:
        decode(body, NewParty)
    assert caught.value.error.place == "$"


def test_a_problem_leaves_out_what_it_does_not_say() -> None:
    response = problem.of_errors((problem.FieldError("$.name", "not an accepted value"),), Language.ZH)
    body = body_of(response)
    assert response.status_code == 422
    assert set(body) == {"type", "title", "title_zh", "title_en", "status", "errors"}


def test_a_validation_error_without_a_place_is_about_the_whole() -> None:
    assert problem.misfit(msgspec.ValidationError(CANARY)).error == problem.FieldError("$", "not an accepted value")


def test_an_error_of_no_known_kind_is_a_fault(pack: PolicyPack, caplog: pytest.LogCaptureFixture) -> None:
    request = Request({"type": "http", "headers": [(b"accept-language", b"en")]})
    response = problem.answer(pack, request, LookupError(CANARY))
    assert (response.status_code, body_of(response)["title"]) == (500, "Internal Server Error")
    assert CANARY not in caplog.text
    assert caplog.messages == [f"{body_of(response)['fault']} LookupError"]
