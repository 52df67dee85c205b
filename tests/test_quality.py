"""Every measure on cases whose right answer is known: a drawn talking face, and copies of it with one fault each."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from lipwright import face, quality
from lipwright.contract import Rect
from lipwright.errors import ContractError
from lipwright.quality import Phone

Picture = npt.NDArray[np.uint8]
Series = npt.NDArray[np.float64]

HEIGHT, WIDTH = 240, 240
REGION = Rect(60, 100, 180, 220)
FACE_HEIGHT, FACE_WIDTH = 180.0, 130.0
FRAMES = 100
#: Pictures are drawn for every fifth frame: 0, 5, ..; landmarks are there for all.
EVERY = 5
#: One p every 12 frames between two pauses of 20 frames.
PHONES = [
    Phone("pau", 0.0, 0.8),
    *(
        phone
        for start in range(20, 80, 12)
        for phone in (Phone("aa", start / 25, (start + 8) / 25), Phone("p", (start + 8) / 25, (start + 12) / 25))
    ),
    Phone("pau", 3.2, 4.0),
]


@dataclass(frozen=True)
class Film:
    """A drawn speaker: pictures and the landmarks that belong to them."""

    pictures: list[Picture]
    landmarks: npt.NDArray[np.float32]


def true_gaps() -> Series:
    """Lip gap over face height: closed in pauses and during p, open to changing degrees in between."""
    gaps = np.zeros(FRAMES)
    for k, start in enumerate(range(20, 80, 12)):
        gaps[start : start + 9] = (0.05 + 0.01 * (k % 3)) * np.sin(np.linspace(0.35, np.pi - 0.35, 9))
    return gaps


def marks_for(gap: float) -> npt.NDArray[np.float32]:
    """[468, 3]: only the points that the measures read are in their places; the lips 3 pixels thick."""
    marks = np.zeros((468, 3), np.float32)
    marks[list(face.POSE_POINTS), :2] = np.random.default_rng(5).uniform(60, 180, (len(face.POSE_POINTS), 2))
    marks[face.LEFT_TEMPLE], marks[face.RIGHT_TEMPLE] = (55, 100, 0), (55 + FACE_WIDTH, 100, 0)
    marks[face.FOREHEAD], marks[face.CHIN] = (120, 30, 0), (120, 30 + FACE_HEIGHT, 0)
    half = gap * FACE_HEIGHT / 2
    for ring, width, height in ((face.OUTER_LIPS, 30.0, half + 6), (face.INNER_LIPS, 26.0, half)):
        angle = np.pi + 2 * np.pi * np.arange(len(ring)) / len(ring)
        marks[list(ring), 0], marks[list(ring), 1] = 120 + width * np.cos(angle), 165 + height * np.sin(angle)
    for upper, lower in face.INNER_LIP_PAIRS:
        marks[[upper, lower], 1] = 165 - half, 165 + half
    return marks


def draw(marks: npt.NDArray[np.float32]) -> Picture:
    """Textured skin with red lips around a dark mouth."""
    noise = np.random.default_rng(3).normal(0, 6, (HEIGHT, WIDTH, 3))
    picture = np.clip(np.array([120, 150, 200]) + noise, 0, 255).astype(np.uint8)
    for ring, colour in ((face.OUTER_LIPS, (80, 80, 180)), (face.INNER_LIPS, (20, 10, 40))):
        outline = np.rint(marks[list(ring), :2] * 8).astype(np.int32)
        cv2.fillPoly(picture, [outline], colour, lineType=cv2.LINE_AA, shift=3)
    return picture


def film(gaps: Series) -> Film:
    marks = np.stack([marks_for(float(gap)) for gap in gaps])
    return Film([draw(one) for one in marks[::EVERY]], marks)


@pytest.fixture(scope="module")
def truth() -> Film:
    return film(true_gaps())


def faithful() -> Film:
    return film(true_gaps())


def blurred() -> Film:
    good = faithful()
    return replace(
        good, pictures=[change_region(p, lambda part: cv2.GaussianBlur(part, (0, 0), 1.5)) for p in good.pictures]
    )


def tinted() -> Film:
    good = faithful()
    return replace(
        good,
        pictures=[change_region(p, lambda part: np.clip(part.astype(np.int16) + 12, 0, 255)) for p in good.pictures],
    )


def late() -> Film:
    return film(np.roll(true_gaps(), 3))


def frozen() -> Film:
    return film(np.full(FRAMES, 0.015))


def closed() -> Film:
    return film(np.zeros(FRAMES))


def never_closed() -> Film:
    return film(true_gaps() + 0.014)


def mumbling() -> Film:
    return film(true_gaps() * 0.5)


def trembling_at_rest() -> Film:
    gaps, still = true_gaps(), quality.silent_frames(PHONES, FRAMES)
    gaps[still] += 0.008 * (np.arange(FRAMES)[still] % 2)
    return film(gaps)


def sideways() -> Film:
    good = faithful()
    marks = good.landmarks.copy()
    marks[:, list(face.LIPS), 0] += 8
    return replace(good, landmarks=marks)


def change_region(picture: Picture, change: Callable[[Picture], npt.NDArray[np.generic]]) -> Picture:
    """The picture with only its region changed; the blur sees the surroundings, as a network does."""
    result = picture.copy()
    part = np.s_[REGION.y1 : REGION.y2, REGION.x1 : REGION.x2]
    result[part] = np.asarray(change(picture), np.uint8)[part]
    return result


def complaints(ours: Film, truth: Film) -> set[str]:
    """The names of the measures that find something wrong."""
    gaps, true = face.lip_gap(ours.landmarks), face.lip_gap(truth.landmarks)
    correlation = quality.lip_gap_correlation(gaps, true)
    lips = quality.closed_lips(gaps, PHONES)
    lmd = quality.landmark_distance(
        face.lip_points(ours.landmarks), face.lip_points(truth.landmarks), face.face_width(truth.landmarks)
    )
    kept = quality.closures_kept(gaps, true)
    sharp, seam, square = [], [], []
    for picture, original, marks in zip(ours.pictures, truth.pictures, truth.landmarks[::EVERY], strict=True):
        box = quality.mouth_box(face.lip_points(marks), HEIGHT, WIDTH)
        sharp.append(quality.sharpness_ratio(picture, original, box))
        seam.append(quality.seam_step(picture, original, REGION).excess)
        square.append(quality.worst_seam(picture, original, REGION).excess)
    verdicts = {
        "sharpness": abs(float(np.mean(sharp)) - 1) > 0.1,
        "seam": float(np.mean(seam)) > 1,
        "worst seam": float(np.mean(square)) > 1,
        "lag": correlation.lag != 0,
        "correlation": not correlation.r > 0.95,
        "amplitude": not 0.8 < correlation.amplitude < 1.25,
        "closing": not lips.recall > 0.95,
        "closed too often": lips.precision < 0.95,
        "closures lost": not kept.recall > 0.95,
        "closures added": kept.precision < 0.95,
        "rest": not quality.rest(gaps, quality.silent_frames(PHONES, FRAMES)).quiet,
        "distance": lmd > 0.01,
    }
    return {name for name, wrong in verdicts.items() if wrong}


@pytest.mark.parametrize(
    "make, expected",
    [
        (faithful, set()),
        (blurred, {"sharpness"}),
        (tinted, {"seam", "worst seam"}),
        (late, {"lag", "correlation", "closed too often", "closures added"}),
        (mumbling, {"amplitude"}),
        (never_closed, {"closing", "closures lost"}),
        (closed, {"correlation", "amplitude", "closed too often", "closures added"}),
        (frozen, {"correlation", "amplitude", "closing", "closures lost"}),
        (trembling_at_rest, {"rest"}),
        (sideways, {"distance"}),
    ],
)
def test_each_fault_is_noticed_by_its_measures_and_no_other(
    truth: Film, make: Callable[[], Film], expected: set[str]
) -> None:
    assert complaints(make(), truth) == expected


# --- pictures -------------------------------------------------------------------------------------------------------
def noise(seed: int, shape: tuple[int, int] = (40, 50)) -> Picture:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


def test_psnr_of_a_known_error() -> None:
    truth = np.full((40, 50, 3), 100, np.uint8)
    assert quality.psnr(truth, truth) == math.inf
    assert quality.psnr(truth + 5, truth) == pytest.approx(20 * math.log10(255 / 5))
    spoilt = truth.copy()
    spoilt[:, 25:] = 0
    assert quality.psnr(spoilt, truth, Rect(0, 0, 25, 40)) == math.inf


def slow_ssim(first: Picture, second: Picture) -> float:
    """SSIM window by window, as the paper's formula reads."""
    x, y = (p.astype(np.float64) @ np.array([0.114, 0.587, 0.299]) for p in (first, second))
    bell = np.exp(-0.5 * ((np.arange(11) - 5) / 1.5) ** 2)
    weight = np.outer(bell, bell) / bell.sum() ** 2
    values = []
    for row in range(x.shape[0] - 10):
        for column in range(x.shape[1] - 10):
            a, b = x[row : row + 11, column : column + 11], y[row : row + 11, column : column + 11]
            ma, mb = (weight * a).sum(), (weight * b).sum()
            va, vb = (weight * (a - ma) ** 2).sum(), (weight * (b - mb) ** 2).sum()
            cov = (weight * (a - ma) * (b - mb)).sum()
            c1, c2 = 2.55**2, 7.65**2
            values.append((2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2)))
    return float(np.mean(values))


