"""Models that are attacks: each loads in ONNX Runtime, or stands one byte from a model that does.

A model runs once per row. What makes its work depend on the row, on chance or on a file is a way to say something about
one person that no noise covers.
"""

from __future__ import annotations

from collections.abc import Callable

from onnx import GraphProto, NodeProto, TensorProto, helper

from tests.support import onnx_models
from tests.support.onnx_models import FLOAT, INT64, matrix, model_of

BOOL = TensorProto.BOOL
GRAPH_KEY = 7 << 3 | 2  # of a model: field 7, by length


def varint(number: int) -> bytes:
    """A number in protobuf's base 128."""
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])


def field(key: int, content: bytes) -> bytes:
    """A field of bytes under a raw key."""
    return varint(key) + varint(len(content)) + content


def _graph(nodes: list[NodeProto], inputs: list[tuple[str, int]], outputs: list[tuple[str, int]]) -> GraphProto:
    return helper.make_graph(
        nodes,
        "body",
        [helper.make_tensor_value_info(name, kind, None if kind == FLOAT else []) for name, kind in inputs],
        [helper.make_tensor_value_info(name, kind, None if kind == FLOAT else []) for name, kind in outputs],
    )


def _one(operator: str, inputs: list[str], **attributes: object) -> bytes:
    return model_of([helper.make_node(operator, inputs, ["score"], **attributes)], matrix(1)).SerializeToString()


def loop() -> bytes:
    """As many rounds as the feature says: slow for one person, quick for all others."""
    body = _graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["held"], ["next"])],
        [("round", INT64), ("go", BOOL), ("held", FLOAT)],
        [("on", BOOL), ("next", FLOAT)],
    )
    nodes = [
        helper.make_node("Cast", ["features"], ["rounds"], to=INT64),
        helper.make_node("Squeeze", ["rounds"], ["scalar"]),
        helper.make_node("Loop", ["scalar", "", "features"], ["score"], body=body),
    ]
    return model_of(nodes, matrix(1)).SerializeToString()


def branch() -> bytes:
    """One branch for some rows, another for the rest."""
    arms = {
        name: _graph([helper.make_node("Identity", ["features"], [name])], [], [(name, FLOAT)]) for name in ("a", "b")
    }
    nodes = [
        helper.make_node("Cast", ["features"], ["flag"], to=BOOL),
        helper.make_node("Squeeze", ["flag"], ["scalar"]),
        helper.make_node("If", ["scalar"], ["score"], then_branch=arms["a"], else_branch=arms["b"]),
    ]
    return model_of(nodes, matrix(1)).SerializeToString()


def scan() -> bytes:
    """A body that runs once per element."""
    body = _graph([helper.make_node("Identity", ["x"], ["y"])], [("x", FLOAT)], [("y", FLOAT)])
    return _one("Scan", ["features"], body=body, num_scan_inputs=1)


def hidden_subgraph() -> bytes:
    """An operator that is allowed, with a body that it has no use for."""
    body = _graph([helper.make_node("Identity", ["x"], ["y"])], [("x", FLOAT)], [("y", FLOAT)])
    return _one("Identity", ["features"], body=body)


def local_function() -> bytes:
    """A function of the model's own, under an operator's name that is allowed."""
    node = helper.make_node("Identity", ["x"], ["y"])
    function = helper.make_function("own", "Relu", ["x"], ["y"], [node], [helper.make_opsetid("", 13)])
    model = model_of([helper.make_node("Relu", ["features"], ["score"], domain="own")], matrix(1))
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("own", 1))
    return model.SerializeToString()


def custom_domain() -> bytes:
    """An operator of ONNX Runtime's own."""
    model = model_of([helper.make_node("Identity", ["features"], ["score"], domain="com.microsoft")], matrix(1))
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model.SerializeToString()


def constant_of_shape() -> bytes:
    """A tensor as long as the feature says."""
    nodes = [
        helper.make_node("Cast", ["features"], ["length"], to=INT64),
        helper.make_node("ConstantOfShape", ["length"], ["score"]),
    ]
    return model_of(nodes, matrix(1)).SerializeToString()


def slice_by_value() -> bytes:
    """The same from operators that are allowed: a piece of a constant, as long as the feature says."""
    constants = [
        helper.make_tensor("ones", FLOAT, [2000], [1.0] * 2000),
        helper.make_tensor("start", INT64, [1], [0]),
        helper.make_tensor("flat", INT64, [1], [-1]),
    ]
    nodes = [
        helper.make_node("Cast", ["features"], ["number"], to=INT64),
        helper.make_node("Reshape", ["number", "flat"], ["end"]),
        helper.make_node("Slice", ["ones", "start", "end"], ["piece"]),
        helper.make_node("ReduceSum", ["piece"], ["score"], keepdims=1),
    ]
    return model_of(nodes, matrix(1), constants=constants).SerializeToString()


def reshape_by_value() -> bytes:
    """A shape that is computed from the feature."""
    nodes = [
        helper.make_node("Cast", ["features"], ["number"], to=INT64),
        helper.make_node("Reshape", ["features", "number"], ["score"]),
    ]
    return model_of(nodes, matrix(1)).SerializeToString()


def renamed_constant() -> bytes:
    """A shape that a constant gives until a node of the same name gives it from the row."""
    length = helper.make_tensor("length", INT64, [1], [1])
    nodes = [
        helper.make_node("Cast", ["features"], ["length"], to=INT64),
        helper.make_node("Reshape", ["features", "length"], ["score"]),
    ]
    return model_of(nodes, matrix(1), constants=[length]).SerializeToString()


