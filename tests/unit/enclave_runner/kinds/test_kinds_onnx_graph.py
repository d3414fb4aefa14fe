"""What a model may consist of: attacks are refused, each for its own reason; honest models pass; no bytes break it."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from sklearn.base import BaseEstimator
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from enclave_runner.kinds.onnx_graph import OPERATORS, SHAPERS, UnreadableModelError, check_model
from tests.support import hostile_models, onnx_models
from tests.support.hostile_models import ATTACKS, GRAPH_KEY, field, varint
from tests.support.onnx_models import FLOAT, INT64, matrix, model_of

HONEST = (
    LogisticRegression(),
    LinearRegression(),
    make_pipeline(StandardScaler(), LogisticRegression()),
    DecisionTreeClassifier(max_depth=3),
    RandomForestClassifier(n_estimators=3, max_depth=3),
    GradientBoostingClassifier(n_estimators=3),
    MLPClassifier((4,), max_iter=300, tol=0.1),
)


def refusal(model: bytes) -> str:
    with pytest.raises(UnreadableModelError) as caught:
        check_model(model)
    return caught.value.what


def score(model: bytes, value: float) -> float:
    """What ONNX Runtime itself makes of the model."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (found,) = session.run(["score"], {"features": np.array([[value]], dtype=np.float32)})
    return float(np.asarray(found).reshape(-1)[-1])


@pytest.mark.parametrize("name", ATTACKS)
def test_blocked(name: str) -> None:
    make, what = ATTACKS[name]
    assert refusal(make()) == what


@pytest.mark.parametrize(
    "name", ["loop", "if", "scan", "slice-by-value", "sparse-constant", "two-graphs", "overlong-key"]
)
def test_the_attacks_are_real(name: str) -> None:
    """Control: the runtime runs them gladly. They fail here for no reason but this check."""
    assert score(ATTACKS[name][0](), 5.0) >= 5.0


@pytest.mark.parametrize("high", [1, 2, 7, 1 << 20])
def test_a_key_is_32_bits_long_at_every_depth(high: int) -> None:
    assert refusal(hostile_models.overlong_key(high)) == "it is not in ONNX format"
    node = helper.make_node("Identity", ["features"], ["score"]).SerializeToString()
    hidden = field(high << 32 | 4 << 3 | 2, b"NonZero")
    assert refusal(field(GRAPH_KEY, field(1 << 3 | 2, node + hidden))) == "it is not in ONNX format"
    check_model(field(GRAPH_KEY, field(1 << 3 | 2, node)))


@pytest.mark.parametrize(
    "model",
    [
        varint(7 << 3 | 3),  # a group begins
        varint(7 << 3 | 4),
        varint(7 << 3 | 6),
        b"\x02\x00",  # field 0
        varint(GRAPH_KEY) + varint(2**63),
        b"\xff" * 11,
        varint(1 << 3 | 1) + b"1234567",  # 8 bytes were promised
        varint(1 << 3 | 5) + b"123",
    ],
)
def test_what_the_reader_does_not_understand_is_refused(model: bytes) -> None:
    assert refusal(model) == "it is not in ONNX format"
    assert refusal(onnx_models.identity() + model) == "it is not in ONNX format"


@pytest.mark.parametrize("operator", ["", "identity", "Identity\0", "Ident", "图"])
def test_an_operator_is_allowed_by_its_whole_name(operator: str) -> None:
    node = helper.make_node("Identity", ["features"], ["score"]).SerializeToString()
    renamed = node.replace(field(4 << 3 | 2, b"Identity"), field(4 << 3 | 2, operator.encode()))
    assert "is not one that does fixed work" in refusal(field(GRAPH_KEY, field(1 << 3 | 2, renamed)))
    assert refusal(field(GRAPH_KEY, field(1 << 3 | 2, b""))) == "a node names no operator"


def test_whatever_takes_a_shape_is_known_as_such() -> None:
    assert SHAPERS < OPERATORS
    for operator in sorted(SHAPERS):
        node = helper.make_node(operator.decode(), ["features", "features"], ["score"])
        assert (
            refusal(model_of([node], matrix(1)).SerializeToString()) == "it has shapes that follow from a row's values"
        )


