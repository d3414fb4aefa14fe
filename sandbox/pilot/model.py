"""The model of the demo: an operator's own work, done outside the enclave on its own copy of the public census file.

`python -m sandbox.pilot.model CENSUS OUT` trains a logistic regression of "income above 50K" on four numbers and writes
it as ONNX. The platform never trains; it is handed the file.
"""

from __future__ import annotations

import csv
import gzip
import sys
from pathlib import Path

import numpy as np
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sandbox.pilot.features import FEATURES

TRAINING_ROWS = 8000


def train(census: Path) -> bytes:
    """The trained model as ONNX bytes: one float input of four features, output `probabilities`."""
    with gzip.open(census, "rt", encoding="utf-8", newline="") as file:
        rows = [row for row, _ in zip(csv.DictReader(file), range(TRAINING_ROWS), strict=False)]
    features = np.array([[float(row[name]) for name in FEATURES] for row in rows], dtype=np.float32)
    labels = np.array([row["income"] == ">50K" for row in rows])
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    model.fit(features, labels)
    exported = to_onnx(
        model,
        initial_types=[("features", FloatTensorType([None, len(FEATURES)]))],
        options={id(model): {"zipmap": False}},
        target_opset=17,
    )
    return bytes(exported.SerializeToString())


def main() -> None:
    """Read the census file, write the model."""
    census, out = (Path(argument) for argument in sys.argv[1:3])
    out.write_bytes(train(census))


if __name__ == "__main__":
    main()
