"""Who may do what over HTTP: every endpoint for every role. The rules stand in access.cedar; this is what comes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import httpx
import pytest

from sandbox.api.openapi import describe
from tests.support.api_world import DEPARTMENT, ApiWorld, query
from tests.support.deployment import BANK, FREE, OPERATOR, PRODUCT

ROLES = ("bureau", "department", "operator", "other-operator", "bank", "insurer")
EVERYBODY = frozenset(ROLES)
BUREAU = frozenset({"bureau"})
OPERATORS = frozenset({"operator", "other-operator"})
EVIDENCE = "0" * 64
LATER = "2027-01-01T00:00:00Z"


@dataclass(frozen=True)
class Case:
    """A request that is well-formed, and who is not refused for who they are."""

    method: str
    path: str
    body: object
    may: frozenset[str]
    declared: str

    def send(self, api: ApiWorld, role: str) -> httpx.Response:
        """As somebody of that role."""
        if self.method == "GET":
            return api.get(role, self.path)
        return api.send(self.method, role, self.path, self.body)


def get(path: str, may: frozenset[str], declared: str | None = None) -> Case:
    return Case("GET", path, None, may, declared or path)


def post(path: str, body: object, may: frozenset[str], declared: str | None = None) -> Case:
    return Case("POST", path, body, may, declared or path)


CASES = (
    get("/v1/parties", EVERYBODY),
    post("/v1/parties", {"party_id": "x", "name": "x", "role": "business", "credit_code": "0" * 18}, BUREAU),
    Case("PUT", f"/v1/parties/{BANK}/status", {"status": "active", "ground": "x"}, BUREAU, "/v1/parties/{party_id}/status"),
    post("/v1/keys", {"party_id": DEPARTMENT, "person": "matrix"}, BUREAU),
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
    get("/v1/grants", EVERYBODY),
    get(f"/v1/grants/{FREE}", frozenset({"bureau", "operator"}), "/v1/grants/{grant_id}"),
    post("/v1/quotes", {"grant_id": FREE, "job": query()}, frozenset({"operator"})),
    post("/v1/models", b"not yet a model", OPERATORS),
    get("/v1/submissions", EVERYBODY),
    post("/v1/submissions", {"grant_id": FREE, "job": query("0.01")}, frozenset({"operator"})),
    get("/v1/products", EVERYBODY),
    post(
        "/v1/products",
        {
            "product_id": PRODUCT,
            "grant_id": FREE,
            "title": "x",
            "job": {"type": "verification", "dataset_id": "people", "attribute": "active", "predicate": "equals"},
        },
        frozenset({"operator"}),
    ),
    post(
        "/v1/consents",
        {"product_id": PRODUCT, "business_id": BANK, "identifier": "p1", "expires_at": LATER},
        BUREAU,
    ),
    post("/v1/verifications", {"product_id": PRODUCT, "subject": "p1", "claim": "true"}, frozenset({"bank", "operator"})),
    get("/v1/budgets", BUREAU | OPERATORS | {"department"}),
    get("/v1/meter-events", EVERYBODY),
    post("/v1/invoices", {"payer_id": BANK, "month": "2026-01"}, BUREAU),
    get("/v1/audit", BUREAU),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.method} {case.path}")
def test_the_matrix(api: ApiWorld, case: Case) -> None:
    refused = {role for role in ROLES if case.send(api, role).status_code == 403}
    assert refused == EVERYBODY - case.may