def test_ssim_is_the_papers() -> None:
    truth = cv2.GaussianBlur(noise(0), (0, 0), 2).astype(np.uint8)
    other = cv2.addWeighted(truth, 0.8, noise(1), 0.2, 0).astype(np.uint8)
    assert quality.ssim(other, truth) == pytest.approx(slow_ssim(other, truth), abs=1e-9)
    assert quality.ssim(truth, truth) == pytest.approx(1.0)
    with pytest.raises(ContractError, match="11 x 11"):
        quality.ssim(truth, truth, Rect(0, 0, 10, 40))


def test_sharpness_falls_with_blur_and_rises_with_noise_and_not_with_brightness() -> None:
    truth = cv2.GaussianBlur(noise(0), (0, 0), 1).astype(np.uint8) // 2 + 40
    ratios = [quality.sharpness_ratio(cv2.GaussianBlur(truth, (0, 0), s).astype(np.uint8), truth) for s in (0.5, 1, 2)]
    assert 1 > ratios[0] > ratios[1] > ratios[2] > 0
    assert quality.sharpness_ratio(truth + 20, truth) == pytest.approx(1.0)
    grainy = np.clip(truth + np.random.default_rng(2).normal(0, 8, truth.shape), 0, 255).astype(np.uint8)
    assert quality.sharpness_ratio(grainy, truth) > 1.1
    flat = np.full_like(truth, 9)
    assert math.isnan(quality.sharpness_ratio(truth, flat))


