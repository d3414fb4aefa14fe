"""Values become the text that an import reads."""

from __future__ import annotations

import numpy as np
import pytest

from sandbox.pilot.columns import boolean, day, fixed, pick, skewed, take, whole, within


def test_texts() -> None:
    assert whole(np.array([0, -5, 12])).tolist() == ["0", "-5", "12"]
    assert boolean(np.array([True, False])).tolist() == ["true", "false"]
    assert day(np.array(["2025-03"], dtype="datetime64[M]")).tolist() == ["2025-03-01"]


@pytest.mark.parametrize(
    ("units", "scale", "text"), [(5, 2, "0.05"), (0, 2, "0.00"), (12_345, 2, "123.45"), (12_345, 1, "1234.5")]
)
def test_fixed_point_keeps_its_zeros(units: int, scale: int, text: str) -> None:
    assert fixed(np.array([units]), scale).tolist() == [text]


def test_pick_follows_the_weights() -> None:
    drawn = pick(np.random.default_rng(1), {"a": 3, "never": 0, "b": 1}, 20_000).tolist()
    assert set(drawn) == {"a", "b"}
    assert drawn.count("a") / 20_000 == pytest.approx(0.75, abs=0.02)


def test_skewed_is_clipped_and_its_mean_is_above_its_median() -> None:
    values = skewed(np.random.default_rng(1), 1000, 1.0, 20_000, 100, 20_000)
    assert values.min() == 100
    assert values.max() == 20_000
    assert np.median(values) == pytest.approx(1000, rel=0.05)
    assert values.mean() > 1400


def test_running_numbers_within_runs() -> None:
    assert within(np.array([2, 0, 3])).tolist() == [0, 1, 0, 1, 2]
    assert within(np.array([], dtype=np.int64)).tolist() == []


def test_take_repeats_and_reorders() -> None:
    assert take({"a": np.array(["x", "y"])}, np.array([1, 1, 0]))["a"].tolist() == ["y", "y", "x"]
