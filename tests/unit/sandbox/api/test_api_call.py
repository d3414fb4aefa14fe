"""Keys, idempotency and bodies: what holds for every noun."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import threading

import httpx
import pytest

from enclave_runner.contract.codec import encode
from sandbox.domain.party import PartyStatus
from sandbox.store.database import reading
from sandbox.workflow.keys import create_api_key, revoke_api_key
from sandbox.workflow.parties import set_party_status
from tests.support.api_world import ApiWorld, fresh_key, is_problem, query
from tests.support.articles import credit_code_of
from tests.support.deployment import BANK, FREE, PRODUCT

CANARY = "CANARY-11010519491231002X"


def new_party(party_id: str) -> dict[str, str]:
    """An organisation that is not registered yet."""
    return {"party_id": party_id, "name": "测试机构", "role": "business", "credit_code": credit_code_of(party_id)}


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "Bearer",
        "Bearer nonsense",
        "Bearer yunei_000000000000_" + "A" * 43,
        "Bearer yunei_\xe4\xf6_" + "A" * 43,
        "Basic dXNlcjpwYXNz",
        "Bearer " + "x" * 5000,
    ],
)
def test_without_a_valid_key_nothing_is_said(api: ApiWorld, authorization: str | None) -> None:
    headers = {} if authorization is None else {b"authorization": authorization.encode("latin-1")}
    answer = api.client.get("/v1/parties", headers=headers)
    assert is_problem(answer, 401, "key.unknown")
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_one_wrong_character_in_a_key_is_enough(api: ApiWorld) -> None:
    token = api.tokens["bureau"]
    wrong = token[:-1] + ("A" if token[-1] != "A" else "B")
    answer = api.client.get("/v1/parties", headers={"Authorization": f"Bearer {wrong}"})
    assert is_problem(answer, 401, "key.unknown")
    assert wrong[-10:] not in answer.text


def test_a_withdrawn_key_opens_nothing(api: ApiWorld) -> None:
    bureau = api.world.actor()
    token = create_api_key(api.world.office, bureau, BANK, "leaver")
    headers = {"Authorization": f"Bearer {token}"}
    assert api.client.get("/v1/products", headers=headers).status_code == 200
    revoke_api_key(api.world.office, bureau, token.split("_")[1])
    assert is_problem(api.client.get("/v1/products", headers=headers), 401, "key.unknown")


def test_a_suspended_party_is_told_why(api: ApiWorld) -> None:
    office, bureau = api.world.office, api.world.actor()
    party = "dept-utilities"
    headers = {"Authorization": f"Bearer {create_api_key(office, bureau, party, 'clerk')}"}
    assert api.client.get("/v1/datasets", headers=headers).status_code == 200
    set_party_status(office, bureau, party, PartyStatus.SUSPENDED, "整改")
    answer = api.client.get("/v1/datasets", headers=headers | {"Accept-Language": "en"})
    assert is_problem(answer, 403, "party.inactive")
    assert answer.json()["article"] == "49"


def test_nobody_makes_us_read_a_body_without_a_key(api: ApiWorld) -> None:
    answer = api.send("POST", None, "/v1/models", b"x" * (1 << 20))
    assert is_problem(answer, 401, "key.unknown")


@pytest.mark.parametrize("key", [None, "", "short", "x" * 65, "with space", "semi;colon", "\u00fcmlaut-key"])
def test_a_write_needs_an_idempotency_key(api: ApiWorld, key: str | None) -> None:
    headers = api.headers("bureau") | {"Content-Type": "application/json"}
    if key is not None:
        headers["Idempotency-Key"] = key
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    answer = api.client.post("/v1/parties", content=b"{}", headers=raw)
    assert is_problem(answer, 422)
    assert [error["place"].lower() for error in answer.json()["errors"]] == ["header.idempotency-key"]


def test_the_same_key_and_body_give_the_same_answer_and_run_once(api: ApiWorld) -> None:
    key, body = fresh_key(), new_party("biz-once")
    first = api.post("bureau", "/v1/parties", body, **{"Idempotency-Key": key})
    again = api.post("bureau", "/v1/parties", body, **{"Idempotency-Key": key})
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.content == again.content
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    other_key = api.post("bureau", "/v1/parties", body)
    assert is_problem(other_key, 409, "record.exists")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/parties", new_party("biz-other-body")),
        ("/v1/keys", {"party_id": BANK, "person": "somebody"}),
    ],
)
def test_the_same_key_for_something_else_is_refused(api: ApiWorld, path: str, body: object) -> None:
    key = fresh_key()
    taken = api.post("bureau", "/v1/keys", {"party_id": BANK, "person": "first"}, **{"Idempotency-Key": key})
    assert taken.status_code == 201
    assert is_problem(api.post("bureau", path, body, **{"Idempotency-Key": key}), 409, "idempotency.reused")


def test_the_same_key_of_somebody_else_is_another_key(api: ApiWorld) -> None:
    key, body = fresh_key(), {"grant_id": FREE, "job": query()}
    operator = api.post("operator", "/v1/submissions", body, **{"Idempotency-Key": key})
    other = api.post("other-operator", "/v1/submissions", body, **{"Idempotency-Key": key})
    assert operator.status_code == 201
    assert other.status_code == 403
    assert "idempotency-replayed" not in other.headers


def test_a_refused_write_may_be_tried_again_under_its_key(api: ApiWorld) -> None:
    key, body = fresh_key(), {"party_id": "biz-later", "person": "clerk"}
    first = api.post("bureau", "/v1/keys", body, **{"Idempotency-Key": key})
    assert is_problem(first, 404, "record.unknown")
    assert api.post("bureau", "/v1/parties", new_party("biz-later")).status_code == 201
    again = api.post("bureau", "/v1/keys", body, **{"Idempotency-Key": key})
    assert again.status_code == 201
    assert "idempotency-replayed" not in again.headers


def test_many_at_once_under_one_key_run_once(api: ApiWorld) -> None:
    key, body = fresh_key(), {"grant_id": FREE, "job": query("0.05")}
    before = len(api.get("operator", "/v1/submissions").json())
    answers: list[httpx.Response] = []

    def ask() -> None:
        answers.append(api.post("operator", "/v1/submissions", body, **{"Idempotency-Key": key}))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(api.get("operator", "/v1/submissions").json()) == before + 1
    assert {answer.status_code for answer in answers} <= {201, 409}
    done = [answer.json()["submission"]["submission_id"] for answer in answers if answer.status_code == 201]
    assert len(done) >= 1
    assert len(set(done)) == 1


@pytest.mark.parametrize("media_type", ["text/plain", "application/xml", "multipart/form-data; boundary=x", ""])
def test_a_body_of_another_media_type_is_turned_away(api: ApiWorld, media_type: str) -> None:
    answer = api.post("bureau", "/v1/parties", {}, **{"Content-Type": media_type})
    assert is_problem(answer, 415)


def test_a_body_over_a_mebibyte_is_turned_away(api: ApiWorld) -> None:
    assert is_problem(api.post("bureau", "/v1/parties", {"name": "x" * (1 << 20)}), 413)


@pytest.mark.parametrize(
    ("role", "path", "body"),
    [
        ("bank", "/v1/verifications", {"product_id": PRODUCT, "subject": CANARY * 9, "claim": "true"}),
        ("bank", "/v1/verifications", {"product_id": PRODUCT, "subject": "p1", "claim": [CANARY]}),
        ("bank", "/v1/verifications", {"product_id": PRODUCT, "subject": "p1", CANARY: "true"}),
        ("bank", "/v1/verifications", {"product_id": PRODUCT, "subject": f"{CANARY}\u202e", "claim": CANARY}),
        ("bank", "/v1/verifications", {"product_id": CANARY, "subject": CANARY, "claim": CANARY}),
        ("bureau", "/v1/consents", {"product_id": PRODUCT, "business_id": BANK, "identifier": {"a": CANARY}}),
        ("bureau", "/v1/consents", {"product_id": PRODUCT, "business_id": CANARY, "identifier": CANARY}),
        ("bureau", "/v1/parties", {"party_id": CANARY, "name": CANARY, "role": CANARY, "credit_code": CANARY}),
        ("operator", "/v1/submissions", {"grant_id": FREE, "job": query(sql=f"SELECT '{CANARY}' FROM people")}),
        ("operator", "/v1/quotes", {"grant_id": FREE, "job": {"type": CANARY}}),
        ("operator", "/v1/quotes", {"grant_id": FREE, "job": query(CANARY)}),
    ],
)
def test_nothing_of_a_refused_body_comes_back_or_reaches_a_log(
    api: ApiWorld, caplog: pytest.LogCaptureFixture, role: str, path: str, body: object
) -> None:
    with caplog.at_level(logging.DEBUG):
        answer = api.post(role, path, body)
    assert 400 <= answer.status_code < 500
    assert CANARY not in answer.text
    assert CANARY not in str(answer.headers)
    # What the test's own client writes into the log is the caller's side.
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))]
    assert CANARY not in "".join(ours)


@pytest.mark.parametrize(
    ("path", "parameter"),
    [
        (f"/v1/parties/{CANARY}", "path"),
        (f"/v1/meter-events?month={CANARY}", "query"),
        (f"/v1/datasets/{CANARY}", "path"),
    ],
)
def test_nothing_of_a_refused_address_comes_back(api: ApiWorld, path: str, parameter: str) -> None:
    answer = api.get("bureau", path)
    assert is_problem(answer, 422)
    assert answer.json()["errors"][0]["place"].startswith(parameter)
    assert CANARY not in answer.text


def test_no_digest_of_a_body_can_be_searched_for_its_identifier(api: ApiWorld) -> None:
    """The fingerprint in the database is keyed with the caller's token, which stands in no table."""
    key, body = fresh_key(), {"product_id": PRODUCT, "subject": "p7", "claim": "true"}
    assert api.post("bank", "/v1/verifications", body, **{"Idempotency-Key": key}).status_code == 201
    with reading(api.world.office.engine) as connection:
        stored = connection.exec_driver_sql("SELECT fingerprint FROM idempotency WHERE key = ?", (key,)).scalar_one()
    message = b"POST /v1/verifications\n" + encode(body)
    keyed = hmac.new(api.tokens["bank"].encode(), message, hashlib.sha256).hexdigest()
    assert stored == keyed
    assert stored not in {hashlib.sha256(guess).hexdigest() for guess in (message, encode(body), b"p7")}


