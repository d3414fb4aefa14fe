"""What an ONNX model may consist of, read from its bytes before anything is loaded or any data are opened.

A model runs once per row, and how long it runs or whether it ends must not depend on the row: a loop that hangs on one
person would be an exact answer about that person. So only operators are allowed that do a fixed amount of work on a
row, without state, without randomness and without subgraphs; and where an operator takes a shape as an input, it must
be a constant of the model: a tensor as long as somebody's income would be slow for the rich.

The reader knows just enough of the protobuf wire format (protobuf.dev/programming-guides/encoding) to find every node.
It is stricter than any parser: what it does not understand is refused, and a field given twice is looked at twice.
"""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MAX_KEY = (1 << 32) - 1  # a parser keeps 32 bits of a field's key: a longer one would be another field to it than here
ORT_FORMAT = (
    b"ORTM"  # ONNX Runtime's own format stands at byte 4 of a flatbuffer; it is not read here, so it is refused
)
STANDARD_DOMAINS = frozenset({b"", b"ai.onnx", b"ai.onnx.ml"})

# Field numbers of onnx.proto3.
MODEL_GRAPH, MODEL_TRAINING, MODEL_FUNCTIONS = 7, 20, 25
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_SPARSE = 1, 5, 15
NODE_INPUT, NODE_OUTPUT, NODE_OPERATOR, NODE_ATTRIBUTE, NODE_DOMAIN = 1, 2, 4, 5, 7
ATTRIBUTE_TENSORS, ATTRIBUTE_GRAPHS, ATTRIBUTE_SPARSE = (5, 10), (6, 11), (22, 23)  # one, and a list
TENSOR_NAME, TENSOR_EXTERNAL, TENSOR_LOCATION = 8, 13, 14

# Arithmetic and comparison, activations, linear algebra, moving features about, and ai.onnx.ml.
OPERATORS = frozenset(
    b"""
    Abs Add And Ceil Clip Div Equal Erf Exp Floor Greater GreaterOrEqual IsInf IsNaN Less LessOrEqual Log Max Min Mod
    Mul Neg Not Or Pow Reciprocal Round Sign Sqrt Sub Sum Where Xor
    BatchNormalization Elu HardSigmoid LayerNormalization LeakyRelu LogSoftmax PRelu Relu Selu Sigmoid Softmax Softplus
    Softsign Tanh ThresholdedRelu
    ArgMax ArgMin Gemm MatMul ReduceL2 ReduceMax ReduceMean ReduceMin ReduceSum ReduceSumSquare
    Cast CastLike Concat Constant Flatten Gather GatherElements Identity Reshape Shape Slice Split Squeeze Transpose
    Unsqueeze
    ArrayFeatureExtractor Binarizer CategoryMapper DictVectorizer FeatureVectorizer Imputer LabelEncoder
    LinearClassifier LinearRegressor Normalizer OneHotEncoder SVMClassifier SVMRegressor Scaler
    TreeEnsemble TreeEnsembleClassifier TreeEnsembleRegressor ZipMap
    """.split()
)
# From the second on, the inputs of these say what shape comes out.
SHAPERS = frozenset(
    b"Reshape Slice Split Squeeze Unsqueeze ReduceL2 ReduceMax ReduceMean ReduceMin ReduceSum ReduceSumSquare".split()
)
SHAPE = b"Shape"


