"""Faces found in pictures of the synthetic presenter, whose 68 landmarks are known, and geometry on made-up points."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt
import pytest

from lipwright import face
from lipwright.contract import NO_RECT, Rect
from lipwright.errors import ContractError
from lipwright.face import Face, FaceFinder, FaceTracker, Square

DATA = Path(__file__).parent / "data" / "face"
Picture = npt.NDArray[np.uint8]
Marks = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def finder() -> FaceFinder:
    return FaceFinder()


def load(name: str) -> Picture:
    picture = cv2.imread(str(DATA / f"{name}.jpg"))
    assert picture is not None
    return np.asarray(picture, np.uint8)


@pytest.fixture(scope="module")
def rest() -> Picture:
    return load("rest")


@pytest.fixture(scope="module")
def true_marks() -> Marks:
    """[2, 68, 2] of rest.jpg and open.jpg."""
    return np.asarray(np.load(DATA / "landmarks68.npy"), np.float32)


def shifted(picture: Picture, dx: int, dy: int, height: int, width: int) -> Picture:
    """The picture on a larger grey one."""
    canvas = np.full((height, width, 3), 110, np.uint8)
    canvas[dy : dy + picture.shape[0], dx : dx + picture.shape[1]] = picture
    return canvas


def turned(picture: Picture, degrees: float) -> Picture:
    """The picture turned clockwise about its centre."""
    height, width = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -degrees, 1.0)
    return np.asarray(cv2.warpAffine(picture, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE), np.uint8)


def overlap(a: Rect, b: Rect) -> float:
    """Intersection over union."""
    width, height = min(a.x2, b.x2) - max(a.x1, b.x1), min(a.y2, b.y2) - max(a.y1, b.y1)
    common = max(width, 0) * max(height, 0)
    return common / (a.width * a.height + b.width * b.height - common)


# --- finding --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("index, name", [(0, "rest"), (1, "open")])
def test_landmarks_and_rect_agree_with_the_truth(finder: FaceFinder, true_marks: Marks, index: int, name: str) -> None:
    picture, truth = load(name), true_marks[index]
    (found,) = finder.find(picture)
    width = np.linalg.norm(truth[0] - truth[16])
    error = np.linalg.norm(found.landmarks[face.MESH_OF_68, :2] - truth, axis=1) / width
    assert error[17:].mean() < 0.025
    assert error.mean() < 0.03
    ours = face.rect_from_mesh(found.landmarks, *picture.shape[:2])
    theirs = face.rect_from_box(face.rect_box68(truth), *picture.shape[:2])
    assert overlap(ours, theirs) > 0.9
    assert found.score > 0.99


def test_lip_gap_tells_open_from_closed(finder: FaceFinder) -> None:
    closed, opened = (float(face.lip_gap(finder.find(load(name))[0].landmarks)) for name in ("rest", "open"))
    assert closed < 0.012
    assert opened > 0.04


def test_nothing_is_found_where_nothing_is(finder: FaceFinder) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 500, 3), np.uint8)
    assert finder.find(noise) == []
    assert finder.find(np.full((720, 300, 3), 128, np.uint8)) == []


def test_a_small_face_in_a_4k_picture_is_found(finder: FaceFinder, rest: Picture) -> None:
    (near,) = finder.find(rest)
    scale = 160 / float(face.face_width(near.landmarks))
    small = np.asarray(cv2.resize(rest, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    (found,) = finder.find(shifted(small, 2700, 1500, 2160, 3840))
    expected = (near.landmarks[:, :2] + 0.5) * scale - 0.5 + np.array([2700, 1500])
    assert np.abs(found.landmarks[:, :2] - expected).mean() < 0.02 * 160


def test_a_face_that_fills_the_picture_is_found(finder: FaceFinder, rest: Picture) -> None:
    x1, y1, x2, y2 = (round(value) for value in finder.find(rest)[0].box)
    (found,) = finder.find(np.ascontiguousarray(rest[y1:y2, x1:x2]))
    assert found.size > 0.9 * (y2 - y1)


def test_two_faces_are_two_the_larger_first(finder: FaceFinder, rest: Picture) -> None:
    small = np.asarray(cv2.resize(rest, None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA), np.uint8)
    canvas = shifted(small, 20, 60, 620, 1240)
    canvas[:, 620:] = rest
    first, second = finder.find(canvas)
    assert first.box[0] > 620 > second.box[2]
    assert second.size == pytest.approx(0.7 * first.size, rel=0.05)


@pytest.mark.parametrize("degrees", [-30, 25])
def test_the_crop_follows_a_turned_head(finder: FaceFinder, rest: Picture, degrees: float) -> None:
    (level,), (tilted,) = finder.find(rest), finder.find(turned(rest, degrees))
    change = face.head_pose(tilted.landmarks).roll - face.head_pose(level.landmarks).roll
    assert change == pytest.approx(degrees, abs=3)
    assert face.lip_gap(tilted.landmarks) == pytest.approx(float(face.lip_gap(level.landmarks)), abs=0.006)


def test_a_mirrored_picture_gives_mirrored_landmarks(finder: FaceFinder, rest: Picture) -> None:
    (plain,), (mirrored,) = finder.find(rest), finder.find(np.ascontiguousarray(rest[:, ::-1]))
    pairs = [(33, 263), (133, 362), (61, 291), (70, 300), (105, 334), (98, 327), (1, 1), (168, 168)]
    left, right = (list(side) for side in zip(*pairs, strict=True))
    expected = rest.shape[1] - 1 - mirrored.landmarks[right + left, 0]
    # A pixel of the mesh's input is 2.7 pixels here: half of one would be a mistake in where pixels begin.
    assert abs(float(np.mean(plain.landmarks[left + right, 0] - expected))) < 0.8


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((5, 5, 3), np.float32),
        np.zeros((5, 5), np.uint8),
        np.zeros((5, 5, 4), np.uint8),
        np.zeros((0, 5, 3), np.uint8),
    ],
)
def test_what_is_no_picture_is_refused(finder: FaceFinder, picture: Picture) -> None:
    with pytest.raises(ContractError, match="BGR"):
        finder.find(picture)


@pytest.mark.dev_data
def test_the_synthetic_presenter_is_measured_well_while_it_speaks(finder: FaceFinder, dev_data: Path) -> None:
    film = dev_data / "video" / "presenter_v0.mp4"
    truth = np.load(film.with_name("presenter_v0_truth.npz"))
    tracker, gaps = FaceTracker(finder), []
    with av.open(str(film)) as container:
        for i, frame in enumerate(itertools.islice(container.decode(video=0), 250)):
            if i % 3:
                continue
            found = tracker.follow(np.asarray(frame.to_ndarray(format="bgr24"), np.uint8))
            assert found is not None
            ours, theirs = (
                face.rect_from_box(box, 720, 1280)
                for box in (face.rect_box(found.landmarks), face.rect_box68(truth["landmarks68"][i]))
            )
            assert overlap(ours, theirs) > 0.9
            gaps.append((float(face.lip_gap(found.landmarks)), truth["lip_gap"][i]))
    assert np.corrcoef(np.array(gaps).T)[0, 1] > 0.93


# --- following ------------------------------------------------------------------------------------------------------
def test_the_tracker_follows_and_finds_again(finder: FaceFinder, rest: Picture) -> None:
    tracker = FaceTracker(finder)
    places: list[float | None] = []
    empty = np.full((720, 1280, 3), 110, np.uint8)
    for picture in [shifted(rest, x, 50, 720, 1280) for x in (0, 12, 24)] + [empty, shifted(rest, 600, 90, 720, 1280)]:
        found = tracker.follow(picture)
        places.append(found.square.x if found else None)
    first, second, third, lost, last = places
    assert lost is None
    assert first is not None and second is not None and third is not None and last is not None
    assert (second - first, third - first, last - first) == pytest.approx((12, 24, 600), abs=1.5)


def test_the_tracker_stays_with_its_face(finder: FaceFinder, rest: Picture) -> None:
    small = np.asarray(cv2.resize(rest, None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA), np.uint8)
    both = shifted(small, 20, 60, 620, 1240)
    both[:, 620:] = rest
    chosen = finder.find(both)[1]
    tracker = FaceTracker(finder, start=chosen)
    assert tracker.follow(np.full_like(both, 110)) is None
    found = tracker.follow(both)
    assert found is not None and found.box[2] < 620


def test_a_crop_that_is_off_is_put_right(finder: FaceFinder, rest: Picture) -> None:
    (truth,) = finder.find(rest)
    moved = Face(truth.landmarks + np.array([0.4 * truth.size, 0, 0], np.float32), 1.0)
    found = finder.track(rest, moved)
    assert found is not None
    assert np.abs(found.landmarks[:, :2] - truth.landmarks[:, :2]).mean() < 0.01 * truth.size


def test_a_film_is_followed_and_a_frame_without_a_face_is_nan(finder: FaceFinder, rest: Picture) -> None:
    found = face.meshes([rest, np.zeros_like(rest), rest])
    assert found.shape == (3, face.MESH_POINTS, 3) and found.dtype == np.float32
    assert np.isnan(found[1]).all()
    assert np.allclose(found[0], finder.find(rest)[0].landmarks) and np.allclose(found[2], found[0], atol=2)
    assert face.meshes([]).shape == (0, face.MESH_POINTS, 3)


# --- the rect -------------------------------------------------------------------------------------------------------
def test_the_rect_goes_from_temple_to_temple_and_from_the_nose_down() -> None:
    marks = np.zeros((468, 3), np.float32)
    marks[face.LEFT_TEMPLE], marks[face.RIGHT_TEMPLE], marks[face.NOSE_BRIDGE] = (
        (100, 90, 0),
        (300, 95, 0),
        (201, 120, 0),
    )
    assert face.rect_from_mesh(marks, 720, 1280) == Rect(100, 120, 300, 320)


@pytest.mark.parametrize(
    "box, expected",
    [
        ((50.0, 80.0, 40.0), Rect(30, 60, 70, 100)),
        ((5.0, 80.0, 40.0), Rect(0, 60, 40, 100)),
        ((195.0, 95.0, 40.0), Rect(160, 60, 200, 100)),
        ((100.0, 50.0, 500.0), Rect(50, 0, 150, 100)),
        ((300.0, 50.0, 40.0), NO_RECT),
        ((100.0, math.nan, 40.0), NO_RECT),
        ((100.0, 50.0, 0.2), NO_RECT),
    ],
)
def test_a_rect_is_square_and_inside_a_picture_of_200_by_100(box: tuple[float, ...], expected: Rect) -> None:
    assert face.rect_from_box(np.array(box), 100, 200) == expected


def test_smoothing_takes_tremble_and_adds_no_lag() -> None:
    time = np.arange(200) / 25
    motion = np.stack([300 + 20 * np.sin(2 * np.pi * 0.5 * time), 250 + 60 * time, np.full(200, 180.0)], axis=1)
    noisy = motion + np.random.default_rng(1).normal(0, 1.0, motion.shape)
    smooth = np.concatenate(
        [face.smooth_track(noisy[:, :2], face.PLACE_SIGMA), face.smooth_track(noisy[:, 2:], face.SIZE_SIGMA)], axis=1
    )
    assert (smooth - motion).std() < 0.65 * (noisy - motion).std()
    lags = [np.mean((smooth[10 + lag : 190 + lag, 0] - motion[10:190, 0]) ** 2) for lag in (-1, 0, 1)]
    assert lags[1] < lags[0] and lags[1] < lags[2]


def test_steadily_faster_motion_passes_unchanged_to_both_ends() -> None:
    time = np.arange(40.0)
    motion = np.stack([time, 3 + 0.2 * time**2], axis=1)
    np.testing.assert_allclose(face.smooth_track(motion, 1.5), motion, atol=1e-8)
    for length in (1, 2):
        np.testing.assert_allclose(face.smooth_track(motion[:length], 1.5), motion[:length], atol=1e-8)


def test_nothing_is_smoothed_across_a_gap_or_a_cut() -> None:
    boxes = np.tile([100.0, 100.0, 80.0], (30, 1))
    boxes[10] = np.nan
    boxes[20:] += [300.0, 200.0, 60.0]
    rects = face.smooth_rects(boxes, 720, 1280, cuts=[20])
    assert rects.dtype == np.int32
    assert set(map(tuple, rects[:10].tolist())) == {(60, 60, 140, 140)} == set(map(tuple, rects[11:20].tolist()))
    assert rects[10].tolist() == [-1, -1, -1, -1]
    assert set(map(tuple, rects[20:].tolist())) == {(330, 230, 470, 370)}
    assert face.smooth_rects(np.empty((0, 3)), 720, 1280).shape == (0, 4)


def test_the_rect_of_a_still_head_does_not_tremble(finder: FaceFinder, rest: Picture) -> None:
    rng = np.random.default_rng(2)
    tracker, boxes = FaceTracker(finder), []
    for _ in range(40):
        noisy = np.clip(rest * rng.normal(1, 0.01) + rng.normal(0, 4, rest.shape), 0, 255).astype(np.uint8)
        found = tracker.follow(noisy)
        assert found is not None
        boxes.append(face.rect_box(found.landmarks))
    rects = face.smooth_rects(np.stack(boxes), *rest.shape[:2])
    assert rects.std(axis=0).max() <= 0.5
    assert all(x2 - x1 == y2 - y1 for x1, y1, x2, y2 in rects.tolist())


# --- geometry -------------------------------------------------------------------------------------------------------
def test_lip_gap_is_a_share_of_the_face_and_nan_stays_nan() -> None:
    marks = np.zeros((2, 468, 3), np.float32)
    marks[:, face.CHIN, 1] = 200
    for _, lower in face.INNER_LIP_PAIRS:
        marks[:, lower, 1] = 10
    np.testing.assert_allclose(face.lip_gap(marks), 0.05, rtol=1e-6)
    np.testing.assert_allclose(face.lip_gap(marks * 3), 0.05, rtol=1e-6)
    marks[1] = np.nan
    assert np.isnan(face.lip_gap(marks)).tolist() == [False, True]
    assert np.isnan(face.rect_box(marks)[1]).all()


def test_mouth_outline_and_bounds(finder: FaceFinder, true_marks: Marks) -> None:
    (found,) = finder.find(load("open"))
    outline = face.mouth_polygon(found.landmarks)
    assert outline.shape == (20, 2)
    drawn = cv2.contourArea(np.ascontiguousarray(true_marks[1, 48:60]))
    assert cv2.contourArea(outline) == pytest.approx(drawn, rel=0.25)
    bounds = face.mouth_bounds(found.landmarks)
    expected = [*true_marks[1, 48:60].min(0), *true_marks[1, 48:60].max(0)]
    assert bounds == pytest.approx(expected, abs=12)


@pytest.mark.parametrize("axis, name, sign", [(1, "yaw", -1), (0, "pitch", 1), (2, "roll", 1)])
def test_head_pose_follows_a_turned_mesh(finder: FaceFinder, rest: Picture, axis: int, name: str, sign: int) -> None:
    marks = finder.find(rest)[0].landmarks.astype(np.float64)
    middle = marks.mean(0)
    vector = np.zeros(3)
    vector[axis] = math.radians(15)
    matrix = cv2.Rodrigues(vector)[0]
    before, after = face.head_pose(marks), face.head_pose((marks - middle) @ matrix.T + middle)
    change = {key: getattr(after, key) - getattr(before, key) for key in ("yaw", "pitch", "roll")}
    assert change.pop(name) == pytest.approx(sign * 15, abs=1.5)
    assert all(abs(other) < 3 for other in change.values())


def test_a_square_maps_its_centre_and_corners() -> None:
    matrix = Square(50, 40, 20, math.pi / 2).matrix(10)
    assert matrix @ [4.5, 4.5, 1] == pytest.approx([50, 40])
    # One step along the cut's x axis is two pixels down in the picture.
    assert matrix @ [5.5, 4.5, 1] == pytest.approx([50, 42])
