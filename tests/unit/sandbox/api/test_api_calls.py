"""Open products over HTTP, with a real enclave behind: opening, calls, receipts, closing."""

from __future__ import annotations

import base64
import secrets
from typing import Any

import httpx
import pytest

from enclave_runner.contract.call import Call as WireCall
from enclave_runner.contract.call import CallReceipt, Offer, commitment, open_settled
from enclave_runner.contract.codec import decode, encode
from enclave_runner.contract.wire import CallReply, OfferReply
from sandbox.api.calls import CALL_BYTES, SMALL_BYTES
from sandbox.api.guard import JSON_BYTES
from tests.support.api_world import ApiWorld, is_problem, opening_of
from tests.support.called import a_call, plain
from tests.support.deployment import BANK, PAID, PRODUCT
from tests.support.http_server import raw_exchange

CHECK = {
    "type": "check",
    "dataset_id": "people",
    "attribute": "active",
    "kind": "equals",
    "modes": ["P0", "P1"],
    "says_unknown": True,
}
NAME = "called-over-http"
CALLS = f"/v1/products/{NAME}/calls"
CANARY = "CANARY-IDENTIFIER"


@pytest.fixture(scope="module")
def offer(api: ApiWorld) -> Offer:
    """The offer of a product that was opened over HTTP."""
    product = {"product_id": NAME, "grant_id": PAID, "title": "x", "job": CHECK, "needs_consent": False}
    assert api.post("operator", "/v1/products", product).status_code == 201
    begun = api.post("operator", f"/v1/products/{NAME}/opening", {"days": 10, "calls": 1000})
    assert begun.status_code == 202
    assert begun.json()["orders"][0]["status"] in ("opening", "open")
    state = opening_of(api, NAME, "open")
    assert state["orders"][0]["max_calls"] == 1000
    reply = decode(api.get("bank", f"/v1/products/{NAME}/offer").content, OfferReply)
    return decode(reply.offer.payload, Offer)


def send(api: ApiWorld, call: WireCall, role: str = "bank", path: str = CALLS) -> httpx.Response:
    headers = api.headers(role) | {"Content-Type": "application/json"}
    return api.client.post(path, content=encode(call), headers=headers)


def answered(answer: httpx.Response) -> tuple[Any, CallReceipt, CallReply]:
    assert answer.status_code == 200, answer.text
    reply = decode(answer.content, CallReply)
    return reply.answer, decode(reply.settled.receipt, CallReceipt), reply


def test_a_call_is_answered_with_a_receipt_that_verifies_offline(api: ApiWorld, offer: Offer) -> None:
    call = a_call(offer.version, plain("p1", "p0", "nobody", claim="true"))
    answer, _, reply = answered(send(api, call))
    assert answer.verdicts == ("yes", "no", "cannot-say")
    receipt, _ = open_settled(reply.settled, (api.world.office.enclave_key,))
    assert (receipt.caller_id, receipt.units, receipt.product_id) == (BANK, 3, NAME)
    assert receipt.commitment == commitment(call.salt, call.ask, answer)


def test_the_very_same_call_again_is_answered_again_and_paid_once(api: ApiWorld, offer: Offer) -> None:
    call = a_call(offer.version, plain("p2", claim="true"))
    first = send(api, call)
    assert send(api, call).content == first.content
    other = a_call(offer.version, plain("p4", claim="true"), call.call_id)
    assert is_problem(send(api, other), 409, "call.used")
    receipts = api.get("bank", "/v1/calls").json()["receipts"]
    assert [item["call_id"] for item in receipts].count(call.call_id.hex()) == 1


def test_calls_are_metered_and_listed(api: ApiWorld, offer: Offer) -> None:
    _, receipt, _ = answered(send(api, a_call(offer.version, plain("p5", "p6", claim="true"))))
    name = f"call-{receipt.sequence:016d}"
    (event,) = [event for event in api.get("bank", "/v1/meter-events").json()["events"] if event["receipt_id"] == name]
    assert (event["units"], event["unit_price_fen"], event["submission_id"]) == (2, 50, None)
    page = api.get("operator", f"/v1/calls?since={receipt.sequence}").json()
    assert page["receipts"][0]["call_id"] == receipt.call_id
    assert page["following"] is None
    assert api.get("insurer", "/v1/calls").json() == {"receipts": [], "following": None}


