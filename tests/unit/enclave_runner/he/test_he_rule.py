"""The rule, held by the text of the code: no product of ciphertexts but with registered weights, in one module that no
secret reaches."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

from enclave_runner.he import circuit

ROOT = Path(__file__).parents[4]
PLACES = ("enclave_runner", "sandbox")
MULTIPLYING = ("multiply", "square", "exponentiate", "dot", "mm", "matmul", "polyval", "mul", "pow")
BINDING = "tenseal"
CIRCUIT = "enclave_runner.he.circuit"
SCORING = "enclave_runner.he.scoring"
# Only the owner of a key may hold or open anything with it.
OWNER = {"SecretKey", "KeyGenerator", "Decryptor", "encrypt_symmetric", "decrypt"}


def modules() -> dict[str, ast.Module]:
    files = [path for place in PLACES for path in sorted((ROOT / place).rglob("*.py"))]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): ast.parse(path.read_text()) for path in files}


MODULES = modules()


def imports(tree: ast.Module) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


USERS = {name: tree for name, tree in MODULES.items() if any(t.split(".")[0] == BINDING for t in imports(tree))}


def multiplies(tree: ast.AST) -> list[str]:
    """Calls of a ciphertext's or evaluator's way to multiply."""
    return [
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and any(node.attr == m or node.attr.startswith(f"{m}_") for m in MULTIPLYING)
    ]


def test_only_the_raw_binding_is_used_and_by_four_modules() -> None:
    """TenSEAL's vectors multiply by an asterisk, and its messages end the process."""
    assert set(USERS) == {
        "enclave_runner.contract.ciphertext",
        CIRCUIT,
        SCORING,
    }
    named = {target for tree in USERS.values() for target in imports(tree) if target.split(".")[0] == BINDING}
    assert named == {"tenseal.sealapi"}


def test_only_the_circuit_multiplies() -> None:
    assert {name for name, tree in USERS.items() if multiplies(tree)} == {CIRCUIT}
    assert set(multiplies(MODULES[CIRCUIT])) == {"multiply_plain", "multiply_plain_inplace", "square_inplace"}


def test_whoever_handles_points_has_no_other_product_than_the_circuit() -> None:
    """`evaluate` is called once, with the registered model and what was read of the request; points come after it."""
    calls = [
        node
        for node in ast.walk(MODULES[SCORING])
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "evaluate"
    ]
    assert [ast.unparse(call) for call in calls] == ["evaluate(ring, model, features)"]
    made = [
        ast.unparse(node.value)
        for node in ast.walk(MODULES[SCORING])
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "features"
    ]
    assert made == ["[ring.read_question(data, bench) for data in parts.batch(batch)]"]


def test_nothing_but_model_and_request_reaches_the_circuit() -> None:
    """Its functions see their parameters, and of the module's names only types, weights' unit and the binding."""
    tree = MODULES[CIRCUIT]
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert list(inspect.signature(circuit.evaluate).parameters) == ["ring", "model", "features"]
    allowed = {"evaluator", "ring", "model", "features", "weights", "terms"}
    assert {argument.arg for node in functions.values() for argument in node.args.args} <= allowed
    known = set(functions) | {"seal", "math", "float", "abs", "zip", "Any", "Sequence", "MILLION"}
    known |= {"Ring", "Model", "Scorecard", "Linear", "Network"}
    for node in functions.values():
        bound = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        arguments = {argument.arg for argument in node.args.args}
        used = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
        assert used - bound - arguments <= known, node.name
    assert not any(isinstance(node, ast.Global | ast.Nonlocal) for node in ast.walk(tree))
    imported = {target for target in imports(tree) if target.startswith("enclave_runner")}
    assert {target.rpartition(".")[0] for target in imported} == {
        "enclave_runner.contract.ciphertext",
        "enclave_runner.contract.scoring",
    }


def test_every_factor_is_made_from_a_registered_weight() -> None:
    """The plaintext of each product is called `weight`, and is made in the loop over the model's own numbers."""
    tree = MODULES[CIRCUIT]
    products = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and "multiply" in node.func.attr
    ]
    assert [ast.unparse(node.args[1]) for node in products] == ["weight", "weight"]
    source = ast.unparse(tree)
    assert "seal.Plaintext(f'{abs(feature.weight):X}')" in source
    assert "for feature, ciphertext in zip(model.features, features, strict=True)" in source
    assert "ring.encoder.encode(number, ciphertext.parms_id(), prime, weight)" in source
    assert "for number, ciphertext in zip(weights, features, strict=True)" in source


@pytest.mark.parametrize("name", sorted(USERS))
def test_the_enclave_holds_no_key_of_a_business(name: str) -> None:
    """Keys stand in the contract, for the business; the enclave makes some of its own to prove its parameters."""
    named = {node.attr for node in ast.walk(MODULES[name]) if isinstance(node, ast.Attribute)} & OWNER
    assert not named or name == "enclave_runner.contract.ciphertext"
    holders = {m for m, tree in MODULES.items() if "enclave_runner.contract.ciphertext.Keys" in imports(tree)}
    assert holders == {"enclave_runner.he.proof", "sandbox.client.scoring"}
