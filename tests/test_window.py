"""Windows hold features i - 8 .. i + 7, whatever stands beyond the ends."""

from pathlib import Path

import numpy as np
import pytest

from lipwright.audio.window import FeatureWindow, Padding
from lipwright.contract import AUDIO_SHAPE, FEATURE_DIM, FloatArray
from lipwright.errors import ContractError


def numbered(count: int) -> FloatArray:
    """Features whose values tell their index: feature i is full of i + 1."""
    return np.repeat(np.arange(1, count + 1, dtype=np.float32)[:, None], FEATURE_DIM, axis=1)


def windows(features: FloatArray, chunk: int, padding: Padding, future: int = 7) -> FloatArray:
    source = FeatureWindow(padding, future)
    parts = [source.push(features[i : i + chunk]) for i in range(0, len(features), chunk)]
    return np.concatenate([*parts, source.flush()])


def indices(window: FloatArray) -> list[int]:
    """Which feature stands at each of the 16 places; -1 for zeros."""
    return [int(v) - 1 for v in window.reshape(16, FEATURE_DIM)[:, 0]]


def test_the_middle_is_eight_before_itself_and_seven_after() -> None:
    assert indices(windows(numbered(40), 3, "edge")[20]) == list(range(12, 28))


def test_edge_repeats_and_zeros_are_zeros() -> None:
    assert indices(windows(numbered(40), 40, "edge")[0]) == [0] * 8 + list(range(8))
    assert indices(windows(numbered(40), 40, "zeros")[0]) == [-1] * 8 + list(range(8))
    assert indices(windows(numbered(40), 40, "edge")[39]) == [*range(31, 40), *[39] * 7]
    assert indices(windows(numbered(40), 40, "zeros")[39]) == [*range(31, 40), *[-1] * 7]


@pytest.mark.parametrize("padding", ["edge", "zeros"])
@pytest.mark.parametrize("chunk", [1, 2, 7, 100])
@pytest.mark.parametrize("count", [1, 5, 30])
def test_chunks_change_nothing(padding: Padding, chunk: int, count: int) -> None:
    whole = windows(numbered(count), count, padding)
    assert whole.shape == (count, *AUDIO_SHAPE)
    np.testing.assert_array_equal(windows(numbered(count), chunk, padding), whole)


def test_a_shorter_future_repeats_the_last_known_feature() -> None:
    assert indices(windows(numbered(40), 40, "edge", future=2)[20]) == [*range(12, 23), *[22] * 5]


def test_a_window_comes_as_soon_as_its_future_is_known() -> None:
    source = FeatureWindow(future=2)
    assert len(source.push(numbered(2))) == 0
    assert len(source.push(numbered(1))) == 1
    assert len(source.flush()) == 2


def test_memory_does_not_grow() -> None:
    source = FeatureWindow()
    for _ in range(200):
        source.push(numbered(10))
    assert len(source._features) <= 40


def test_an_impossible_future_is_refused() -> None:
    with pytest.raises(ContractError):
        FeatureWindow(future=8)


def test_equals_the_golden_values(golden: Path) -> None:
    values = np.load(golden / "family.npz")
    features = np.asarray(np.arange(20 * FEATURE_DIM).reshape(20, FEATURE_DIM) / 1000, dtype=np.float32)
    ours = windows(features, 3, "zeros").reshape(20, 16, FEATURE_DIM)
    np.testing.assert_array_equal(ours.sum(axis=2), values["window_rows_sum"])
    np.testing.assert_array_equal(ours[0, :, :4], values["window_first"])
    np.testing.assert_array_equal(ours[-1, :, :4], values["window_last"])
