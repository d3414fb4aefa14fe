"""The Kubernetes manifests: nothing reachable, nothing privileged, and all that the jail needs of a pod."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy/kubernetes"
FILES = sorted(FOLDER.rglob("*.yaml"))
HOST_SHARING = ("hostNetwork", "hostPID", "hostIPC")


def documents() -> list[dict[str, Any]]:
    """Every document of every manifest."""
    return [part for path in FILES for part in yaml.safe_load_all(path.read_text(encoding="utf-8"))]


def of_kind(kind: str) -> list[dict[str, Any]]:
    """The documents of one kind."""
    return [part for part in documents() if part["kind"] == kind]


@pytest.fixture
def pod() -> dict[str, Any]:
    """The enclave's pod."""
    (stateful,) = of_kind("StatefulSet")
    return dict(stateful["spec"]["template"]["spec"])


def containers(pod: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """All of a pod's containers by name."""
    return {part["name"]: part for part in [*pod["initContainers"], *pod["containers"]]}


def walk(value: object) -> Iterator[tuple[str, object]]:
    """Every key with its value, however deep."""
    if isinstance(value, dict):
        for key, below in value.items():
            yield key, below
            yield from walk(below)
    elif isinstance(value, list):
        for below in value:
            yield from walk(below)


def test_every_manifest_is_listed_by_its_kustomization() -> None:
    for path in FOLDER.rglob("kustomization.yaml"):
        listed = yaml.safe_load(path.read_text(encoding="utf-8"))["resources"]
        assert all((path.parent / name).exists() for name in listed)
        assert {other.name for other in path.parent.glob("*.yaml")} - {"kustomization.yaml"} <= set(listed)


def test_no_policy_lets_anything_in_or_out() -> None:
    (policy,) = of_kind("NetworkPolicy")
    assert policy["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert not [part["kind"] for part in documents() if part["kind"] in ("Service", "Ingress", "Gateway")]


def test_nothing_is_privileged_or_shared_with_the_node(pod: dict[str, Any]) -> None:
    keys = list(walk(documents()))
    assert not [value for key, value in keys if key == "privileged" and value is not False]
    assert not [key for key, value in keys if key in ("hostPath", "hostPort") or (key in HOST_SHARING and value)]
    assert not [value for key, value in keys if key == "allowPrivilegeEscalation" and value is not False]
    assert not [value for key, value in keys if key == "add"]
    assert pod["hostUsers"] is False
    assert pod["automountServiceAccountToken"] is False


def test_every_container_is_nobody_with_a_read_only_root_and_no_capability(pod: dict[str, Any]) -> None:
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    for part in containers(pod).values():
        context = part["securityContext"]
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["allowPrivilegeEscalation"] is False
        assert part["resources"]["requests"] == part["resources"]["limits"]


def test_what_holds_the_jail_has_proc_unmasked_and_calls_unfiltered_and_the_api_has_not(pod: dict[str, Any]) -> None:
    parts = containers(pod)
    for name in ("doctor", "enclave"):
        context = parts[name]["securityContext"]
        assert context["procMount"] == "Unmasked"
        assert context["seccompProfile"] == context["appArmorProfile"] == {"type": "Unconfined"}
    api = parts["api"]["securityContext"]
    assert api["seccompProfile"] == {"type": "RuntimeDefault"}
    assert "procMount" not in api
    assert "appArmorProfile" not in api


def test_the_doctor_comes_first_and_under_the_enclaves_own_conditions(pod: dict[str, Any]) -> None:
    assert [part["name"] for part in pod["initContainers"]] == ["doctor", "enclave"]
    doctor, enclave = pod["initContainers"]
    assert doctor["command"][-1] == "doctor"
    assert "restartPolicy" not in doctor
    assert enclave["restartPolicy"] == "Always"
    for field in ("image", "securityContext", "resources", "volumeMounts"):
        assert doctor[field] == enclave[field]


def test_there_is_one_enclave_with_one_volume(pod: dict[str, Any]) -> None:
    (stateful,) = of_kind("StatefulSet")
    assert stateful["spec"]["replicas"] == 1
    (claim,) = stateful["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["accessModes"] == ["ReadWriteOncePod"]
    assert pod["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch"
    assert pod["volumes"] == [{"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}}]


def test_kata_changes_the_kernel_and_nothing_else() -> None:
    (runtime,) = of_kind("RuntimeClass")
    (patch,) = yaml.safe_load((FOLDER / "kata/kustomization.yaml").read_text(encoding="utf-8"))["patches"]
    assert yaml.safe_load(patch["patch"]) == [
        {"op": "add", "path": "/spec/template/spec/runtimeClassName", "value": runtime["metadata"]["name"]}
    ]
