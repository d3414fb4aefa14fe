from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from fastapi import FastAPI
from starlette.responses import Response

from enclave_runner.contract.codec import Value
from sandbox.api.app import NOUNS
from sandbox.api.openapi import FILE, PROBLEMS, PUBLIC_PROBLEMS, SCHEMAS, describe, operation

METHODS = {"get", "post", "put", "delete", "patch"}


@pytest.fixture(scope="module")
def description() -> dict[str, Any]:
    app = FastAPI()
    for noun in NOUNS:
        app.include_router(noun.router)
    return describe(app)


def operations(description: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (path, method, declared)
        for path, methods in description["paths"].items()
        for method, declared in methods.items()
        if method in METHODS
    ]


def references(node: object) -> set[str]:
    if isinstance(node, dict):
        found = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return found.union(*(references(value) for value in node.values()))
    if isinstance(node, list):
        return set().union(*(references(value) for value in node))
    return set()


def test_every_reference_leads_somewhere(description: dict[str, Any]) -> None:
    names = {f"#/components/schemas/{name}" for name in description["components"]["schemas"]}
    assert references(description) <= names
    assert len(names) > 40


def test_the_gathering_key_is_gone(description: dict[str, Any]) -> None:
    assert SCHEMAS not in str(description)


def test_every_problem_is_declared_with_its_media_type(description: dict[str, Any]) -> None:
    for path, method, declared in operations(description):
        expected = PUBLIC_PROBLEMS if path in ("/v1/health", "/v1/about") else PROBLEMS
        problems = {code: answer for code, answer in declared["responses"].items() if int(code) >= 400}
        assert set(problems) == {str(status) for status in expected}, (method, path)
        assert all(list(answer["content"]) == ["application/problem+json"] for answer in problems.values())


def test_every_answer_has_a_schema(description: dict[str, Any]) -> None:
    for path, method, declared in operations(description):
        (code,) = (code for code in declared["responses"] if int(code) < 400)
        content = declared["responses"][code]["content"]
        if (method, path) in (("get", "/v1/products/{product_id}/hint"), ("get", "/v1/scripts/{sha256}")):
            assert content == {"application/octet-stream": {"schema": FILE}}
            continue
        assert content["application/json"]["schema"].keys() & {"$ref", "items"}, (method, path)


def test_every_write_asks_for_an_idempotency_key_and_no_read_does(description: dict[str, Any]) -> None:
    for path, method, declared in operations(description):
        named = [item for item in declared.get("parameters", ()) if item["name"].lower() == "idempotency-key"]
        # A call of a product carries its own id in its body.
        writes = method != "get" and path not in ("/v1/quotes", "/v1/products/{product_id}/calls")
        assert bool(named) is writes, (method, path)
        assert all(item["required"] for item in named)


def test_all_but_the_public_two_ask_for_a_key(description: dict[str, Any]) -> None:
    open_paths = {path for path, _, declared in operations(description) if not declared.get("security")}
    assert open_paths == {"/v1/health", "/v1/about"}


def test_identifiers_of_people_have_no_place_in_an_address(description: dict[str, Any]) -> None:
    in_addresses = {
        item["name"]
        for _, _, declared in operations(description)
        for item in declared.get("parameters", ())
        if item["in"] in ("path", "query")
    }
    assert in_addresses == {
        "party_id",
        "key_id",
        "dataset_id",
        "scenario_id",
        "grant_id",
        "submission_id",
        "product_id",
        "consent_id",
        "month",
        "party",
        "payer_id",
        "since",
        "version",
        "offset",
        "sha256",
    }


def test_nothing_imports_data_over_http(description: dict[str, Any]) -> None:
    assert [method for path, method, _ in operations(description) if path.startswith("/v1/datasets")] == ["get", "get"]


def test_every_summary_speaks_both_languages(description: dict[str, Any]) -> None:
    for path, method, declared in operations(description):
        assert re.fullmatch(r"[一-鿿、]+ / [A-Z].+", declared["summary"]), (method, path)


def test_two_types_of_one_name_are_caught() -> None:
    app = FastAPI()
    for number, kind in enumerate((int, str)):
        shape = msgspec.defstruct("Shape", [("field", kind)], bases=(Value,), frozen=True)
        app.get(f"/{number}", **operation(shape))(lambda: Response())
    with pytest.raises(ValueError, match="two schemas are named Shape"):
        describe(app)


def test_a_file_is_declared_as_bytes() -> None:
    declared = operation(int, takes=FILE, status=201)
    assert declared["openapi_extra"]["requestBody"]["content"] == {"application/octet-stream": {"schema": FILE}}
    assert declared["status_code"] == 201