def test_shapes_from_constants_and_from_other_shapes_are_fixed() -> None:
    nodes = [
        helper.make_node("Shape", ["features"], ["shape"]),
        helper.make_node("Constant", [], ["one"], value=helper.make_tensor("", INT64, [1], [1])),
        helper.make_node("Mul", ["shape", "one"], ["same"]),
        helper.make_node("Reshape", ["features", "same"], ["again"]),
        helper.make_node("Slice", ["again", "zero", "one", "", ""], ["piece"]),
        helper.make_node("ReduceSum", ["piece", "zero"], ["score"], keepdims=1),
    ]
    constants = [helper.make_tensor("zero", INT64, [1], [0])]
    model = model_of(nodes, matrix(1), constants=constants).SerializeToString()
    check_model(model)
    assert score(model, 3.0) == 3.0


def test_what_depends_on_the_row_through_many_nodes_is_still_of_the_row() -> None:
    nodes = [
        helper.make_node("Shape", ["features"], ["shape"]),
        helper.make_node("Cast", ["features"], ["n0"], to=INT64),
        *(helper.make_node("Mul", [f"n{n}", "shape"], [f"n{n + 1}"]) for n in range(5)),
        helper.make_node("Reshape", ["features", "n5"], ["score"]),
    ]
    assert refusal(model_of(nodes, matrix(1)).SerializeToString()) == "it has shapes that follow from a row's values"


@pytest.mark.parametrize("estimator", HONEST, ids=lambda item: type(item).__name__)
@pytest.mark.parametrize("zipmap", [True, False])
def test_honest_models_pass(estimator: BaseEstimator, zipmap: bool) -> None:
    chance = np.random.default_rng(1)
    features = chance.normal(size=(60, 3)).astype(np.float32)
    fitted = estimator.fit(features, (features[:, 0] > 0).astype(int))
    options = {id(fitted): {"zipmap": zipmap}} if hasattr(fitted, "predict_proba") else None
    check_model(to_onnx(fitted, features[:1], options=options, target_opset=17).SerializeToString())


def test_models_by_hand_pass() -> None:
    for model in (onnx_models.identity(), onnx_models.batch_mean(), onnx_models.logarithm(), onnx_models.by_name()):
        check_model(model)
    weight = helper.make_tensor("weight", FLOAT, [3, 2], [0.5] * 6)
    bias = helper.make_tensor("bias", FLOAT, [2], [0.1] * 2)
    nodes = [
        helper.make_node("Gemm", ["features", "weight", "bias"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("ReduceMean", ["active"], ["mean"], axes=[1]),
        helper.make_node("Sigmoid", ["mean"], ["score"]),
    ]
    model = model_of(nodes, matrix(3), constants=[weight, bias])
    check_model(model.SerializeToString())
    assert model.graph.initializer[0].data_location == TensorProto.DEFAULT


def test_the_way_through_denormals_is_honest_outside_the_jail() -> None:
    """Control of a test of the whole path, where the same model gives nothing but zeros."""
    check_model(onnx_models.through_denormals())
    assert score(onnx_models.through_denormals(), 50.0) == pytest.approx(50.0, rel=0.01)


def _returns_or_refuses(model: bytes) -> None:
    """Any other exception would be a fault of ours, which the caller could not put right."""
    try:
        check_model(model)
    except UnreadableModelError as error:
        assert len(error.what) < 100


@given(st.binary(max_size=300))
@example(b"\x80" * 200)
@example(field(GRAPH_KEY, field(1 << 3 | 2, field(4 << 3 | 2, b"\xff\xfe" * 40))))
@settings(max_examples=400, deadline=None)
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    _returns_or_refuses(data)
    _returns_or_refuses(field(GRAPH_KEY, data))
    _returns_or_refuses(field(GRAPH_KEY, field(1 << 3 | 2, data)))


@given(st.sampled_from(sorted(ATTACKS)), st.integers(0, 2000), st.integers(0, 255), st.integers(0, 2000))
@settings(max_examples=300, deadline=None)
def test_a_broken_model_is_read_or_refused(name: str, place: int, byte: int, end: int) -> None:
    model = bytearray(ATTACKS[name][0]() or b"\0")
    model[place % len(model)] = byte
    _returns_or_refuses(bytes(model))
    _returns_or_refuses(bytes(model[: end % len(model)]))