def test_an_unknown_address_and_method_are_problems(api: ApiWorld) -> None:
    nowhere = api.get("bureau", "/v1/nowhere")
    assert is_problem(nowhere, 404)
    wrong = api.client.delete("/v1/parties", headers=api.headers("bureau"))
    assert is_problem(wrong, 405)
    assert set(wrong.headers["allow"].split(", ")) >= {"GET"}
    assert is_problem(api.get("bureau", "/v1/parties/"), 404)


def test_no_page_loads_scripts_from_elsewhere(api: ApiWorld) -> None:
    for path in ("/docs", "/redoc", "/docs/oauth2-redirect"):
        assert is_problem(api.get("bureau", path), 404)


def test_the_language_is_the_callers(api: ApiWorld) -> None:
    english = api.get("bureau", "/v1/parties/nobody", **{"Accept-Language": "en"})
    chinese = api.get("bureau", "/v1/parties/nobody")
    assert (english.headers["content-language"], chinese.headers["content-language"]) == ("en", "zh-CN")
    assert english.json()["detail"] != chinese.json()["detail"]
    assert english.json()["reason_zh"] == chinese.json()["reason_zh"]


def test_json_is_utf8_without_escapes(api: ApiWorld) -> None:
    answer = api.get("bureau", "/v1/parties/bureau")
    assert "数据局" in answer.content.decode()
    assert json.loads(answer.content)["role"] == "bureau"