def test_seam_measures_the_step_and_not_the_scene() -> None:
    scene = np.tile(np.linspace(0, 240, 100)[:, None, None], (1, 100, 3)).astype(np.uint8)
    rect = Rect(30, 30, 70, 70)
    same = quality.seam_step(scene, scene, rect)
    assert same.excess == 0 and same.original > 1
    lighter = np.full((100, 100, 3), 90, np.uint8)
    lighter[30:70, 30:70] += 10
    assert quality.seam_step(lighter, np.full_like(lighter, 90), rect).excess == pytest.approx(10)
    inner = np.full((100, 100, 3), 90, np.uint8)
    inner[40:60, 40:60] = 0
    assert quality.seam_step(inner, np.full_like(inner, 90), rect).excess == 0


def test_seam_leaves_out_sides_without_an_outside() -> None:
    picture = np.full((100, 100, 3), 90, np.uint8)
    picture[60:, 30:70] += 8
    assert quality.seam_step(picture, np.full_like(picture, 90), Rect(30, 60, 70, 100)).excess == pytest.approx(8)
    assert math.isnan(quality.seam_step(picture, picture, Rect(0, 0, 100, 100)).excess)


@pytest.mark.parametrize("box", [None, Rect(0, 0, 60, 20)])
def test_pictures_that_do_not_go_together_are_refused(box: Rect | None) -> None:
    other = noise(1, (40, 51)) if box is None else noise(1)
    for measure in (quality.psnr, quality.ssim, quality.sharpness_ratio):
        with pytest.raises(ContractError):
            measure(noise(0), other, box)


def test_mouth_box_is_the_lips_and_a_fifth_on_each_side() -> None:
    marks = marks_for(0.05)
    lips = face.mouth_bounds(marks)
    box = quality.mouth_box(face.lip_points(marks), HEIGHT, WIDTH)
    assert box.width == pytest.approx(1.4 * (lips[2] - lips[0]), abs=2)
    assert box.height == pytest.approx(1.4 * (lips[3] - lips[1]), abs=2)
    assert quality.mouth_box(face.lip_points(marks), HEIGHT, 130).x2 == 130
    for nowhere in (np.full_like(marks, np.nan), marks + 1000):
        with pytest.raises(ContractError, match="mouth"):
            quality.mouth_box(face.lip_points(nowhere), HEIGHT, WIDTH)


