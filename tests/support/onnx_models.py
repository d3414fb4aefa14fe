"""Small ONNX models, built node by node."""

from __future__ import annotations

from onnx import ModelProto, NodeProto, StringStringEntryProto, TensorProto, helper

FLOAT, INT64, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING


def model_of(
    nodes: list[NodeProto],
    inputs: dict[str, tuple[int, list[int | None]]],
    output: str = "score",
    constants: list[TensorProto] | None = None,
) -> ModelProto:
    """A model with one float output of any shape."""
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(output, FLOAT, None)],
        constants or [],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def matrix(width: int) -> dict[str, tuple[int, list[int | None]]]:
    """One float input of all features."""
    return {"features": (FLOAT, [None, width])}


def identity(width: int = 1) -> bytes:
    """The score is the (last) feature."""
    return model_of([helper.make_node("Identity", ["features"], ["score"])], matrix(width)).SerializeToString()


def batch_mean() -> bytes:
    """The score is the mean over the batch axis: in one batch, every row would know of all the others."""
    node = helper.make_node("ReduceMean", ["features"], ["score"], axes=[0], keepdims=1)
    return model_of([node], matrix(1)).SerializeToString()


def random_score(operator: str) -> bytes:
    """The score depends on how often the model ran before."""
    node = helper.make_node(operator, [], ["noise"], shape=[1, 1], seed=3.0)
    add = helper.make_node("Add", ["features", "noise"], ["score"])
    return model_of([node, add], matrix(1)).SerializeToString()


def logarithm() -> bytes:
    """NaN below zero, minus infinity at zero."""
    return model_of([helper.make_node("Log", ["features"], ["score"])], matrix(1)).SerializeToString()


def through_denormals() -> bytes:
    """The score is the feature, by way of numbers so small that a processor is slow with them."""
    steps = (1e-38, 1e-3, 1e38, 1e3)
    constants = [helper.make_tensor(f"c{n}", FLOAT, [1], [step]) for n, step in enumerate(steps)]
    names = ["features", "v0", "v1", "v2", "score"]
    nodes = [helper.make_node("Mul", [names[n], f"c{n}"], [names[n + 1]]) for n in range(len(steps))]
    return model_of(nodes, matrix(1), constants=constants).SerializeToString()


def external_data(location: str) -> bytes:
    """A weight that is said to lie in a file beside the model."""
    weight = TensorProto(name="weight", data_type=FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    weight.external_data.append(StringStringEntryProto(key="location", value=location))
    node = helper.make_node("Add", ["features", "weight"], ["score"])
    return model_of([node], matrix(1), constants=[weight]).SerializeToString()


def by_name() -> bytes:
    """One input per feature: a float and a text that must be "yes"."""
    nodes = [
        helper.make_node("Cast", ["age"], ["number"], to=FLOAT),
        helper.make_node("LabelEncoder", ["active"], ["flag"], domain="ai.onnx.ml",
                         keys_strings=["yes"], values_floats=[1.0], default_float=0.0),
        helper.make_node("Mul", ["number", "flag"], ["score"]),
    ]  # fmt: skip
    model = model_of(nodes, {"age": (INT64, [None, 1]), "active": (STRING, [None, 1])})
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 2))
    return model.SerializeToString()
