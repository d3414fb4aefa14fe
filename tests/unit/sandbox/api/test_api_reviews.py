"""Reviews over HTTP: what a reviewer sees, and what the operator is told of a rejection."""

from __future__ import annotations

import pytest

from tests.support.api_world import ApiWorld, fresh_key, is_problem
from tests.support.deployment import OTHER, PAID
from tests.support.onnx_models import identity

FEATURES = "SELECT income FROM people"


def test_a_rejected_submission_never_runs(api: ApiWorld) -> None:
    sha256 = api.post("operator", "/v1/models", identity(1)).json()["sha256"]
    job = {"type": "model", "sql": FEATURES, "budget": {"epsilon": "0.2"}, "model_sha256": sha256, "output": "score"}
    key = fresh_key()
    body = {"grant_id": PAID, "job": job}
    waiting = api.post("operator", "/v1/submissions", body, **{"Idempotency-Key": key}).json()
    path = f"/v1/submissions/{waiting['submission']['submission_id']}/reviews"
    rejected = api.post("reviewer", path, {"verdict": "reject", "ground": "用途不符"})
    assert rejected.json()["status"] == "refused"
    again = api.post("operator", "/v1/submissions", body, **{"Idempotency-Key": key}).json()
    assert (again["submission"]["status"], again["receipt"]) == ("refused", None)
    assert again["refusal"]["rule"] == "review.rejected"
    assert "用途不符" in again["refusal"]["reason_zh"]
    release = api.get("operator", path.replace("submissions", "releases").removesuffix("/reviews"))
    assert is_problem(release, 403, "review.rejected")
    assert "用途不符" in release.json()["reason"]
    assert [(item["verdict"], item["ground"]) for item in api.get("operator", path).json()] == [("reject", "用途不符")]


def test_a_reviewer_sees_the_job_its_purpose_and_its_columns(api: ApiWorld) -> None:
    sha256 = api.post("operator", "/v1/models", identity(1)).json()["sha256"]
    job = {"type": "model", "sql": FEATURES, "budget": {"epsilon": "0.2"}, "model_sha256": sha256, "output": "score"}
    waiting = api.post("operator", "/v1/submissions", {"grant_id": PAID, "job": job}).json()
    seen = api.get("reviewer", f"/v1/submissions/{waiting['submission']['submission_id']}").json()
    assert (seen["job"]["sql"], seen["job"]["budget"]["epsilon"]) == (FEATURES, "0.2")
    assert (seen["purpose"], seen["columns"]) == ("industry", ["income"])


@pytest.mark.parametrize(("length", "status"), [(500, 200), (501, 422)])
def test_the_api_takes_the_grounds_that_the_workflow_takes(api: ApiWorld, length: int, status: int) -> None:
    suspended = {"status": "suspended", "ground": "整" * length}
    answer = api.put("bureau", f"/v1/parties/{OTHER}/status", suspended)
    assert answer.status_code == status
    if status == 422:
        assert answer.json().get("rule") != "ground.missing"
        return
    assert api.put("bureau", f"/v1/parties/{OTHER}/status", suspended | {"status": "active"}).status_code == 200
