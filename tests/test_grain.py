"""Skin gets its own grain back where a picture was drawn too smooth, moved along with it; mouths and edges get none."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from lipwright import patch
from lipwright.contract import FloatArray, Rect, UInt8Array
from lipwright.grain import missing_grain

SIDE = 300
#: Inside of a rect, away from where what moves comes in.
MIDDLE = np.s_[60:-60, 60:-60]


def noise(strength: float, seed: int = 1, side: int = SIDE) -> FloatArray:
    """Fine noise of this root mean square."""
    return np.asarray(np.random.default_rng(seed).normal(0, strength, (side, side)), np.float32)


def skin(grain: FloatArray, down: float = 0.0) -> UInt8Array:
    """Uneven skin, moved down by some pixels together with its grain."""
    side = len(grain)
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) * (SIDE / side)
    level = 140 + 25 * np.sin(x / 40 + y / 90) * np.cos(y / 35) + 10 * np.sin(y / 17 + x / 60)
    shift = np.array([[1, 0, 0], [0, 1, down]], np.float32)
    moved = cv2.warpAffine(level + grain, shift, (side, side), borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(np.clip(np.rint(moved[..., None] + np.array([-20, 0, 20])), 0, 255), np.uint8)


def fine(picture: UInt8Array | FloatArray) -> FloatArray:
    grey = picture.astype(np.float32).mean(axis=2) if picture.ndim == 3 else picture.astype(np.float32)
    return np.asarray(grey - cv2.GaussianBlur(grey, (0, 0), 2), np.float32)


def alike(a: FloatArray, b: FloatArray) -> float:
    return float(np.corrcoef(a[MIDDLE].ravel(), b[MIDDLE].ravel())[0, 1])


def test_skin_drawn_too_smooth_gets_its_grain_back() -> None:
    own, smooth = skin(noise(3)), skin(noise(0))
    added = missing_grain(own, smooth)
    assert added.shape == (SIDE, SIDE) and added.dtype == np.float32
    assert np.abs(added).max() <= 8
    assert alike(added, fine(own)) > 0.9
    assert 0.7 < fine(smooth + added[..., None])[MIDDLE].std() / fine(own)[MIDDLE].std() < 1.1


def test_grain_moves_along_with_the_jaw() -> None:
    grain = noise(3)
    added = missing_grain(skin(grain), skin(noise(0), down=6))
    assert alike(added, fine(skin(grain, down=6))) > 0.5
    assert abs(alike(added, fine(skin(grain)))) < 0.2


def test_skin_that_is_fine_enough_stays() -> None:
    own = skin(noise(3))
    assert np.abs(missing_grain(own, skin(noise(3, seed=2)))[MIDDLE]).mean() < 0.25 * np.abs(fine(own)[MIDDLE]).mean()
    assert np.abs(missing_grain(own, own)).max() < 1e-3
    assert np.abs(missing_grain(skin(noise(0)), skin(noise(0), down=3))).mean() < 0.05


def test_a_half_smooth_picture_is_filled_up_and_not_overdone() -> None:
    own, half = skin(noise(3)), skin(noise(1.5, seed=2))
    filled = fine(half + missing_grain(own, half)[..., None])
    assert 0.75 < filled[MIDDLE].std() / fine(own)[MIDDLE].std() < 1.05


def test_an_open_mouth_gets_no_skin() -> None:
    smooth = skin(noise(0))
    cv2.ellipse(smooth, (150, 150), (60, 30), 0, 0, 360, (30, 20, 60), -1)
    added = np.abs(missing_grain(skin(noise(3)), smooth))
    inside = np.zeros((SIDE, SIDE), np.uint8)
    cv2.ellipse(inside, (150, 150), (64, 34), 0, 0, 360, 1, -1)
    assert added[inside > 0].mean() < 0.05
    assert added[40:80, 40:260].mean() > 1


@pytest.mark.parametrize("period", [3, 4])
def test_strong_structure_is_no_grain(period: int) -> None:
    striped = skin(noise(0))
    striped[::period] -= np.uint8(60)
    assert np.abs(missing_grain(striped, cv2.GaussianBlur(striped, (0, 0), 4).astype(np.uint8))).mean() < 0.1


@pytest.mark.parametrize(("height", "width"), [(90, 90), (167, 161), (640, 652), (40, 30)])
def test_rects_of_every_size_and_what_may_not_be_written(height: int, width: int) -> None:
    own = np.asarray(cv2.resize(skin(noise(3)), (width, height)), np.uint8)
    smooth = np.asarray(cv2.GaussianBlur(own, (0, 0), 3), np.uint8)
    for picture in (own, smooth):
        picture.flags.writeable = False
    added = missing_grain(own, smooth)
    assert added.shape == (height, width) and np.isfinite(added).all()


def test_several_threads_give_what_one_gives() -> None:
    asked = [(skin(noise(3, seed)), skin(noise(0), down=seed % 5)) for seed in range(12)]
    alone = [missing_grain(*each) for each in asked]
    with ThreadPoolExecutor(4) as pool:
        for one, other in zip(alone, pool.map(lambda each: missing_grain(*each), asked), strict=True):
            np.testing.assert_array_equal(one, other)


def test_the_soft_border_brings_it_and_the_exact_paste_does_not() -> None:
    own = np.asarray(cv2.resize(skin(noise(4)), (328, 328)), np.uint8)
    smooth = np.asarray(cv2.GaussianBlur(own, (0, 0), 3), np.uint8)
    crop = patch.crop_of(own, "auto")
    soft = own + patch.change(own, crop, patch.roi(smooth), "auto")
    assert fine(soft)[140:220, 100:230].std() > 1.5 * fine(smooth)[140:220, 100:230].std()
    frame = np.zeros((400, 400, 3), np.uint8)
    rect = Rect(10, 10, 338, 338)
    pasted = patch.paste(frame, rect, crop, patch.roi(smooth), "auto")
    np.testing.assert_array_equal(pasted[14:334, 14:334], patch.roi(smooth))