class UnreadableModelError(Exception):
    """Not a model that may run here; `what` says why, in public words."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


def check_model(model: bytes) -> None:
    """Raise UnreadableModelError unless every node of the model is one that may run."""
    if model[4:8] == ORT_FORMAT:
        raise UnreadableModelError("it is not in ONNX format")
    graphs = []
    for field, value in _fields(model):
        if field in (MODEL_FUNCTIONS, MODEL_TRAINING):
            raise UnreadableModelError("it defines functions or training of its own")
        if field == MODEL_GRAPH:
            graphs.append(value)
    if len(graphs) > 1:
        raise UnreadableModelError("it has more than one graph")
    if not graphs or _check_graph(graphs[0]) == 0:
        raise UnreadableModelError("it has no nodes")


def _check_graph(graph: bytes) -> int:
    nodes, fixed = [], set()
    for field, value in _fields(graph):
        if field == GRAPH_NODE:
            nodes.append(value)
        elif field == GRAPH_INITIALIZER:
            fixed.add(_check_tensor(value))
        elif field == GRAPH_SPARSE:
            raise UnreadableModelError("it has sparse tensors")
    for node in nodes:
        operators = _check_node(node)
        _check_shapes(node, operators, fixed)
    return len(nodes)


def _check_node(node: bytes) -> list[bytes]:
    """The operator that the node names (each of them, if it names several)."""
    operators = [value for field, value in _fields(node) if field == NODE_OPERATOR]
    if not operators:
        raise UnreadableModelError("a node names no operator")
    for operator in operators:
        if operator not in OPERATORS:
            name = operator.decode("ascii", errors="replace")[:40]
            raise UnreadableModelError(f"operator {name} is not one that does fixed work on a row")
    for field, value in _fields(node):
        if field == NODE_DOMAIN and value not in STANDARD_DOMAINS:
            raise UnreadableModelError("it uses operators outside the ONNX standard")
        if field == NODE_ATTRIBUTE:
            _check_attribute(value)
    return operators


def _check_shapes(node: bytes, operators: list[bytes], fixed: set[bytes]) -> None:
    """Shapes come from `fixed`, the names of values that are the same for every row; the node's own may join them.

    What depends on such values alone is fixed itself; so is any shape, as long as this holds for every node.
    """
    inputs = [value for field, value in _fields(node) if field == NODE_INPUT]
    outputs = [value for field, value in _fields(node) if field == NODE_OUTPUT]
    if not SHAPERS.isdisjoint(operators) and any(name and name not in fixed for name in inputs[1:]):
        raise UnreadableModelError("it has shapes that follow from a row's values")
    if operators == [SHAPE] or all(name in fixed for name in inputs if name):
        fixed.update(outputs)
    elif not fixed.isdisjoint(outputs):
        raise UnreadableModelError("it gives one name to two values")


def _check_attribute(attribute: bytes) -> None:
    for field, value in _fields(attribute):
        if field in ATTRIBUTE_GRAPHS:
            raise UnreadableModelError("it has subgraphs")
        if field in ATTRIBUTE_SPARSE:
            raise UnreadableModelError("it has sparse tensors")
        if field in ATTRIBUTE_TENSORS:
            _check_tensor(value)


def _check_tensor(tensor: bytes) -> bytes:
    """The tensor's name, empty when it has none."""
    names = [value for field, value in _fields(tensor) if field == TENSOR_NAME]
    if len(names) > 1:
        raise UnreadableModelError("it gives two names to one value")
    if any(field in (TENSOR_EXTERNAL, TENSOR_LOCATION) for field, _ in _fields(tensor)):
        raise UnreadableModelError("it keeps data outside the file")
    return names[0] if names else b""


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Every field of a message: its number, and its bytes (empty for numbers, which nothing here looks at)."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        field, wire_type = key >> 3, key & 7
        if wire_type == VARINT:
            _, position = _varint(message, position)
            yield field, b""
        elif wire_type in (FIXED64, FIXED32):
            position += 8 if wire_type == FIXED64 else 4
            yield field, b""
        elif wire_type == BYTES:
            length, position = _varint(message, position)
            yield field, message[position : position + length]
            position += length
        else:
            raise UnreadableModelError("it is not in ONNX format")
        if field == 0 or key > MAX_KEY or position > len(message):
            raise UnreadableModelError("it is not in ONNX format")


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            break
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise UnreadableModelError("it is not in ONNX format")