def twice_named_tensor() -> bytes:
    """A constant whose second name is the row's: which of the two counts is the parser's to say."""
    model = model_of([helper.make_node("Reshape", ["ones", "features"], ["score"])], {"features": (INT64, [1])})
    tensor = helper.make_tensor("features", INT64, [1], [1]).SerializeToString() + field(8 << 3 | 2, b"ones")
    graph = model.graph.SerializeToString() + field(5 << 3 | 2, tensor)
    model.ClearField("graph")
    return model.SerializeToString() + field(GRAPH_KEY, graph)


def sparse_initializer() -> bytes:
    """A tensor of which only the values are in the file, not its zeros."""
    model = model_of([helper.make_node("Add", ["features", "weight"], ["score"])], matrix(1))
    model.graph.sparse_initializer.append(_sparse("weight"))
    return model.SerializeToString()


def sparse_constant() -> bytes:
    """The same, as a constant's value."""
    nodes = [
        helper.make_node("Constant", [], ["weight"], sparse_value=_sparse("weight")),
        helper.make_node("Add", ["features", "weight"], ["score"]),
    ]
    return model_of(nodes, matrix(1)).SerializeToString()


def _sparse(name: str) -> object:
    values = helper.make_tensor(name, FLOAT, [1], [1.0])
    return helper.make_sparse_tensor(values, helper.make_tensor("places", INT64, [1], [0]), [1])


def external_constant() -> bytes:
    """Data outside the file, in an attribute instead of an initializer."""
    tensor = TensorProto(name="weight", data_type=FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    nodes = [
        helper.make_node("Constant", [], ["weight"], value=tensor),
        helper.make_node("Add", ["features", "weight"], ["score"]),
    ]
    return model_of(nodes, matrix(1)).SerializeToString()


def _split_model() -> tuple[bytes, bytes]:
    """A model without its end, harmless to look at, and the graph that a parser merges into it."""
    start = model_of([helper.make_node("Identity", ["features"], ["a"])], matrix(1)).SerializeToString()
    nodes = [
        helper.make_node("RandomUniform", [], ["noise"], shape=[1, 1], seed=3.0),
        helper.make_node("Add", ["a", "noise"], ["score"]),
    ]
    return start, helper.make_graph(nodes, "model", [], []).SerializeToString()


def two_graphs() -> bytes:
    """A parser merges a field that comes twice: the second half holds the attack."""
    start, rest = _split_model()
    return start + field(GRAPH_KEY, rest)


def overlong_key(high: int = 1) -> bytes:
    """The same under a key of more than 32 bits, of which a parser keeps the lower 32."""
    start, rest = _split_model()
    return start + field(high << 32 | GRAPH_KEY, rest)


def two_operators() -> bytes:
    """A node with two operators, of which a parser keeps the last."""
    node = helper.make_node("Identity", ["features"], ["score"]).SerializeToString() + field(4 << 3 | 2, b"NonZero")
    model = model_of([], matrix(1))
    graph = field(1 << 3 | 2, node) + model.graph.SerializeToString()
    model.ClearField("graph")
    return model.SerializeToString() + field(GRAPH_KEY, graph)


def ort_format() -> bytes:
    """ONNX Runtime's own format, which nothing here reads, with a harmless model behind it."""
    return b"\x18\0\0\0ORTM" + onnx_models.identity()


FIXED_WORK = "operator {} is not one that does fixed work on a row"
ATTACKS: dict[str, tuple[Callable[[], bytes], str]] = {
    "loop": (loop, FIXED_WORK.format("Loop")),
    "if": (branch, FIXED_WORK.format("If")),
    "scan": (scan, FIXED_WORK.format("Scan")),
    "subgraph": (hidden_subgraph, "it has subgraphs"),
    "local-function": (local_function, "it defines functions or training of its own"),
    "custom-domain": (custom_domain, "it uses operators outside the ONNX standard"),
    **{
        f"random-{name}": (lambda name=name: onnx_models.random_score(name), FIXED_WORK.format(name))  # type: ignore[misc]
        for name in ("RandomUniform", "RandomNormal")
    },
    "multinomial": (lambda: _one("Multinomial", ["features"]), FIXED_WORK.format("Multinomial")),
    "bernoulli": (lambda: _one("Bernoulli", ["features"]), FIXED_WORK.format("Bernoulli")),
    "dropout": (lambda: _one("Dropout", ["features"]), FIXED_WORK.format("Dropout")),
    "constant-of-shape": (constant_of_shape, FIXED_WORK.format("ConstantOfShape")),
    "slice-by-value": (slice_by_value, "it has shapes that follow from a row's values"),
    "reshape-by-value": (reshape_by_value, "it has shapes that follow from a row's values"),
    "renamed-constant": (renamed_constant, "it gives one name to two values"),
    "twice-named-tensor": (twice_named_tensor, "it gives two names to one value"),
    "external-data": (lambda: onnx_models.external_data("/etc/passwd"), "it keeps data outside the file"),
    "external-constant": (external_constant, "it keeps data outside the file"),
    "sparse-initializer": (sparse_initializer, "it has sparse tensors"),
    "sparse-constant": (sparse_constant, "it has sparse tensors"),
    "two-graphs": (two_graphs, "it has more than one graph"),
    "overlong-key": (overlong_key, "it is not in ONNX format"),
    "two-operators": (two_operators, FIXED_WORK.format("NonZero")),
    "ort-format": (ort_format, "it is not in ONNX format"),
    "truncated": (lambda: onnx_models.by_name()[:-7], "it is not in ONNX format"),
    "empty": (lambda: b"", "it has no nodes"),
}