# --- series ---------------------------------------------------------------------------------------------------------
def test_lag_has_a_sign_and_survives_holes() -> None:
    true = np.convolve(np.random.default_rng(4).normal(size=210), np.ones(5) / 5, "valid")
    ours = 0.5 * np.roll(true, 4) + 0.01
    ours[[20, 21, 90]] = np.nan
    found = quality.lip_gap_correlation(ours[10:190], true[10:190])
    assert found.lag == 4 and found.r_at_lag == pytest.approx(1.0)
    assert found.amplitude == pytest.approx(0.5, rel=0.1)
    assert quality.lip_gap_correlation(true[10:190], ours[10:190]).lag == -4


def test_correlation_of_what_does_not_move_or_is_not_there() -> None:
    true = np.sin(np.arange(50.0))
    still = quality.lip_gap_correlation(np.full(50, 0.02), true)
    assert (still.r, still.lag, still.amplitude) == (0.0, 0, 0.0)
    assert math.isnan(quality.lip_gap_correlation(true, np.full(50, 0.02)).r)
    nothing = quality.lip_gap_correlation(np.full(50, np.nan), true)
    assert math.isnan(nothing.r) and math.isnan(nothing.r_at_lag) and math.isnan(nothing.amplitude)
    assert math.isnan(quality.lip_gap_correlation(true[:9], true[:9]).r)
    with pytest.raises(ContractError, match="length"):
        quality.lip_gap_correlation(true, true[1:])


def _syllables(rng: np.random.Generator, count: int, hold: float = 0.8) -> npt.NDArray[np.float64]:
    """[count] a series each of whose values is much like the one before it, as lips are."""
    series = np.zeros(count + 100)
    for k in range(1, len(series)):
        series[k] = hold * series[k - 1] + rng.normal()
    return series[100:]


@pytest.mark.parametrize("frames", [48, 125, 500])
@pytest.mark.parametrize("true_r", [0.0, 0.6])
def test_the_interval_of_r_holds_the_true_one_in_nine_of_ten(frames: int, true_r: float) -> None:
    rng = np.random.default_rng(frames)
    held = []
    for _ in range(300):
        truth = _syllables(rng, frames)
        ours = true_r * truth + math.sqrt(1 - true_r**2) * _syllables(rng, frames)
        found = quality.lip_gap_correlation(ours, truth, max_lag=0)
        assert found.low < found.r < found.high
        held.append(found.low <= true_r <= found.high)
    assert 0.84 <= np.mean(held) <= 0.96


def test_the_interval_of_r_is_fishers_where_frames_are_independent_and_narrows_with_more_of_them() -> None:
    rng = np.random.default_rng(1)
    truth = rng.normal(size=4000)
    found = quality.lip_gap_correlation(rng.normal(size=4000), truth, max_lag=0)
    reach = 1.645 / math.sqrt(4000 - 3)
    assert math.atanh(found.high) - math.atanh(found.r) == pytest.approx(reach, rel=0.05)
    assert math.atanh(found.r) - math.atanh(found.low) == pytest.approx(reach, rel=0.05)
    slow = np.linspace(0, 1, 10)
    alone = quality.lip_gap_correlation(slow, slow + rng.normal(size=10) * 0.1, max_lag=0)
    assert alone.r > 0.8 and alone.low < 0.3, "one slow movement may follow anything"
    same = quality.lip_gap_correlation(truth, truth, max_lag=0)
    assert 0.99 < same.low <= same.high <= 1.0
    still = quality.lip_gap_correlation(np.full(50, 0.02), truth[:50])
    assert math.isnan(still.low) and math.isnan(still.high)


def test_landmark_distance_is_a_share_of_the_face_and_leaves_out_nan() -> None:
    true = np.zeros((3, 40, 2))
    ours = true + np.array([3.0, 4.0])
    assert quality.landmark_distance(ours, true, np.full(3, 100.0)) == pytest.approx(0.05)
    ours[1] = np.nan
    assert quality.landmark_distance(ours, true, np.full(3, 100.0)) == pytest.approx(0.05)
    assert math.isnan(quality.landmark_distance(ours[1:2], true[:1], np.full(1, 100.0)))
    with pytest.raises(ContractError, match="LMD"):
        quality.landmark_distance(ours, true, np.full(2, 100.0))


