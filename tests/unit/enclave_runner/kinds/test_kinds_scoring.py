"""Models: one row at a time, no memory between rows, silent about rows that fail; what is no model is refused."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import pytest

from enclave_runner.contract.dataset import ColumnType
from enclave_runner.kinds import scoring
from enclave_runner.kinds.scoring import Feature
from enclave_runner.kinds.tasks import Declined, Rehearsal, Scoring, Trial, Vectors
from tests.support import onnx_models
from tests.support.enclave_home import column, rewound
from tests.support.worker_files import on_a_thread, stored

VALUE = (("x", ColumnType.INTEGER, 0),)


def histogram(
    model: bytes,
    cells: Sequence[object],
    features: tuple[Feature, ...] = VALUE,
    low: int = 0,
    high: int = 10_000,
    bins: int = 10,
    weights: list[int] | None = None,
) -> list[int]:
    name, kind, scale = features[0]
    columns = [column(name, kind, scale=scale), column("weight", ColumnType.INTEGER)]
    rows = list(zip(cells, weights or [1] * len(cells), strict=True))
    task = Scoring(
        sql=f'SELECT "{name}", "weight" FROM t0', features=features, output="score", low=low, high=high, bins=bins
    )
    with stored(columns, rows) as file, rewound(model) as model_file:
        (vector,) = on_a_thread(lambda: scoring.run(task, [file, model_file])).vectors
    return list(vector)


def tried(model: bytes, features: tuple[Feature, ...] = VALUE, output: str = "score") -> Vectors | Declined:
    rehearsal = Rehearsal(sql=("SELECT 1 FROM t0",), tables=(tuple((name, kind) for name, kind, _ in features),))
    trial = Trial(rehearsal=rehearsal, features=features, output=output)
    with rewound(model) as file:
        return on_a_thread(lambda: scoring.try_model(trial, [file]))


def refusal(model: bytes, features: tuple[Feature, ...] = VALUE, output: str = "score") -> str:
    answer = tried(model, features, output)
    assert isinstance(answer, Declined)
    assert answer.rule == "model.malformed"
    return answer.facts["what"]


def test_each_row_falls_into_one_bin_with_its_weight() -> None:
    assert histogram(onnx_models.identity(), [0, 1, 1, 9], weights=[5, 7, 1, 2]) == [5, 8, 0, 0, 0, 0, 0, 0, 0, 2]


def test_scores_outside_the_range_are_clipped_into_it() -> None:
    assert histogram(onnx_models.identity(), [-(10**12), -1, 10, 10**12]) == [2, 0, 0, 0, 0, 0, 0, 0, 0, 2]


def test_a_negative_range_has_its_edges_below() -> None:
    assert histogram(onnx_models.identity(), [-2, -1, 0, 1], low=-2000, high=2000, bins=4) == [1, 1, 1, 1]


def test_a_model_that_averages_over_the_batch_sees_a_batch_of_one() -> None:
    cells = [0, 2, 9, 9, 4]
    assert histogram(onnx_models.batch_mean(), cells) == histogram(onnx_models.identity(), cells)


def test_a_row_scores_the_same_whatever_came_before_it() -> None:
    model = onnx_models.batch_mean()
    whole = histogram(model, list(range(10)))
    for removed in range(10):
        rest = histogram(model, [cell for cell in range(10) if cell != removed])
        assert sum(abs(a - b) for a, b in zip(whole, rest, strict=True)) == 1


@pytest.mark.parametrize("operator", ["RandomUniform", "RandomNormal"])
def test_a_model_with_a_memory_across_rows_is_refused(operator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = onnx_models.random_score(operator)
    assert refusal(model) == f"operator {operator} is not one that does fixed work on a row"
    # The fault that this refusal prevents: without it, one row less moves the scores of the rows after it.
    monkeypatch.setattr(scoring, "check_model", lambda model: None)
    rest = [0, 1000] * 20
    moved = [
        abs(a - b)
        for a, b in zip(
            histogram(model, [1000, *rest], low=-3000, high=3000, bins=60),
            histogram(model, rest, low=-3000, high=3000, bins=60),
            strict=True,
        )
    ]
    assert sum(moved) > 10


def test_rows_that_fail_or_give_no_number_are_dropped_silently() -> None:
    assert histogram(onnx_models.logarithm(), [-1, -5, None, 1, 2]) == [2, 0, 0, 0, 0, 0, 0, 0, 0, 0]


def test_an_infinite_score_is_no_score() -> None:
    assert histogram(onnx_models.logarithm(), [0, 0, 3]) == [0, 1, 0, 0, 0, 0, 0, 0, 0, 0]


def test_cells_reach_the_model_in_their_unit() -> None:
    assert histogram(onnx_models.identity(), [250], (("x", ColumnType.DECIMAL, 2),)).index(1) == 2
    assert histogram(onnx_models.identity(), [True], (("x", ColumnType.BOOLEAN, 0),)).index(1) == 1
    assert histogram(onnx_models.identity(), [date(1970, 1, 6)], (("x", ColumnType.DATE, 0),)).index(1) == 5


def test_inputs_may_be_named_as_the_columns() -> None:
    features = (("age", ColumnType.INTEGER, 0), ("active", ColumnType.TEXT, 0))
    assert tried(onnx_models.by_name(), features) == Vectors(vectors=())
    sql = 'SELECT "age", "active", 1 FROM t0'
    task = Scoring(sql=sql, features=features, output="score", low=0, high=10_000, bins=10)
    columns = [column("age", ColumnType.INTEGER), column("active", ColumnType.TEXT)]
    rows = [(3, "yes"), (5, "no"), (None, "yes"), (7, None)]
    with stored(columns, rows) as file, rewound(onnx_models.by_name()) as model:
        (vector,) = on_a_thread(lambda: scoring.run(task, [file, model])).vectors
    assert vector == (2, 0, 0, 1, 0, 0, 0, 0, 0, 0)  # a missing integer has no int64: that row is dropped


def test_a_good_model_passes_its_trial() -> None:
    assert tried(onnx_models.identity()) == Vectors(vectors=())


@pytest.mark.parametrize(
    ("model", "what"),
    [
        (b"", "it has no nodes"),
        (b"not a model", "it is not in ONNX format"),
        (onnx_models.identity()[:-20], "it is not in ONNX format"),
        (onnx_models.external_data("/etc/passwd"), "it keeps data outside the file"),
        (onnx_models.external_data("../../etc/passwd"), "it keeps data outside the file"),
        (onnx_models.external_data("/proc/self/environ"), "it keeps data outside the file"),
        (onnx_models.identity(width=3), "it does not score a row of these features"),
        (onnx_models.by_name(), "its inputs are not the selected columns"),
    ],
)
def test_what_is_no_model_of_these_features_is_refused(model: bytes, what: str) -> None:
    assert refusal(model) == what


def test_a_wrong_output_is_named() -> None:
    assert refusal(onnx_models.identity(), output="probability") == "it has no output probability"


def test_text_has_no_place_in_a_matrix_of_numbers() -> None:
    assert refusal(onnx_models.identity(), (("x", ColumnType.TEXT, 0),)) == "it does not score a row of these features"
