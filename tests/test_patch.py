"""Cut, mask and paste are the family's to the bit, and nothing outside the rect changes."""

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from lipwright import patch
from lipwright.contract import Rect, UInt8Array

RECT = Rect(532, 210, 714, 392)


@pytest.fixture
def frame() -> UInt8Array:
    return np.random.default_rng(8).integers(0, 256, (720, 1280, 3), np.uint8)


def test_the_mask_hides_columns_5_to_314_and_rows_5_to_309() -> None:
    hidden = patch.masked(np.full((320, 320, 3), 9, np.uint8)) == 0
    expected = np.zeros((320, 320, 3), bool)
    expected[5:310, 5:315] = True
    np.testing.assert_array_equal(hidden, expected)


def test_the_roi_is_the_crop_without_four_pixels_on_every_side(frame: UInt8Array) -> None:
    square = Rect(40, 50, 40 + 328, 50 + 328)
    crop = patch.crop(frame, square, "cubic")
    np.testing.assert_array_equal(crop, frame[50:378, 40:368])
    np.testing.assert_array_equal(patch.roi(crop), frame[54:374, 44:364])
    pasted = patch.paste(frame, square, crop, 255 - patch.roi(crop), "cubic")
    expected = frame.copy()
    expected[54:374, 44:364] = 255 - frame[54:374, 44:364]
    np.testing.assert_array_equal(pasted, expected)


def test_cut_and_mask_equal_the_golden_values(frame: UInt8Array, golden: Path) -> None:
    values = np.load(golden / "patch.npz")
    crop = patch.crop(frame, RECT, "cubic")
    np.testing.assert_array_equal(crop[::4, ::4], values["crop_every_4th"])
    hidden = patch.masked(patch.roi(crop)).astype(np.int64)
    np.testing.assert_array_equal(hidden.sum(axis=(1, 2)), values["masked_rows_sum"])
    np.testing.assert_array_equal(hidden.sum(axis=(0, 2)), values["masked_cols_sum"])


def test_input_is_reference_then_masked_target_bgr_0_to_1() -> None:
    reference = np.full((320, 320, 3), (255, 51, 0), np.uint8)
    target = np.full((320, 320, 3), (0, 102, 255), np.uint8)
    x = patch.to_input(reference, target)
    assert x.shape == (6, 320, 320)
    assert x.dtype == np.float32
    np.testing.assert_allclose(x[:3, 0, 0], [1, 0.2, 0])
    np.testing.assert_allclose(x[3:, 0, 0], [0, 0.4, 1])
    np.testing.assert_array_equal(x[3:, 160, 160], 0)


def test_inputs_of_many_are_those_of_each_to_the_bit() -> None:
    some = np.random.default_rng(1).integers(0, 256, (3, 320, 320, 3), dtype=np.uint8)
    expected = np.stack([patch.to_input(roi, roi) for roi in some])
    np.testing.assert_array_equal(patch.to_inputs(some), expected)
    np.testing.assert_array_equal(patch.masked(some[0]), some[0] * patch.visible()[..., None])


def test_output_is_rounded_and_clipped() -> None:
    y = np.zeros((3, 320, 320), np.float32)
    y[0], y[1], y[2] = 0.4999 / 255, 1.5001 / 255, 1.2
    assert patch.from_outputs(np.stack([0 * y, y]))[1, 0, 0].tolist() == [0, 2, 255]
    assert patch.from_output(y)[0, 0].tolist() == [0, 2, 255]


@pytest.mark.parametrize("how", ["cubic", "auto"])
def test_paste_changes_nothing_outside_the_rect_nor_in_place(frame: UInt8Array, how: patch.Resize) -> None:
    before = frame.copy()
    crop = patch.crop(frame, RECT, how)
    pasted = patch.paste(frame, RECT, crop, np.zeros((320, 320, 3), np.uint8), how)
    np.testing.assert_array_equal(frame, before)
    changed = (pasted != frame).any(axis=2)
    changed[RECT.y1 : RECT.y2, RECT.x1 : RECT.x2] = False
    assert not changed.any()
    assert pasted[300, 620].tolist() == [0, 0, 0]


def test_pasting_the_own_roi_of_a_smooth_picture_gives_it_back() -> None:
    y, x = np.mgrid[0:720, 0:1280]
    smooth = np.stack([x / 8, y / 4, (x + y) / 10], axis=2).astype(np.uint8)
    crop = patch.crop(smooth, RECT, "auto")
    pasted = patch.paste(smooth, RECT, crop, patch.roi(crop), "auto").astype(int)
    assert np.abs(pasted - smooth).max() <= 2


def flat(level: int, size: int = 320) -> UInt8Array:
    return np.full((size, size, 3), level, np.uint8)


def changed(prediction: UInt8Array, size: int = 328) -> npt.NDArray[np.float32]:
    """A grey rect of this size with the change to ``prediction``."""
    return 100 + patch.change(flat(100, size), flat(100, 328), prediction, "auto")


def test_a_change_keeps_the_border_and_shows_the_new_picture_inside() -> None:
    new = flat(100)
    new[140:180, 140:180] = 200
    seen = changed(new)
    np.testing.assert_array_equal(seen[:, : patch.FADE_SIDE[0]], 100)
    np.testing.assert_array_equal(seen[154:174, 154:174], 200)


def test_a_change_matches_a_slightly_different_colour() -> None:
    assert np.abs(changed(flat(104)) - 100).max() == 0


def test_a_change_does_not_repaint_what_is_really_different() -> None:
    seen = changed(flat(160))
    assert seen[160, 160, 0] == 160 - patch.COLOUR_SHIFT
    low, high = patch.FADE_SIDE
    assert np.abs(np.diff(seen[160, :, 0])).max() <= 60 * 2 / (high - low)
    assert seen[0, 0, 0] == 100


def test_nothing_of_the_old_mouth_shows_through_the_new_one() -> None:
    stripes = flat(100, 200)
    stripes[::2] = 160  # finer than a crop that was made larger and smaller again can show
    crop = patch.resize(stripes, 328, 328, "auto")
    seen = stripes + patch.change(stripes, crop, flat(130), "auto")
    inside = seen[70:130, 70:130]
    assert np.ptp(inside) == 0
    np.testing.assert_array_equal(seen[0], stripes[0])


def test_auto_averages_when_shrinking() -> None:
    checker = np.indices((656, 656)).sum(axis=0) % 2 * 255
    frame = np.repeat(checker[..., None], 3, axis=2).astype(np.uint8)
    whole = Rect(0, 0, 656, 656)
    assert np.abs(patch.crop(frame, whole, "auto").astype(int) - 128).max() <= 1


def test_cubic_is_cubic_both_ways(frame: UInt8Array) -> None:
    for side in (200, 600):
        piece = frame[:side, :side]
        expected = cv2.resize(piece, (328, 328), interpolation=cv2.INTER_CUBIC)
        np.testing.assert_array_equal(patch.crop(frame, Rect(0, 0, side, side), "cubic"), expected)