def test_closed_lips_counts_phones_and_frames() -> None:
    phones = [
        Phone("aa", 0.0, 0.4),
        Phone("b", 0.4, 0.48),
        Phone("aa", 0.48, 0.8),
        Phone("m", 0.8, 0.88),
        Phone("pau", 0.88, 2.0),
    ]
    gaps = np.full(50, 0.05)
    gaps[10:12] = 0.0
    gaps[3] = 0.0
    gaps[30:] = 0.0
    found = quality.closed_lips(gaps, phones)
    assert (found.recall, found.phones) == (0.5, 2)
    assert found.precision == pytest.approx(2 / 3) and found.closed_frames == 3
    gaps[19:24] = np.nan
    assert (quality.closed_lips(gaps, phones).recall, quality.closed_lips(gaps, phones).phones) == (1.0, 1)
    silence = quality.closed_lips(gaps, [Phone("pau", 0.0, 2.0)])
    assert math.isnan(silence.recall) and math.isnan(silence.precision) and silence.phones == 0


def test_rest_judges_only_pauses() -> None:
    silent = quality.silent_frames(PHONES, FRAMES)
    assert np.flatnonzero(silent).tolist() == [*range(20), *range(80, 100)]
    gaps = np.where(silent, 0.01, 0.08)
    found = quality.rest(gaps, silent)
    assert found.gap_99 == pytest.approx(0.01)
    assert (found.step_99, found.jitter, found.frames, found.quiet) == (0, 0, 40, True)
    gaps[5] = 0.05
    assert not quality.rest(gaps, silent).quiet
    nothing = quality.rest(np.full(FRAMES, np.nan), silent)
    assert math.isnan(nothing.jitter)
    assert math.isnan(nothing.gap_99) and nothing.frames == 0 and not nothing.quiet


def test_a_tremble_in_a_pause_is_measured_and_speech_is_not() -> None:
    silent = quality.silent_frames(PHONES, FRAMES)
    trembling = 0.01 + 0.002 * (np.arange(FRAMES) % 2)
    found = quality.rest(np.where(silent, trembling, np.sin(np.arange(FRAMES))), silent)
    assert found.jitter == pytest.approx(0.002) and found.step_99 == pytest.approx(0.002)
    one_jump = np.where(np.arange(FRAMES) < 10, 0.01, 0.02)
    steps = 19 + 19  # of two pauses of 20 frames
    assert quality.rest(one_jump, silent).jitter == pytest.approx(0.01 / math.sqrt(steps))


# --- baselines ------------------------------------------------------------------------------------------------------
def test_pose_points_and_lips_share_nothing() -> None:
    assert not set(face.POSE_POINTS) & set(face.LIPS)


def test_mean_picture_is_rounded_and_reads_one_by_one() -> None:
    pictures = (np.full((2, 3, 3), value, np.uint8) for value in (10, 11, 255))
    assert np.array_equal(quality.mean_picture(pictures), np.full((2, 3, 3), 92, np.uint8))
    with pytest.raises(ContractError, match="no pictures"):
        quality.mean_picture([])
    with pytest.raises(ContractError, match="mean"):
        quality.mean_picture([noise(0), noise(1, (4, 4))])


def test_posture_is_no_movement_of_the_lips() -> None:
    frames = np.arange(200)
    posture = 0.1 + 0.03 * np.sin(2 * np.pi * frames / 300)
    one, other = (posture + 0.01 * np.sin(2 * np.pi * frames / period) for period in (8, 11))
    assert quality.lip_gap_correlation(one, other).r > 0.6
    # At both ends the mean is of one side alone.
    inside = slice(quality.DRIFT // 2, -(quality.DRIFT // 2))
    ours, theirs = quality.without_drift(one)[inside], quality.without_drift(other)[inside]
    assert abs(quality.lip_gap_correlation(ours, theirs).r) < 0.1
    assert quality.lip_gap_correlation(ours, (one - posture)[inside]).r > 0.95


def test_drift_is_taken_from_what_is_known() -> None:
    gaps = np.array([0.1, np.nan, 0.3, 0.2])
    np.testing.assert_allclose(quality.without_drift(gaps), [-0.1, np.nan, 0.1, 0.0], atol=1e-12)
    assert np.isnan(quality.without_drift(np.full(5, np.nan))).all()
