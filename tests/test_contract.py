"""The numbers are what the design says they are, and the dial of the look-ahead prints true milliseconds."""

import numpy as np
import pytest

from lipwright import contract
from lipwright.contract import AUDIO, AVE, CENTRED, INPUT, NO_RECT, Rect, frame_count, lookahead_ms
from lipwright.errors import ContractError


def test_time_and_space_fit_together() -> None:
    assert contract.SAMPLES_PER_FRAME == 640
    assert contract.ROI_SIZE == 320
    assert contract.WINDOW_SIZE == 16
    assert np.prod(contract.AUDIO_SHAPE) == contract.WINDOW_SIZE * contract.FEATURE_DIM


@pytest.mark.parametrize(("samples", "frames"), [(0, 0), (1, 1), (640, 1), (641, 2), (16_000, 25)])
def test_a_started_frame_counts(samples: int, frames: int) -> None:
    assert frame_count(samples) == frames


@pytest.mark.parametrize(("future", "ms"), [(0, 132.5), (3, 252.5), (7, 412.5)])
def test_look_ahead_of_our_features(future: int, ms: float) -> None:
    assert lookahead_ms(future) == ms


def test_look_ahead_of_imported_features() -> None:
    assert lookahead_ms(7, AVE) == 452.5


@pytest.mark.parametrize("future", [-1, 8])
def test_look_ahead_outside_the_window_is_refused(future: int) -> None:
    with pytest.raises(ContractError, match=r"0\.\.7"):
        lookahead_ms(future)


def test_alignments_read_the_columns_of_the_design() -> None:
    for frame in range(2000):
        assert CENTRED.start(frame) == int(np.floor(3.2 * frame + 1.6 + 1e-9)) - 8
        assert AVE.start(frame) == int(80 * (max(frame - 1, 0) / 25.0))


def test_specs_name_what_they_refuse() -> None:
    INPUT.check(np.zeros((3, 6, 320, 320), np.float32))
    with pytest.raises(ContractError, match=r"audio.*float32 \[-1, 32, 16, 16\].*float64 \[1, 512\]"):
        AUDIO.check(np.zeros((1, 512)))


def test_rect_knows_its_picture() -> None:
    rect = Rect(0, 0, 100, 100)
    assert (rect.width, rect.height) == (100, 100)
    assert rect.inside(100, 100)
    assert not rect.inside(100, 99)
    assert not Rect(5, 5, 5, 10).inside(100, 100)
    assert rect.usable
    assert not NO_RECT.usable
