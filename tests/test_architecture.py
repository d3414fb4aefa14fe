"""The import rules of ARCHITECTURE.md: arrows point down, no cycles, and the enclave shows only its contract."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]

# Each package may import itself and what stands below it; never above. Highest first.
LAYERS = {
    "sandbox": [
        "sandbox.cli",
        "sandbox.web",
        "sandbox.api",
        "sandbox.pilot",
        "sandbox.workflow",
        "sandbox.store",
        "sandbox.rules",
        "sandbox.settings",
        "sandbox.domain",
    ],
    "enclave_runner": [
        "enclave_runner.__main__",
        "enclave_runner.supervisor",
        "enclave_runner.egress",
        "enclave_runner.attest",
        "enclave_runner.rawdata",
        "enclave_runner.private",
        "enclave_runner.he",
        "enclave_runner.kinds",
        "enclave_runner.jail",
        "enclave_runner.dp",
        "enclave_runner.plan",
        "enclave_runner.contract",
    ],
}
CONTRACT = "enclave_runner.contract"
# The control plane parses no operator SQL and opens no data: these have no business in it.
FORBIDDEN = {
    "sandbox": {"duckdb", "opendp", "onnxruntime", "sqlglot", "pyarrow", "pandas"},
    "enclave_runner": {
        "fastapi",
        "uvicorn",
        "httpx",
        "requests",
        "sqlalchemy",
        "typer",
        "cedarpy",
        "pickle",
        "sandbox",
    },
}
DOMAIN_MAY_USE = {"stdnum", "enclave_runner", "sandbox"}
NETWORK = {"http", "urllib", "ftplib", "smtplib", "ssl", "asyncio", "socketserver"}


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def sources() -> dict[str, ast.Module]:
    files = [path for package in LAYERS for path in (ROOT / package).rglob("*.py") if "migrations" not in path.parts]
    return {module_name(path): ast.parse(path.read_text()) for path in files}


def imports_of(tree: ast.AST) -> set[str]:
    """Every module named by any import, however deep; `from a import b` counts as a.b."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def rank(module: str) -> int | None:
    layers = LAYERS[module.split(".")[0]]
    return next((index for index, layer in enumerate(layers) if within(module, layer)), None)


def test_every_module_stands_in_a_layer() -> None:
    free = [name for name in sources() if "." in name and rank(name) is None]
    assert [name for name in free if not within(name, "sandbox.client")] == []


def test_imports_point_down() -> None:
    wrong = []
    for module, tree in sources().items():
        package = module.split(".")[0]
        for target in imports_of(tree):
            if not within(target, package):
                continue
            here, there = rank(module), rank(target)
            if here is not None and there is not None and there < here:
                wrong.append(f"{module} -> {target}")
    assert wrong == []


def test_sandbox_sees_only_the_contract_of_the_enclave() -> None:
    wrong = [
        f"{module} -> {target}"
        for module, tree in sources().items()
        for target in imports_of(tree)
        if within(module, "sandbox") and within(target, "enclave_runner") and not within(target, CONTRACT)
    ]
    assert wrong == []


def test_the_enclave_and_the_control_plane_do_without_each_others_libraries() -> None:
    wrong = [
        f"{module} -> {target}"
        for module, tree in sources().items()
        for target in imports_of(tree)
        if target.split(".")[0] in FORBIDDEN[module.split(".")[0]]
    ]
    assert wrong == []


def test_no_network_library_in_the_enclave() -> None:
    wrong = [
        f"{module} -> {target}"
        for module, tree in sources().items()
        for target in imports_of(tree)
        if within(module, "enclave_runner") and target.split(".")[0] in NETWORK
    ]
    assert wrong == []


def test_the_domain_is_pure() -> None:
    standard = {"__future__", "collections", "dataclasses", "datetime", "decimal", "enum", "typing"}
    allowed = DOMAIN_MAY_USE | standard
    wrong = [
        f"{module} -> {target}"
        for module, tree in sources().items()
        if within(module, "sandbox.domain")
        for target in imports_of(tree)
        if target.split(".")[0] not in allowed
    ]
    assert wrong == []


def test_only_rawdata_opens_raw_tables() -> None:
    """Every use of the raw folder's path goes through rawdata; the supervisor only names it."""
    users = [
        module
        for module, tree in sources().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr == "rawdata" and within(module, "enclave_runner")
    ]
    assert set(users) <= {"enclave_runner.supervisor.home"}


RAWDATA = "enclave_runner.rawdata"
# What the rest of the enclave may know of raw data at rest: a store to ask, and the choice of its keys' place.
RAWDATA_SHOWS = (
    {f"{RAWDATA}.store.{name}" for name in ("RawStore", "Draft")}
    | {f"{RAWDATA}.kms.{name}" for name in ("Kms", "KmsChoice", "FILE_KMS", "Rotation")}
    | {f"{RAWDATA}.suite.Suite"}
)
RAWDATA_KEEPS = {"unwrap", "rewrap", "data_key", "data_keys", "read_column", "read_manifest"}
RAWDATA_FILES = (".kek", ".draft-", ".aside-")


def outside_rawdata() -> dict[str, ast.Module]:
    return {module: tree for module, tree in sources().items() if not within(module, RAWDATA)}


def test_only_rawdata_knows_how_raw_data_lie_on_disk() -> None:
    """Who would open a column by itself would have to import, call or name one of these."""
    wrong = [
        f"{module} -> {target}"
        for module, tree in outside_rawdata().items()
        for target in imports_of(tree)
        if within(target, RAWDATA) and target not in RAWDATA_SHOWS
    ]
    for module, tree in outside_rawdata().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr in RAWDATA_KEEPS:
                wrong.append(f"{module} uses {node.attr}")
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.endswith(RAWDATA_FILES):
                wrong.append(f"{module} names {node.value}")
    assert wrong == []
    assert any(
        node.attr == "unwrap" for t in sources().values() for node in ast.walk(t) if isinstance(node, ast.Attribute)
    )


def test_the_library_of_tokens_is_loaded_where_it_is_configured_and_nowhere_else() -> None:
    users = {module for module, tree in sources().items() for t in imports_of(tree) if within(t, "pkcs11")}
    assert users == {f"{RAWDATA}.hsm"}
    assert not any(within(t, f"{RAWDATA}.hsm") for tree in sources().values() for t in imports_of(tree))


def test_no_import_cycles() -> None:
    names = set(sources())
    graph = {
        module: {
            name
            for target in imports_of(tree)
            for name in [target if target in names else target.rpartition(".")[0]]
            if name in names and name != module
        }
        for module, tree in sources().items()
    }

    def reaches(start: str) -> bool:
        seen: set[str] = set()
        stack = list(graph[start])
        while stack:
            module = stack.pop()
            if module == start:
                return True
            if module not in seen:
                seen.add(module)
                stack += graph[module]
        return False

    assert [module for module in graph if reaches(module)] == []


def test_no_import_hides_in_a_function() -> None:
    late = [
        module
        for module, tree in sources().items()
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert late == []


def test_modules_and_functions_stay_small() -> None:
    long_modules = [m for m, tree in sources().items() if len(ast.unparse(tree).splitlines()) > 400]
    long_functions = [
        f"{module}.{node.name}"
        for module, tree in sources().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno + 1 > 60
    ]
    assert (long_modules, long_functions) == ([], [])
