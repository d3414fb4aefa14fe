"""Who may do what over HTTP: every endpoint for every role. The rules stand in access.cedar; this comes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import httpx
import pytest

from enclave_runner.contract.grant import Purpose
from tests.support.api_world import DEPARTMENT, ApiWorld, opening_of, query
from tests.support.deployment import BANK, FREE, OPERATOR, PAID, PRODUCT, grant

ROLES = ("bureau", "department", "operator", "other-operator", "bank", "insurer")
EVERYBODY = frozenset(ROLES)
BUREAU = frozenset({"bureau"})
OPERATORS = frozenset({"operator", "other-operator"})
EVIDENCE = "0" * 64
LATER = "2027-01-01T00:00:00Z"

DRAFT = {
    "grant_id": "matrix",
    "operator_id": OPERATOR,
    "operator_code": "0" * 18,
    "scenario_id": f"scenario-{FREE}",
    "purpose": "public-interest",
    "modes": ["query"],
    "scopes": [{"dataset_id": "people", "columns": ["district"]}],
    "not_before": "2026-01-01T00:00:00Z",
    "deadline": LATER,
    "budgets": [],
    "max_uses": 1,
}
UNSIGNED = {"purpose": "grant", "key_id": "0" * 16, "algorithm": "ed25519", "payload": "e30=", "signature": "AAAA"}
VERIFICATION = {"type": "verification", "dataset_id": "people", "attribute": "active", "predicate": "equals"}
CHECK = {"type": "check", "dataset_id": "people", "attribute": "active", "kind": "equals", "modes": ["P0"]}
CALLED = "called-matrix"
CALL = {
    "call_id": "AAAAAAAAAAAAAAAAAAAAAA==",
    "salt": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "version": "x",
    "ask": {"type": "plain", "asked": [{"subject": "p1", "claim": "true"}]},
}


@dataclass(frozen=True)
class Case:
    """A request that is well-formed, and who is not turned away for who they are."""

    method: str
    path: str
    body: object
    may: frozenset[str]
    declared: str

    def send(self, api: ApiWorld, role: str, made: dict[str, str]) -> httpx.Response:
        """As somebody of that role."""
        path = self.path.format_map(made)
        if self.method == "GET":
            return api.get(role, path)
        return api.send(self.method, role, path, self.body)


def get(path: str, may: frozenset[str], declared: str | None = None) -> Case:
    return Case("GET", path, None, may, declared or path)


def post(path: str, body: object, may: frozenset[str], declared: str | None = None) -> Case:
    return Case("POST", path, body, may, declared or path)


def called(kind: Callable[..., Case], what: str, body: object, may: frozenset[str]) -> Case:
    """About the product that is open."""
    path, declared = f"/v1/products/{CALLED}/{what}", f"/v1/products/{{product_id}}/{what.partition('?')[0]}"
    return get(path, may, declared) if kind is get else post(path, body, may, declared)


CASES = (
    get("/v1/parties", EVERYBODY),
    get(f"/v1/parties/{BANK}", frozenset({"bureau", "bank"}), "/v1/parties/{party_id}"),
    post("/v1/parties", {"party_id": "x", "name": "x", "role": "business", "credit_code": "0" * 18}, BUREAU),
    Case(
        "PUT",
        f"/v1/parties/{BANK}/status",
        {"status": "active", "ground": "x"},
        BUREAU,
        "/v1/parties/{party_id}/status",
    ),
    post("/v1/keys", {"party_id": DEPARTMENT, "person": "matrix"}, BUREAU),
    get(f"/v1/keys?party={BANK}", BUREAU, "/v1/keys"),
    post("/v1/keys/000000000000/revocation", {}, BUREAU, "/v1/keys/{key_id}/revocation"),
    get("/v1/datasets", EVERYBODY),
    get("/v1/datasets/people", EVERYBODY, "/v1/datasets/{dataset_id}"),
    get("/v1/scenarios", EVERYBODY),
    get(
        f"/v1/scenarios/scenario-{FREE}",
        frozenset({"bureau", "operator", "bank"}),
        "/v1/scenarios/{scenario_id}",
    ),
    post(
        "/v1/scenarios",
        {
            "scenario_id": "matrix",
            "operator_id": BANK,
            "title": "x",
            "purpose": "industry",
            "evidence_sha256": EVIDENCE,
            "valid_until": LATER,
        },
        BUREAU,
    ),
    post("/v1/scenarios/{scenario_id}/end", {}, BUREAU),
    get("/v1/grants", EVERYBODY),
    get(f"/v1/grants/{FREE}", frozenset({"bureau", "operator"}), "/v1/grants/{grant_id}"),
    post("/v1/grants", DRAFT, BUREAU),
    Case("PUT", "/v1/grants/{grant_id}/signature", UNSIGNED, BUREAU, "/v1/grants/{grant_id}/signature"),
    post("/v1/grants/{grant_id}/revocation", {}, BUREAU),
    post("/v1/quotes", {"grant_id": FREE, "job": query()}, frozenset({"operator"})),
    post("/v1/models", b"not yet a model", OPERATORS),
    post("/v1/scripts", b"def main(data):\n    return 1\n", OPERATORS),
    get(f"/v1/scripts/{EVIDENCE}", EVERYBODY, "/v1/scripts/{sha256}"),  # none of that digest, for nobody
    get("/v1/submissions/{submission_id}/egress-reviews", BUREAU),
    post("/v1/submissions/{submission_id}/egress-reviews", {"verdict": "approve", "ground": "x"}, BUREAU),
    get("/v1/submissions", EVERYBODY),
    post("/v1/submissions", {"grant_id": FREE, "job": query("0.01")}, frozenset({"operator"})),
    get("/v1/submissions/{submission_id}", frozenset({"bureau", "operator"})),
    get("/v1/submissions/{submission_id}/reviews", frozenset({"bureau", "operator"})),
    post("/v1/submissions/{submission_id}/reviews", {"verdict": "approve", "ground": "x"}, BUREAU),
    get("/v1/releases/{submission_id}", frozenset({"bureau", "operator"})),
    get("/v1/products", EVERYBODY),
    post(
        "/v1/products",
        {
            "product_id": PRODUCT,
            "grant_id": FREE,
            "title": "x",
            "job": VERIFICATION,
        },
        frozenset({"operator"}),
    ),
    get(f"/v1/products/{PRODUCT}", EVERYBODY, "/v1/products/{product_id}"),
    get("/v1/consents", EVERYBODY),
    post(
        "/v1/consents",
        {"product_id": PRODUCT, "business_id": BANK, "identifier": "p1", "expires_at": LATER},
        BUREAU,
    ),
    post(
        "/v1/verifications", {"product_id": PRODUCT, "subject": "p1", "claim": "true"}, frozenset({"bank", "operator"})
    ),
    post("/v1/products/{product_id}/suspension", {}, frozenset({"bureau", "operator"})),
    called(get, "opening", None, frozenset({"bureau", "operator"})),
    called(post, "opening", {}, frozenset({"bureau", "operator"})),
    called(get, "offer", None, EVERYBODY),
    called(get, "hint?version=x", None, frozenset({"bank", "operator"})),
    called(post, "calls", CALL, frozenset({"bank", "operator"})),
    called(post, "closing", {}, frozenset({"bureau", "operator"})),
    get("/v1/calls", EVERYBODY),
    get("/v1/alarms", BUREAU),
    post("/v1/consents/{consent_id}/withdrawal", {}, BUREAU),
    get("/v1/budgets", BUREAU | OPERATORS | {"department"}),
    get("/v1/meter-events", EVERYBODY),
    post("/v1/invoices", {"payer_id": BANK, "month": "2026-01"}, BUREAU),
    get("/v1/invoices", EVERYBODY),
    get(f"/v1/invoices/draft?payer_id={BANK}&month=2026-01", frozenset({"bureau", "bank"}), "/v1/invoices/draft"),
    get("/v1/audit", BUREAU),
)


@pytest.fixture(scope="module")
def made(api: ApiWorld) -> dict[str, str]:
    """Things that the cases may spoil."""
    grant(api.world, "grant-matrix", Purpose.PUBLIC_INTEREST)
    grant(api.world, "matrix-end", Purpose.PUBLIC_INTEREST)
    product = {"product_id": "product-matrix", "grant_id": "grant-matrix", "title": "x", "job": VERIFICATION}
    assert api.post("operator", "/v1/products", product | {"needs_consent": False}).status_code == 201
    open_called(api)
    consent = {"product_id": "product-matrix", "business_id": BANK, "identifier": "p1", "expires_at": LATER}
    filed = api.post("bureau", "/v1/consents", consent)
    run = api.post("operator", "/v1/submissions", {"grant_id": "grant-matrix", "job": query("0.01")})
    return {
        "grant_id": "grant-matrix",
        "scenario_id": "scenario-matrix-end",
        "product_id": "product-matrix",
        "consent_id": filed.json()["consent_id"],
        "submission_id": run.json()["submission"]["submission_id"],
    }


def open_called(api: ApiWorld) -> None:
    """A product that answers calls."""
    product = {"product_id": CALLED, "grant_id": PAID, "title": "x", "job": CHECK, "needs_consent": False}
    assert api.post("operator", "/v1/products", product).status_code == 201
    assert api.post("operator", f"/v1/products/{CALLED}/opening").status_code == 202
    opening_of(api, CALLED, "open")


def is_turned_away(answer: httpx.Response) -> bool:
    """Refused for who asks, not for what stands in the request."""
    return answer.status_code == 403 and answer.json()["rule"].startswith(
        ("access.", "grant.foreign", "scenario.recipient")
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.method} {case.declared}")
def test_the_matrix(api: ApiWorld, made: dict[str, str], case: Case) -> None:
    answers = {role: case.send(api, role, made) for role in ROLES}
    assert {role for role, answer in answers.items() if is_turned_away(answer)} == EVERYBODY - case.may
    assert all(answer.status_code < 500 for answer in answers.values())


def test_the_matrix_names_every_endpoint(api: ApiWorld) -> None:
    paths = api.client.get("/v1/openapi.json").json()["paths"]
    declared = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    public = {("GET", "/v1/health"), ("GET", "/v1/about")}
    assert {(case.method, case.declared) for case in CASES} == declared - public


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.method} {case.declared}")
def test_nobody_gets_in_without_a_key(api: ApiWorld, made: dict[str, str], case: Case) -> None:
    answer = api.client.request(case.method, case.path.format_map(made))
    assert answer.status_code == 401


def test_lists_show_what_is_ones_own(api: ApiWorld, made: dict[str, str]) -> None:
    mine = {record["grant"]["operator_id"] for record in api.get("operator", "/v1/grants").json()}
    assert mine == {OPERATOR}
    assert api.get("other-operator", "/v1/grants").json() == []
    assert [party["party_id"] for party in api.get("bank", "/v1/parties").json()] == [BANK]
    seen = {item["requester_id"] for item in api.get("insurer", "/v1/submissions").json()}
    assert seen == set()
