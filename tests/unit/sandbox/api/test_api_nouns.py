"""Each noun once, over a real socket and a real enclave: what a write makes, a read shows."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import datetime

import httpx
import msgspec
import pytest

from enclave_runner.contract.grant import PURPOSE, Grant
from enclave_runner.contract.grant import Purpose as PurposeClass
from enclave_runner.contract.signing import KeyFile, seal
from sandbox.api import models
from sandbox.api.app import create_app
from sandbox.rules.months import SHANGHAI, month_bounds
from tests.support.api_world import COUNT_SQL, ApiWorld, fresh_key, is_problem, query
from tests.support.deployment import BANK, FREE, OPERATOR, PAID, PRODUCT, grant
from tests.support.http_server import raw_exchange, serving
from tests.support.onnx_models import identity

LATER = "2027-06-01T00:00:00Z"
FEATURES = "SELECT income FROM people"


def scenario(name: str) -> dict[str, object]:
    return {
        "scenario_id": name,
        "operator_id": OPERATOR,
        "title": "接口测试场景",
        "purpose": "public-interest",
        "evidence_sha256": hashlib.sha256(b"approval").hexdigest(),
        "recipients": [BANK],
        "valid_until": LATER,
    }


def draft(api: ApiWorld, name: str, scenario_id: str) -> dict[str, object]:
    return {
        "grant_id": name,
        "operator_id": OPERATOR,
        "operator_code": api.world.actor(OPERATOR).party.credit_code,
        "scenario_id": scenario_id,
        "purpose": "public-interest",
        "modes": ["query"],
        "scopes": [{"dataset_id": "people", "columns": ["district"]}],
        "not_before": "2026-01-01T00:00:00Z",
        "deadline": "2027-05-01T00:00:00Z",
        "budgets": [{"entity_set": "resident", "pico_rho": 10**12}],
        "max_uses": 5,
    }


def test_a_party_is_registered_suspended_and_restored(api: ApiWorld) -> None:
    new = {"party_id": "biz-new", "name": "新企业", "role": "business", "credit_code": "91110000600037341L"}
    made = api.post("bureau", "/v1/parties", new)
    assert made.status_code == 201
    assert made.json() == {**new, "status": "active"}
    for status in ("suspended", "active"):
        changed = api.put("bureau", "/v1/parties/biz-new/status", {"status": status, "ground": "整改"})
        assert changed.json()["status"] == status
    assert api.get("bureau", "/v1/parties/biz-new").json() == made.json()
    again = api.put("bureau", "/v1/parties/biz-new/status", {"status": "terminated", "ground": "整改"})
    assert is_problem(again, 409, "lifecycle.illegal")


def test_a_wrong_credit_code_is_refused_by_its_rule(api: ApiWorld) -> None:
    new = {"party_id": "biz-wrong", "name": "x", "role": "business", "credit_code": "91110000600037341X"}
    answer = api.post("bureau", "/v1/parties", new)
    assert is_problem(answer, 422, "party.credit-code")
    assert answer.json()["article"] == "12"
    assert is_problem(api.get("bureau", "/v1/parties/biz-wrong"), 404, "record.unknown")


def test_a_key_is_shown_once_and_a_replay_does_not_show_it(api: ApiWorld) -> None:
    key, body = fresh_key(), {"party_id": BANK, "person": "new-clerk"}
    first = api.post("bureau", "/v1/keys", body, **{"Idempotency-Key": key}).json()
    again = api.post("bureau", "/v1/keys", body, **{"Idempotency-Key": key})
    token = first.pop("token")
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json() == {**first, "token": None}
    assert api.client.get("/v1/products", headers={"Authorization": f"Bearer {token}"}).status_code == 200
    listed = api.get("bureau", f"/v1/keys?party={BANK}")
    assert first["key_id"] in {entry["key_id"] for entry in listed.json()}
    assert token not in listed.text
    assert hashlib.sha256(token.encode()).hexdigest() not in listed.text
    assert api.post("bureau", f"/v1/keys/{first['key_id']}/revocation").json() == {"key_id": first["key_id"]}
    assert api.client.get("/v1/products", headers={"Authorization": f"Bearer {token}"}).status_code == 401


def test_the_token_stands_in_no_file_of_the_deployment(api: ApiWorld) -> None:
    token = api.post("bureau", "/v1/keys", {"party_id": BANK, "person": "searched"}).json()["token"]
    secret = token.split("_", 2)[2].encode()
    files = [path for path in api.world.home.bureau.rglob("*") if path.is_file()]
    assert len(files) > 5
    assert [path.name for path in files if secret in path.read_bytes()] == []


def test_the_catalogue_shows_bounds_and_domains(api: ApiWorld) -> None:
    entry = api.get("bank", "/v1/datasets/people").json()
    columns = {column["name"]: column for column in entry["spec"]["columns"]}
    assert columns["district"]["domain"] == ["north", "south"]
    assert [item["spec"]["dataset_id"] for item in api.get("bank", "/v1/datasets").json()] == ["people"]
    assert is_problem(api.get("bank", "/v1/datasets/nothing"), 404, "record.unknown")


def test_a_grant_is_drafted_signed_used_and_revoked(api: ApiWorld) -> None:
    """The officer's key signs on the officer's side, over what the API shows."""
    assert api.post("bureau", "/v1/scenarios", scenario("scenario-api")).status_code == 201
    assert api.get("operator", "/v1/scenarios/scenario-api").json()["purpose"] == "public-interest"
    drafted = api.post("bureau", "/v1/grants", draft(api, "grant-api", "scenario-api"))
    assert (drafted.status_code, drafted.json()["status"]) == (201, "draft")
    job = {"grant_id": "grant-api", "job": query("0.05")}
    assert api.post("operator", "/v1/submissions", job).status_code == 403
    seen = msgspec.convert(api.get("bureau", "/v1/grants/grant-api").json()["grant"], Grant, strict=False)
    signed = api.put("bureau", "/v1/grants/grant-api/signature", seal(seen, PURPOSE, api.world.officer))
    assert (signed.status_code, signed.json()["status"]) == (200, "signed")
    assert api.post("operator", "/v1/submissions", job).json()["submission"]["status"] == "released"
    assert api.post("bureau", "/v1/grants/grant-api/revocation").json()["status"] == "revoked"
    assert api.post("operator", "/v1/submissions", job).status_code == 403
    assert {"grant-api"} <= {record["grant"]["grant_id"] for record in api.get("operator", "/v1/grants").json()}


def test_a_signature_of_anybody_else_is_refused(api: ApiWorld, tmp_path_factory: pytest.TempPathFactory) -> None:
    name = "grant-unsigned"
    assert api.post("bureau", "/v1/scenarios", scenario("scenario-unsigned")).status_code == 201
    drafted = api.post("bureau", "/v1/grants", draft(api, name, "scenario-unsigned")).json()
    seen = msgspec.convert(drafted["grant"], Grant, strict=False)
    stranger = KeyFile.create(tmp_path_factory.mktemp("stranger") / "stranger.key")
    refused = api.put("bureau", f"/v1/grants/{name}/signature", seal(seen, PURPOSE, stranger))
    assert refused.json()["rule"] == "signature.invalid"
    assert api.get("bureau", f"/v1/grants/{name}").json()["status"] == "draft"


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"deadline": "9999-12-31T23:59:59-14:00"}, "$"),
        ({"not_before": "1999-01-01T00:00:00Z"}, "$"),
        ({"grant_id": "a/b"}, "$.grant_id"),
        ({"grant_id": "newline\n"}, "$.grant_id"),
        ({"budgets": [{"entity_set": "resident", "pico_rho": -1}]}, "$.budgets[0]"),
        ({"budgets": [{"entity_set": "resident", "pico_rho": 0.5}]}, "$.budgets[0].pico_rho"),
        ({"max_uses": 0}, "$"),
        ({"modes": []}, "$"),
        ({"unheard": 1}, "$"),
    ],
)
def test_a_draft_that_does_not_fit_says_where(api: ApiWorld, change: dict[str, object], place: str) -> None:
    answer = api.post("bureau", "/v1/grants", draft(api, "grant-misfit", f"scenario-{FREE}") | change)
    assert is_problem(answer, 422)
    assert [error["place"] for error in answer.json()["errors"]] == [place]


def test_a_quote_writes_nothing_and_spends_nothing(api: ApiWorld) -> None:
    before = api.get("operator", "/v1/budgets").json()
    answer = api.client.post(
        "/v1/quotes",
        headers=api.headers("operator") | {"Content-Type": "application/json"},
        content=msgspec.json.encode({"grant_id": PAID, "job": query()}),
    )
    quoted = answer.json()
    assert answer.status_code == 200
    assert quoted["charge"]["unit_price_fen"] > 0
    assert [measure["name"] for measure in quoted["quote"]["measures"]] == ["n"]
    assert api.get("operator", "/v1/budgets").json() == before


@pytest.mark.parametrize("epsilon", ["0", "-1", "NaN", "Infinity", "1e99", ""])
def test_an_absurd_budget_is_a_misfit(api: ApiWorld, epsilon: str) -> None:
    answer = api.post("operator", "/v1/submissions", {"grant_id": FREE, "job": query(epsilon)})
    assert is_problem(answer, 422)


def test_a_submission_runs_and_its_release_can_be_fetched_again(api: ApiWorld) -> None:
    done = api.post("operator", "/v1/submissions", {"grant_id": PAID, "job": query()})
    outcome = done.json()
    submission_id = outcome["submission"]["submission_id"]
    assert outcome["submission"]["status"] == outcome["receipt"]["outcome"] == "released"
    assert [row[0] for row in outcome["release"]["rows"]] == ["north", "south"]
    assert outcome["refusal"] is None
    assert api.get("operator", f"/v1/releases/{submission_id}").json() == outcome
    assert api.get("operator", f"/v1/submissions/{submission_id}").json() == outcome["submission"]
    assert api.get("other-operator", f"/v1/releases/{submission_id}").status_code == 403


def test_a_retry_finds_the_same_submission(api: ApiWorld) -> None:
    key, body = fresh_key(), {"grant_id": PAID, "job": query("0.02")}
    first, again = (api.post("operator", "/v1/submissions", body, **{"Idempotency-Key": key}) for _ in range(2))
    assert first.content == again.content
    assert again.headers["idempotency-replayed"] == "true"


def test_a_refusal_names_the_rule_and_what_would_make_it_pass(api: ApiWorld) -> None:
    sql = "SELECT note, COUNT(*) AS n FROM people GROUP BY note"
    answer = api.post("operator", "/v1/submissions", {"grant_id": FREE, "job": query(sql=sql)})
    body = answer.json()
    assert 400 <= answer.status_code < 500
    assert {"rule", "article", "reason", "remedy", "reason_zh", "remedy_zh"} <= body.keys()


def test_a_model_waits_for_its_reviewer_and_then_runs(api: ApiWorld) -> None:
    content = identity(1)
    kept = api.post("operator", "/v1/models", content)
    assert kept.status_code == 201
    assert kept.json() == {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
    job = {
        "type": "model",
        "sql": FEATURES,
        "budget": {"epsilon": "0.2"},
        "model_sha256": kept.json()["sha256"],
        "output": "score",
        "bins": 4,
    }
    waiting = api.post("operator", "/v1/submissions", {"grant_id": PAID, "job": job}).json()
    submission_id = waiting["submission"]["submission_id"]
    assert (waiting["submission"]["status"], waiting["receipt"]) == ("in-review", None)
    assert is_problem(api.get("operator", f"/v1/releases/{submission_id}"), 409, "submission.unsettled")
    review = {"verdict": "approve", "ground": "用途一致"}
    approved = api.post("reviewer", f"/v1/submissions/{submission_id}/reviews", review)
    assert approved.status_code == 201
    assert approved.json()["status"] == "released"
    release = api.get("operator", f"/v1/releases/{submission_id}").json()["release"]
    assert len(release["rows"]) >= 4
    late = api.post("second-reviewer", f"/v1/submissions/{submission_id}/reviews", review)
    assert is_problem(late, 409, "review.closed")


def test_an_ended_scenario_admits_no_use(api: ApiWorld) -> None:
    grant(api.world, "grant-ended", PurposeClass.PUBLIC_INTEREST)
    ended = api.post("bureau", "/v1/scenarios/scenario-grant-ended/end")
    assert ended.status_code == 200
    refused = api.post("operator", "/v1/submissions", {"grant_id": "grant-ended", "job": query()})
    assert is_problem(refused, 403, "scenario.expired")
    assert is_problem(api.post("bureau", "/v1/scenarios/scenario-grant-ended/end"), 403, "scenario.expired")


@pytest.mark.parametrize("sha256", ["0" * 64, "../../keys/control.key", "A" * 64, ""])
def test_a_model_that_was_not_uploaded_is_unknown(api: ApiWorld, sha256: str) -> None:
    job = {"type": "model", "sql": FEATURES, "budget": {"epsilon": "0.2"}, "model_sha256": sha256, "output": "score"}
    answer = api.post("operator", "/v1/submissions", {"grant_id": PAID, "job": job})
    assert answer.json()["rule"] == "model.unknown"


def test_a_model_over_the_limit_is_turned_away_before_it_is_read(api: ApiWorld) -> None:
    limit = models.max_bytes(api.world.office)
    kept = set(api.world.home.artefacts.iterdir())
    assert is_problem(api.post("operator", "/v1/models", b"x" * (limit + 1)), 413)
    head = (
        f"POST /v1/models HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {api.tokens['operator']}\r\n"
        f"Idempotency-Key: {fresh_key()}\r\nContent-Type: application/octet-stream\r\nContent-Length: {1 << 30}\r\n\r\n"
    )
    assert raw_exchange(api.base, head.encode()).startswith(b"HTTP/1.1 413 ")
    assert set(api.world.home.artefacts.iterdir()) == kept


def test_a_model_up_to_the_limit_passes(api: ApiWorld) -> None:
    limit = models.max_bytes(api.world.office)
    assert api.post("operator", "/v1/models", b"x" * limit).json()["size_bytes"] == limit


def test_a_model_is_a_file_and_not_json(api: ApiWorld) -> None:
    assert is_problem(api.post("operator", "/v1/models", {"model": "x"}), 415)


def test_a_product_is_published_called_and_suspended(api: ApiWorld) -> None:
    product = {
        "product_id": "api-product",
        "grant_id": PAID,
        "title": "是否有效",
        "job": {"type": "verification", "dataset_id": "people", "attribute": "active", "predicate": "equals"},
        "needs_consent": True,
    }
    published = api.post("operator", "/v1/products", product)
    assert (published.status_code, published.json()["operator_id"]) == (201, OPERATOR)
    assert api.get("bank", "/v1/products/api-product").json() == published.json()
    call = {"product_id": "api-product", "subject": "p1", "claim": "true"}
    assert is_problem(api.post("bank", "/v1/verifications", call), 403, "consent.missing")
    consent = {"product_id": "api-product", "business_id": BANK, "identifier": "p1", "expires_at": LATER}
    filed = api.post("bureau", "/v1/consents", consent)
    assert filed.status_code == 201
    for who, listed in (("bureau", True), ("bank", True), ("insurer", False)):
        assert (filed.json() in api.get(who, "/v1/consents").json()) is listed
    assert filed.json()["subject"] != "p1"
    answered = api.post("bank", "/v1/verifications", call)
    assert (answered.status_code, answered.json()["release"]["answer"]) == (201, "yes")
    withdrawn = api.post("bureau", f"/v1/consents/{filed.json()['consent_id']}/withdrawal")
    assert withdrawn.json()["withdrawn_at"] is not None
    assert is_problem(api.post("bank", "/v1/verifications", call), 403, "consent.missing")
    assert api.post("operator", "/v1/products/api-product/suspension").json()["status"] == "suspended"
    assert api.post("bank", "/v1/verifications", call).json()["rule"] == "product.not-published"


@pytest.mark.parametrize(
    ("subject", "claim", "answer"), [("p1", "true", "yes"), ("p0", "true", "no"), ("nobody", "true", "no-record")]
)
def test_a_verification_lets_one_word_out(api: ApiWorld, subject: str, claim: str, answer: str) -> None:
    asked = {"product_id": PRODUCT, "subject": subject, "claim": claim}
    answered = api.post("bank", "/v1/verifications", asked)
    assert answered.json()["release"]["answer"] == answer
    assert answered.json()["submission"]["requester_id"] == BANK


def test_a_verification_asked_twice_under_one_key_is_one_use(api: ApiWorld) -> None:
    key, asked = fresh_key(), {"product_id": PRODUCT, "subject": "p2", "claim": "true"}
    before = api.get("bank", "/v1/meter-events").json()
    first, again = (api.post("bank", "/v1/verifications", asked, **{"Idempotency-Key": key}) for _ in range(2))
    after = api.get("bank", "/v1/meter-events").json()
    assert first.content == again.content
    assert len(after["events"]) == len(before["events"]) + 1
    price = first.json()["receipt"]["charge"]["unit_price_fen"]
    assert after["total_fen"] == before["total_fen"] + price


def test_the_spent_budget_is_told_in_whole_numbers(api: ApiWorld) -> None:
    grant(api.world, "grant-budget", PurposeClass.PUBLIC_INTEREST)
    done = api.post("operator", "/v1/submissions", {"grant_id": "grant-budget", "job": query()}).json()
    budgets = api.get("operator", "/v1/budgets").json()
    (mine,) = [item for item in budgets["grants"] if item["grant_id"] == "grant-budget"]
    assert mine["losses"] == done["receipt"]["losses"]
    assert mine["uses"] == 1
    assert all(isinstance(reading["spent"], int) for reading in budgets["readings"])


def test_the_months_invoice_is_the_sum_of_its_events(api: ApiWorld) -> None:
    payer, month = BANK, api.world.office.clock().astimezone(SHANGHAI).strftime("%Y-%m")
    api.post("bank", "/v1/verifications", {"product_id": PRODUCT, "subject": "p5", "claim": "true"})
    billed = api.get("bank", f"/v1/meter-events?month={month}").json()
    asked, write = {"payer_id": payer, "month": month}, api.headers("bureau")
    assert is_problem(api.post("bureau", "/v1/invoices", asked), 409, "invoice.month-open")
    drafts = [api.get(who, f"/v1/invoices/draft?payer_id={payer}&month={month}") for who in ("bank", "bureau")]
    assert is_problem(api.get("insurer", f"/v1/invoices/draft?payer_id={payer}&month={month}"), 403, "access.foreign")
    assert api.get("bank", "/v1/invoices").json() == []
    later = replace(api.world.office, clock=lambda: month_bounds(month)[1])
    with serving(create_app(later)) as base, httpx.Client(base_url=base) as client:
        first, again = (
            client.post("/v1/invoices", headers=write | {"Idempotency-Key": fresh_key()}, json=asked) for _ in range(2)
        )
    assert [draft.json() for draft in drafts] == [first.json()] * 2
    assert (first.status_code, first.json()) == (201, again.json())
    lines = [*first.json()["invoice"]["lines"], *first.json()["invoice"]["call_lines"]]
    assert first.json()["total_fen"] == sum(line["amount_fen"] for line in lines)
    assert first.json()["total_fen"] == billed["total_fen"] > 0
    assert first.json() in api.get("bank", "/v1/invoices").json()
    assert api.get("insurer", "/v1/invoices").json() == []


@pytest.mark.parametrize("month", ["2026-13", "2026-1", "0000-01", "now", "2026-01\n"])
def test_a_month_that_is_none_is_no_fault_of_ours(api: ApiWorld, month: str) -> None:
    assert api.post("bureau", "/v1/invoices", {"payer_id": BANK, "month": month}).status_code == 422


def test_the_audit_report_is_sound_after_all_this(api: ApiWorld) -> None:
    report = api.get("bureau", "/v1/audit").json()
    assert report["ok"] is True
    assert len(report["checks"]) >= 5


def test_about_names_the_key_that_signs_receipts(api: ApiWorld) -> None:
    about = api.client.get("/v1/about").json()
    office = api.world.office
    assert about["enclave_key_id"] == office.enclave_key.key_id
    assert about["policy_sha256"] == about["enclave_policy_sha256"] == office.pack.sha256
    assert api.client.get("/v1/health").json() == {"control": "ok", "enclave": "ok"}


def test_times_are_utc_and_money_is_whole(api: ApiWorld) -> None:
    events = api.post("operator", "/v1/submissions", {"grant_id": PAID, "job": query("0.02", COUNT_SQL)}).json()
    finished = events["receipt"]["finished_at"]
    assert finished.endswith("Z")
    assert datetime.fromisoformat(finished).tzinfo is not None
    assert isinstance(events["receipt"]["charge"]["unit_price_fen"], int)