def test_a_call_that_a_rule_of_the_enclave_refuses_is_answered_with_its_receipt(api: ApiWorld, offer: Offer) -> None:
    answer, receipt, reply = answered(send(api, a_call("another-version", plain("p1"))))
    assert (answer, receipt.units, reply.rule) == (None, 0, "call.stale-version")


def test_a_refusal_before_the_enclave_is_a_problem(api: ApiWorld, offer: Offer) -> None:
    call = a_call(offer.version, plain(CANARY))
    for role, path, status, rule in (
        ("insurer", CALLS, 403, "scenario.recipient"),
        ("bureau", CALLS, 403, "access.caller-only"),
        ("bank", "/v1/products/nothing/calls", 404, "record.unknown"),
        ("bank", f"/v1/products/{PRODUCT}/calls", 409, "product.one-by-one"),
    ):
        refused = send(api, call, role, path)
        assert is_problem(refused, status, rule)
        assert CANARY not in refused.text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"call_id": "AAAA"}',
        b'{"ask": {"type": "plain", "asked": []}}',
        f'{{"call_id": "{CANARY}"}}'.encode(),
        b"\xff\xfe",
        b"[" * 50_000,
    ],
)
def test_what_is_no_call_is_a_misfit_that_quotes_nothing(api: ApiWorld, offer: Offer, body: bytes) -> None:
    headers = api.headers("bank") | {"Content-Type": "application/json"}
    answer = api.client.post(CALLS, content=body, headers=headers)
    assert is_problem(answer, 422)
    assert CANARY not in answer.text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("call_id", b"x" * 15),
        ("call_id", b"x" * 17),
        ("salt", b"x" * 31),
        ("version", "v" * 65),
        ("ask", {"type": "equality", "subject": "p1", "blinded": base64.b64encode(bytes(31)).decode()}),
        ("ask", {"type": "plain", "asked": [{"subject": "p" * 65}]}),
        ("ask", {"type": "plain", "asked": [{"subject": "p1", "claim": "c" * 201}]}),
        ("ask", {"type": "plain", "asked": [{"subject": "p1"}] * 10_001}),
        ("ask", {"type": "nothing"}),
    ],
)
def test_every_length_of_a_call_is_held(api: ApiWorld, offer: Offer, name: str, value: object) -> None:
    fields: dict[str, object] = {
        "call_id": secrets.token_bytes(16),
        "salt": secrets.token_bytes(32),
        "version": offer.version,
        "ask": plain("p1"),
        name: value,
    }
    headers = api.headers("bank") | {"Content-Type": "application/json"}
    assert is_problem(api.client.post(CALLS, content=encode(fields), headers=headers), 422)


def test_a_call_is_json_and_has_a_key(api: ApiWorld, offer: Offer) -> None:
    body = encode(a_call(offer.version, plain("p1")))
    json = {"Content-Type": "application/json"}
    assert is_problem(api.client.post(CALLS, content=body, headers=api.headers("bank")), 415)
    assert is_problem(api.client.post(CALLS, content=body, headers=json), 401, "key.unknown")
    wrong = {"Authorization": "Bearer yunei_000000000000_" + "x" * 43, **json}
    assert is_problem(api.client.post(CALLS, content=body, headers=wrong), 401, "key.unknown")


def test_a_batch_of_ten_thousand_passes_and_what_is_larger_than_any_call_does_not(api: ApiWorld, offer: Offer) -> None:
    subjects = [f"{number:064d}" for number in range(10_000)]
    call = a_call(offer.version, plain(*subjects, claim="true" * 40))
    assert len(encode(call)) > JSON_BYTES
    answer, receipt, reply = answered(send(api, call))
    assert reply.rule is not None or (len(answer.verdicts), receipt.units) == (10_000, 10_000)
    headers = api.headers("bank") | {"Content-Type": "application/json"}
    assert is_problem(api.client.post(CALLS, content=b"x" * (CALL_BYTES + 1), headers=headers), 413)


