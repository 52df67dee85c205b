"""Measures for films whose phones nobody knows, the border of the new region, and that likeness is told apart."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from lipwright import patch, quality
from lipwright.contract import BORDER, CROP_SIZE, Rect, UInt8Array
from lipwright.errors import ContractError
from lipwright.picture import BgrPicture

RECT = Rect(40, 30, 40 + 2 * CROP_SIZE, 30 + 2 * CROP_SIZE)


def lips() -> npt.NDArray[np.float64]:
    """[100] open, but closed in frames 20..22, 50 and 80..84."""
    gaps = np.full(100, 0.05)
    gaps[[20, 21, 22, 50, 80, 81, 82, 83, 84]] = 0.004
    return gaps


def test_closures_of_the_truth_are_kept() -> None:
    truth = lips()
    kept = quality.closures_kept(truth, truth)
    assert (kept.recall, kept.precision, kept.phones, kept.closed_frames) == (1.0, 1.0, 3, 9)
    late = quality.closures_kept(np.roll(truth, 1), truth)
    assert (late.recall, late.precision) == (1.0, 1.0)
    assert quality.closures_kept(np.roll(truth, 10), truth).recall == 0


def test_lips_that_never_or_always_close_are_noticed() -> None:
    truth = lips()
    never = quality.closures_kept(np.full(100, 0.05), truth)
    assert never.recall == 0 and np.isnan(never.precision)
    always = quality.closures_kept(np.zeros(100), truth)
    assert always.recall == 1 and always.precision == pytest.approx((9 + 6) / 100)


def test_frames_without_a_face_are_left_out() -> None:
    truth, ours = lips(), lips()
    truth[50], ours[21] = np.nan, np.nan
    kept = quality.closures_kept(ours, truth)
    assert (kept.phones, kept.recall) == (3, 1.0)  # 20..22 is two closures now, both kept; 50 is none
    with pytest.raises(ContractError, match="length"):
        quality.closures_kept(ours, truth[1:])


def frame() -> UInt8Array:
    """[740, 760, 3] smooth skin."""
    y, x = np.mgrid[:740, :760]
    grey = 110 + 30 * np.sin(x / 90) + 20 * np.cos(y / 70)
    return np.asarray(np.stack([grey, grey + 10, grey + 25], axis=2), np.uint8)


def redrawn(shade: int, blend: bool) -> UInt8Array:
    """The frame with a region drawn anew that is ``shade`` levels too bright."""
    picture = frame()
    crop = patch.crop(picture, RECT, "auto")
    roi = np.asarray(np.clip(patch.roi(crop).astype(int) + shade, 0, 255), np.uint8)
    if not blend:
        return patch.paste(picture, RECT, crop, roi, "auto")
    whole = BgrPicture(picture)
    return whole.changed(RECT, patch.change(whole.piece(RECT), crop, roi, "auto")).bgr


def test_a_pasted_border_is_seen_and_a_blended_one_is_not() -> None:
    original = frame()
    exact = quality.worst_seam(redrawn(12, blend=False), original, RECT).excess
    soft = quality.worst_seam(redrawn(12, blend=True), original, RECT).excess
    assert exact > 8
    assert soft < 0.15 * exact
    assert quality.worst_seam(original, original, RECT).excess == 0


def test_the_border_is_looked_for_where_it_is() -> None:
    """The rect's own edge shows nothing: the family's border lies 4 pixels of the crop inside it."""
    original, picture = frame(), redrawn(12, blend=False)
    inset = 2 * BORDER
    inside = Rect(RECT.x1 + inset, RECT.y1 + inset, RECT.x2 - inset, RECT.y2 - inset)
    at_border = quality.seam_step(picture, original, inside).excess
    assert at_border > 4 * quality.seam_step(picture, original, RECT).excess
    assert quality.worst_seam(picture, original, RECT).excess >= at_border


BOX = Rect(300, 300, 460, 420)


def mouth() -> UInt8Array:
    """Lips and teeth, not too sharp."""
    picture = frame()
    cv2.ellipse(picture, (380, 360), (60, 35), 0, 0, 360, (60, 60, 150), -1)
    for x in range(345, 420, 12):
        cv2.rectangle(picture, (x, 348), (x + 9, 366), (210, 220, 225), -1)
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), 0.8), np.uint8)


def specks(truth: UInt8Array) -> UInt8Array:
    """Every pixel lighter or darker by 12: much sharper than the truth, and every edge is still there."""
    signs = np.random.default_rng(0).choice([-12, 12], truth.shape[:2])
    return np.asarray(np.clip(truth.astype(int) + signs[..., None], 0, 255), np.uint8)


@pytest.mark.parametrize(
    ("make", "complaints"),
    [
        (lambda truth: truth, set()),
        (lambda truth: cv2.GaussianBlur(truth, (0, 0), 2.5), {"psnr", "ssim", "sharpness", "edges"}),
        (lambda truth: np.clip(truth.astype(int) + 20, 0, 255).astype(np.uint8), {"psnr"}),
        (lambda truth: np.roll(truth, 6, axis=1), {"psnr", "ssim", "edges"}),
        (specks, {"psnr", "ssim", "sharpness"}),
    ],
    ids=["true", "blurred", "too bright", "beside its place", "specks"],
)
def test_likeness_is_told_apart(make: object, complaints: set[str]) -> None:
    truth = mouth()
    assert callable(make)
    picture = np.asarray(make(truth), np.uint8)
    found = {
        "psnr": quality.psnr(picture, truth, BOX) < 30,
        "ssim": quality.ssim(picture, truth, BOX) < 0.95,
        "sharpness": abs(quality.sharpness_ratio(picture, truth, BOX) - 1) > 0.15,
        "edges": abs(quality.edges_in_place(picture, truth, BOX) - 1) > 0.15,
    }
    assert {name for name, wrong in found.items() if wrong} == complaints