def test_a_long_body_is_read_only_after_its_sender_is_known(api: ApiWorld, offer: Offer) -> None:
    head = (
        f"POST {CALLS} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer yunei_000000000000_{'x' * 43}\r\nContent-Length: {SMALL_BYTES + 1}\r\n\r\n"
    )
    assert b"401" in raw_exchange(api.base, head.encode() + b"{", timeout=5).split(b"\r\n")[0]


def test_a_hint_of_a_product_that_hides_nobody_is_refused(api: ApiWorld, offer: Offer) -> None:
    assert api.get("bank", f"/v1/products/{NAME}/hint?version={offer.version}").status_code in (404, 409, 422)
    assert is_problem(api.get("bank", f"/v1/products/{NAME}/hint"), 422)
    assert is_problem(api.get("bank", f"/v1/products/{NAME}/hint?version=x&offset=-1"), 422)


@pytest.mark.parametrize("body", [{"days": 0}, {"calls": 0}, {"days": "x"}, {"more": 1}])
def test_what_is_no_opening_is_a_misfit(api: ApiWorld, offer: Offer, body: dict[str, object]) -> None:
    assert is_problem(api.post("operator", f"/v1/products/{NAME}/opening", body), 422)


def test_an_open_product_is_refreshed_while_it_answers_and_closed_at_once(api: ApiWorld) -> None:
    name = "refreshed-over-http"
    path = f"/v1/products/{name}"
    product = {"product_id": name, "grant_id": PAID, "title": "x", "job": CHECK, "needs_consent": False}
    assert api.post("operator", "/v1/products", product).status_code == 201
    call = a_call("x", plain("p1", claim="true"))
    assert is_problem(send(api, call, path=f"{path}/calls"), 409, "product.not-open")
    api.post("operator", f"{path}/opening")
    first = opening_of(api, name, "open")["orders"][0]
    assert is_problem(api.post("operator", f"{path}/opening"), 409, "product.is-open")
    assert api.post("operator", f"{path}/opening", {"refresh": True}).status_code == 202
    second = opening_of(api, name, "open")
    assert second["orders"][0]["ticket_id"] != first["ticket_id"]
    assert second["offer"]["version"] != first["version"]
    answer, _, reply = answered(send(api, a_call(first["version"], plain("p1")), path=f"{path}/calls"))
    assert (answer, reply.rule) == (None, "call.stale-version")
    answer, _, _ = answered(
        send(api, a_call(second["offer"]["version"], plain("p1", claim="true")), path=f"{path}/calls")
    )
    assert answer.verdicts == ("yes",)
    closed = api.post("bureau", f"{path}/closing")
    assert {order["status"] for order in closed.json()["orders"]} == {"closed"}
    assert is_problem(send(api, call, path=f"{path}/calls"), 409, "product.not-open")
    assert is_problem(api.get("bank", f"{path}/offer"), 409, "product.not-open")


def test_a_suspended_product_refuses_the_next_call(api: ApiWorld, offer: Offer) -> None:
    assert api.post("operator", f"/v1/products/{NAME}/suspension").status_code == 200
    assert is_problem(send(api, a_call(offer.version, plain("p1"))), 409, "product.not-published")
    product = {"product_id": NAME, "grant_id": PAID, "title": "x", "job": CHECK, "needs_consent": False}
    assert api.post("operator", "/v1/products", product).status_code == 201
    assert answered(send(api, a_call(offer.version, plain("p1", claim="true"))))[2].rule is None


def test_alarms_are_told_to_the_bureau(api: ApiWorld, offer: Offer) -> None:
    assert isinstance(api.get("bureau", "/v1/alarms").json(), list)
    assert is_problem(api.get("bank", "/v1/alarms"), 403, "access.bureau-only")


def test_a_product_that_would_hide_whose_consent_it_needs_is_not_published(api: ApiWorld) -> None:
    job = CHECK | {"modes": ["P0", "P4"], "says_unknown": False}
    product = {"product_id": "hidden", "grant_id": PAID, "title": "x", "job": job, "needs_consent": True}
    assert is_problem(api.post("operator", "/v1/products", product), 422, "product.hidden-consent")
