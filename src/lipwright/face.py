"""Faces in a picture: detector, 468 landmarks, the rect of the family's rule, smoothing over time, mouth geometry.

Two small networks of MediaPipe (Apache-2.0, `data/face/`) run in onnxruntime: BlazeFace short range finds faces in a
square view of the picture, the face mesh finds 468 points in a square crop around one face with level eyes. Anchors,
decoding, weighted suppression, crop factor 1.5 and score limits are those of MediaPipe 0.10.21.

Coordinates are pixels of the picture, x to the right and y down, with the centre of the first pixel at (0, 0).
"Left" and "right" are the picture's, not the person's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import resources

import cv2
import numpy as np
import numpy.typing as npt

from lipwright.contract import NO_RECT, FloatArray, Rect, UInt8Array
from lipwright.errors import ContractError

DoubleArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int32]

# --- the networks ---------------------------------------------------------------------------------------------------
DETECTOR_SIZE = 128
MESH_SIZE = 192
MESH_POINTS = 468
#: BlazeFace: side of the feature map, and anchors in each of its cells.
ANCHOR_MAPS = ((16, 2), (8, 6))
DETECTION_SCORE = 0.5
MESH_SCORE = 0.5
#: A crop is good when the face in it asks for one less unlike than this (see `_distance`); tries to get there.
GOOD_CROP = 0.1
MAX_LOOKS = 3
#: Boxes that overlap more than this (intersection over union) are one face.
SAME_FACE_IOU = 0.3
#: Side of the mesh crop over the longer side of the face's box.
CROP_FACTOR = 1.5
#: Side of a second, closer crop over the first's. The mean of both meshes follows the lips better than either:
#: r of the lip gap with the truth on the synthetic presenter 0.971, against 0.955 and 0.955 (tools/face/README.md).
CLOSE_CROP = 0.8
#: Smallest square view searched: a face of 160 pixels, the smallest worth an avatar, fills a quarter of it.
SMALLEST_VIEW = 640
#: Side of the widest view over the longer side of the picture: finds a face that fills the whole picture.
WIDEST_VIEW = 1.6

# --- points of the mesh ---------------------------------------------------------------------------------------------
LEFT_EYE_CORNER, RIGHT_EYE_CORNER = 33, 263
#: Temple to temple, and the lower bridge of the nose: the rect of the family's rule.
LEFT_TEMPLE, RIGHT_TEMPLE, NOSE_BRIDGE = 234, 454, 195
FOREHEAD, CHIN = 10, 152
LEFT_JAW_ANGLE, RIGHT_JAW_ANGLE = 58, 288
#: Closed rings, clockwise in the picture from the left corner of the mouth.
OUTER_LIPS = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
INNER_LIPS = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
LIPS = OUTER_LIPS + INNER_LIPS
#: Upper and lower point of the inner lips, in the middle and a little to its sides.
INNER_LIP_PAIRS = ((82, 87), (13, 14), (312, 317))
#: Points that the mouth does not move: brows, eyes, temples and the bridge of the nose.
POSE_POINTS = (
    *(70, 63, 105, 66, 107, 336, 296, 334, 293, 300),
    *(33, 133, 362, 263, 168, 6, 197, 195, 5),
    *(127, 356, 234, 454, 10, 109, 338, 21, 251),
)
#: The mesh point for each of the 68 iBUG landmarks; 0-16, the outline, are only roughly the same places.
MESH_OF_68 = (
    *(127, 234, 93, 132, 58, 172, 150, 176, 152, 400, 379, 397, 288, 361, 323, 454, 356),
    *(70, 63, 105, 66, 107, 336, 296, 334, 293, 300, 168, 197, 5, 4, 75, 97, 2, 326, 305),
    *(33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380),
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87),
)

# --- smoothing over time --------------------------------------------------------------------------------------------
#: Standard deviation in frames of the weights around a frame: the place follows a nod, the size is steadier. On the
#: synthetic presenter wider weights for the place cost more in missed motion than they save in tremble.
PLACE_SIGMA = 1.5
SIZE_SIGMA = 6.0


@dataclass(frozen=True, slots=True)
class Square:
    """A square part of the picture, turned about its centre; it may reach beyond the picture."""

    x: float
    """Centre."""
    y: float
    side: float
    angle: float = 0.0
    """Radians by which its x axis points down from the picture's."""

    def matrix(self, size: int) -> DoubleArray:
        """[2, 3] affine map from pixels of a ``size`` x ``size`` cut of this square to pixels of the picture."""
        scale = self.side / size
        cos, sin = scale * math.cos(self.angle), scale * math.sin(self.angle)
        middle = (size - 1) / 2
        return np.array(
            [[cos, -sin, self.x - middle * (cos - sin)], [sin, cos, self.y - middle * (sin + cos)]], dtype=np.float64
        )


@dataclass(frozen=True, slots=True)
class Detection:
    """A face as the detector saw it."""

    box: tuple[float, float, float, float]
    """x1, y1, x2, y2 in pixels, from the brows to the chin."""
    eyes: tuple[float, float, float, float]
    """x, y of the left and of the right eye in pixels."""
    score: float
    """0..1."""

    @property
    def square(self) -> Square:
        """The crop that the mesh network wants."""
        return _crop_square(self.box, self.eyes)


@dataclass(frozen=True, slots=True)
class Face:
    """A face with its landmarks."""

    landmarks: FloatArray
    """[468, 3] x, y in pixels; z in the same unit, smaller is nearer to the camera."""
    score: float
    """0..1: how sure the mesh network is that its crop holds a face."""

    @property
    def box(self) -> tuple[float, float, float, float]:
        """x1, y1, x2, y2 in pixels around all landmarks."""
        (x1, y1), (x2, y2) = self.landmarks[:, :2].min(0), self.landmarks[:, :2].max(0)
        return float(x1), float(y1), float(x2), float(y2)

    @property
    def size(self) -> float:
        """Longer side of the box in pixels."""
        x1, y1, x2, y2 = self.box
        return max(x2 - x1, y2 - y1)

    @property
    def square(self) -> Square:
        """The crop in which to look for the same face in the next frame."""
        left, right = self.landmarks[LEFT_EYE_CORNER], self.landmarks[RIGHT_EYE_CORNER]
        return _crop_square(self.box, (float(left[0]), float(left[1]), float(right[0]), float(right[1])))


@dataclass(frozen=True, slots=True)
class Pose:
    """Where the head points; degrees, about 0 for a face that looks into the camera."""

    yaw: float
    """Positive: the nose points to the right of the picture."""
    pitch: float
    """Positive: the nose points down."""
    roll: float
    """Positive: the head is turned clockwise in the picture."""


def _crop_square(box: tuple[float, float, float, float], eyes: tuple[float, float, float, float]) -> Square:
    """The square around ``box`` that brings ``eyes`` (x, y, x, y) onto a level line."""
    x1, y1, x2, y2 = box
    angle = math.atan2(eyes[3] - eyes[1], eyes[2] - eyes[0])
    return Square((x1 + x2) / 2, (y1 + y2) / 2, CROP_FACTOR * max(x2 - x1, y2 - y1), angle)


# --- detector and mesh ----------------------------------------------------------------------------------------------
class FaceFinder:
    """Finds faces and their landmarks in single pictures; keeps no state between them.

    Args:
        threads: Processor threads for each network.
    """

    def __init__(self, threads: int = 1) -> None:
        self._detector = _Network("blaze_face_short_range.onnx", threads)
        self._mesh = _Network("face_mesh.onnx", threads)

    def find(self, frame: UInt8Array) -> list[Face]:
        """All faces in ``frame`` ([H, W, 3] BGR), the largest first; empty when there is none."""
        _check_picture(frame)
        faces: list[Face] = []
        for detection in self.detect(frame):
            face = self.track(frame, detection)
            if face and all(_iou(face.box, other.box) < SAME_FACE_IOU for other in faces):
                faces.append(face)
        return sorted(faces, key=lambda face: face.size, reverse=True)

    def track(self, frame: UInt8Array, around: Face | Detection) -> Face | None:
        """The face that lies where ``around`` was found, in this or the frame before; None when it is not there.

        ``frame`` is BGR uint8 [H, W, 3].
        """
        first = self._settled(frame, around.square)
        if first is None:
            return None
        close = self._mesh_in(frame, replace(first.square, side=first.square.side * CLOSE_CROP)) or first
        return Face(np.mean([first.landmarks, close.landmarks], axis=0, dtype=np.float32), first.score)

    def _settled(self, frame: UInt8Array, square: Square) -> Face | None:
        """The face in a crop that fits it: where the first one was off, look again in the one it led to."""
        for _ in range(MAX_LOOKS):
            face = self._mesh_in(frame, square)
            if face is None or _distance(face.square, square) < GOOD_CROP:
                break
            square = face.square
        return face

    def _mesh_in(self, frame: UInt8Array, square: Square) -> Face | None:
        """The face in this square as the mesh network sees it once."""
        image = _cut(frame, square, MESH_SIZE)
        points, score = self._mesh.run(image[None, :, :, ::-1].astype(np.float32) / 255)
        probability = float(_sigmoid(score.ravel())[0])
        if probability < MESH_SCORE:
            return None
        return Face(_to_picture(points.reshape(MESH_POINTS, 3), square), probability)

    def detect(self, frame: UInt8Array) -> list[Detection]:
        """Boxes of all faces in ``frame`` ([H, W, 3] BGR), the surest first.

        The whole picture and squares as high as it are always searched; ever smaller squares, and a wider view, only
        while nothing is found.
        """
        for views in _levels(*frame.shape[:2]):
            found = [detection for view in views for detection in self._detect_in(frame, view)]
            if found:
                return _suppress(found)
        return []

    def _detect_in(self, frame: UInt8Array, view: Square) -> list[Detection]:
        """Every detection in one square view, overlapping ones included."""
        image = _cut_level(frame, view, DETECTOR_SIZE)
        boxes, logits = self._detector.run(image[None, :, :, ::-1].astype(np.float32) / 127.5 - 1)
        scores = _sigmoid(logits.ravel())
        sure = scores >= DETECTION_SCORE
        values = boxes.reshape(-1, 16)[sure].astype(np.float64) / DETECTOR_SIZE
        values[:, [0, 1]] += _ANCHORS[sure]
        values[:, [4, 5, 6, 7]] += np.tile(_ANCHORS[sure], 2)
        corner = np.array([view.x, view.y]) - view.side / 2
        return [_detection(row * view.side, corner, score) for row, score in zip(values, scores[sure], strict=True)]


class FaceTracker:
    """Follows one face through a film: from frame to frame by its landmarks, by detection when it was lost.

    Args:
        finder: The networks.
        start: The face to follow; without it the largest face of the first frame that has one.
    """

    def __init__(self, finder: FaceFinder, start: Face | None = None) -> None:
        self._finder = finder
        self._last = start
        self._lost = start is None

    def follow(self, frame: UInt8Array) -> Face | None:
        """The face in the next frame ([H, W, 3] BGR), or None; after a loss the face nearest to the last known."""
        face = None
        if self._last and not self._lost:
            face = self._finder.track(frame, self._last)
        face = face or self._nearest(self._finder.find(frame))
        self._lost = face is None
        self._last = face or self._last
        return face

    def _nearest(self, faces: Sequence[Face]) -> Face | None:
        """Of faces sorted by size the one whose square is most like the last; the first when there is no last."""
        last = self._last
        if not faces or last is None:
            return faces[0] if faces else None
        return min(faces, key=lambda face: _distance(face.square, last.square))


def meshes(frames: Iterable[UInt8Array]) -> FloatArray:
    """[n, 468, 3] landmarks of one face followed through the frames ([H, W, 3] BGR); NaN where it is not found."""
    tracker = FaceTracker(FaceFinder())
    faces = (tracker.follow(frame) for frame in frames)
    nowhere = np.full((MESH_POINTS, 3), np.nan, np.float32)
    found = [nowhere if face is None else face.landmarks for face in faces]
    return np.array(found, np.float32).reshape(-1, MESH_POINTS, 3)


class _Network:
    """One of the networks in `data/face`, in onnxruntime on the processor."""

    def __init__(self, name: str, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        model = resources.files("lipwright").joinpath("data", "face", name).read_bytes()
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    def run(self, image: npt.NDArray[np.generic]) -> tuple[FloatArray, FloatArray]:
        """Coordinates and scores for float32 [1, size, size, 3] RGB."""
        coordinates, scores = self._session.run(None, {self._input: np.ascontiguousarray(image, np.float32)})
        return coordinates, scores


def _anchors() -> DoubleArray:
    """[896, 2] centres x, y of BlazeFace's anchors, 0..1; their size is 1."""
    maps = []
    for side, each in ANCHOR_MAPS:
        y, x = np.mgrid[:side, :side].reshape(2, -1)
        maps.append(np.repeat((np.stack([x, y], 1) + 0.5) / side, each, axis=0))
    return np.concatenate(maps)


_ANCHORS = _anchors()


def _sigmoid(logits: FloatArray) -> DoubleArray:
    return np.asarray(1 / (1 + np.exp(-np.clip(logits.astype(np.float64), -100, 100))))


def _check_picture(frame: UInt8Array) -> None:
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape:
        raise ContractError(f"a picture is uint8 [H, W, 3] BGR, got {frame.dtype} {list(frame.shape)}")


def _levels(height: int, width: int) -> Iterator[list[Square]]:
    """Views to search, coarse to fine, at last the wide one; overlapping by half, so that a face is whole in one."""
    whole = Square(width / 2, height / 2, float(max(height, width)))
    side = float(min(height, width))
    yield [whole, *(_tiles(height, width, side) if height != width else [])]
    while side > SMALLEST_VIEW:
        side /= 2
        yield _tiles(height, width, side)
    yield [Square(whole.x, whole.y, whole.side * WIDEST_VIEW)]


def _tiles(height: int, width: int, side: float) -> list[Square]:
    """Squares of this side that cover the picture, each overlapping the next by at least half."""

    def centres(length: int) -> DoubleArray:
        return np.linspace(side / 2, length - side / 2, 1 + math.ceil((length - side) / (side / 2)))

    return [Square(float(x), float(y), side) for y in centres(height) for x in centres(width)]


def _cut_level(frame: UInt8Array, view: Square, size: int) -> UInt8Array:
    """The square ``view`` (angle 0) shrunk or enlarged to ``size``; black beyond the picture."""
    x0, y0, side = round(view.x - view.side / 2), round(view.y - view.side / 2), max(1, round(view.side))
    x1, y1 = max(x0, 0), max(y0, 0)
    part = frame[y1 : max(y0 + side, 0), x1 : max(x0 + side, 0)]
    scale = size / side
    width, height = max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale))
    left, top = min(round((x1 - x0) * scale), size - width), min(round((y1 - y0) * scale), size - height)
    canvas = np.zeros((size, size, 3), np.uint8)
    filter_ = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas[top : top + height, left : left + width] = cv2.resize(part, (width, height), interpolation=filter_)
    return canvas


def _cut(frame: UInt8Array, square: Square, size: int) -> UInt8Array:
    """The turned ``square`` as ``size`` x ``size``; the picture's edge is repeated beyond it.

    A large face is cut at a multiple of ``size`` and then averaged: taking single pixels would make the landmarks
    tremble.
    """
    fine = size * max(1, math.floor(square.side / size))
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    image = cv2.warpAffine(frame, square.matrix(fine), (fine, fine), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA), np.uint8)


def _to_picture(points: FloatArray, square: Square) -> FloatArray:
    """Mesh points in pixels of the network's input, [468, 3], as pixels of the picture."""
    matrix = square.matrix(MESH_SIZE)
    # The network counts from the edge of the first pixel, we from its centre.
    place = (points[:, :2] - 0.5) @ matrix[:, :2].T + matrix[:, 2]
    return np.concatenate([place, points[:, 2:] * square.side / MESH_SIZE], axis=1).astype(np.float32)


def _detection(row: DoubleArray, corner: DoubleArray, score: float) -> Detection:
    """A decoded row (centre, size, six points) in pixels of a view whose corner is given, in pixels of the picture."""
    x, y = row[:2] + corner
    width, height = row[2:4]
    eyes = row[4:8] + np.tile(corner, 2)
    box = (float(x - width / 2), float(y - height / 2), float(x + width / 2), float(y + height / 2))
    return Detection(box, (float(eyes[0]), float(eyes[1]), float(eyes[2]), float(eyes[3])), float(score))


def _suppress(found: Sequence[Detection]) -> list[Detection]:
    """Weighted suppression: detections that overlap become one, their mean weighted by score."""
    rest = sorted(found, key=lambda detection: detection.score, reverse=True)
    kept = []
    while rest:
        best = rest[0]
        group = [other for other in rest if other is best or _iou(best.box, other.box) > SAME_FACE_IOU]
        values = np.average([d.box + d.eyes for d in group], axis=0, weights=[d.score for d in group]).tolist()
        x1, y1, x2, y2, *eyes = values
        kept.append(Detection((x1, y1, x2, y2), (eyes[0], eyes[1], eyes[2], eyes[3]), best.score))
        rest = [other for other in rest if other not in group]
    return kept


def _iou(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    """Intersection over union of two boxes x1, y1, x2, y2."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0.0) * max(height, 0.0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
    return common / union if union > 0 else 0.0


def _distance(a: Square, b: Square) -> float:
    """How unlike two squares are in place and size, in sides of the second."""
    return (math.hypot(a.x - b.x, a.y - b.y) + abs(a.side - b.side)) / b.side


# --- the rect -------------------------------------------------------------------------------------------------------
def rect_box(landmarks: npt.NDArray[np.floating]) -> DoubleArray:
    """Centre x, centre y and side, in pixels, of the family's rect around mesh landmarks [..., 468, 2 or 3].

    From temple to temple, and from the lower bridge of the nose as far down. NaN in, NaN out. Result [..., 3] float64.
    """
    points = np.asarray(landmarks, np.float64)
    top = points[..., NOSE_BRIDGE, 1]
    return _box_from(points[..., LEFT_TEMPLE, 0], points[..., RIGHT_TEMPLE, 0], top)


def rect_box68(landmarks68: npt.NDArray[np.floating]) -> DoubleArray:
    """The same as `rect_box` for 68 iBUG landmarks [..., 68, 2], pixels: points 0, 16 and midway between 28 and 29."""
    points = np.asarray(landmarks68, np.float64)
    top = points[..., 28:30, 1].mean(-1)
    return _box_from(points[..., 0, 0], points[..., 16, 0], top)


def _box_from(left: DoubleArray, right: DoubleArray, top: DoubleArray) -> DoubleArray:
    side = np.abs(right - left)
    return np.stack([(left + right) / 2, top + side / 2, side], axis=-1)


def rect_from_mesh(landmarks: npt.NDArray[np.floating], height: int, width: int) -> Rect:
    """The family's rect for mesh landmarks [468, 2 or 3], in pixels, kept inside a picture of this size."""
    return rect_from_box(rect_box(landmarks), height, width)


def rect_from_box(box: DoubleArray, height: int, width: int) -> Rect:
    """Round a box (centre x, centre y, side) in pixels to a square rect inside the picture; NO_RECT for NaN.

    A box that reaches beyond the picture is moved, one that is larger than it is shrunk; a box that lies wholly
    outside it gives NO_RECT.
    """
    if not np.isfinite(box).all():
        return NO_RECT
    x, y, side = (float(value) for value in box)
    reach = side / 2
    if side < 1 or not (-reach < x < width + reach and -reach < y < height + reach):
        return NO_RECT
    whole = min(round(side), height, width)
    x1 = min(max(round(x - whole / 2), 0), width - whole)
    y1 = min(max(round(y - whole / 2), 0), height - whole)
    return Rect(x1, y1, x1 + whole, y1 + whole)


def smooth_rects(boxes: DoubleArray, height: int, width: int, cuts: Sequence[int] = ()) -> IntArray:
    """Rects of a whole film, free of tremble and without lag.

    Args:
        boxes: [N, 3] centre x, centre y, side of every frame as `rect_box` gives them; NaN where there is no face.
        height: Of the picture.
        width: Of the picture.
        cuts: Frames at which a new scene begins; nothing is smoothed across them, nor across frames without a face.

    Returns:
        int32 [N, 4] x1, y1, x2, y2: square and inside the picture, or -1, -1, -1, -1 where there is no face.
    """
    smooth = np.full_like(boxes, np.nan)
    for first, end in _runs([bool(np.isfinite(box).all()) for box in boxes], cuts):
        run = boxes[first:end]
        smooth[first:end, :2] = smooth_track(run[:, :2], PLACE_SIGMA)
        smooth[first:end, 2:] = smooth_track(run[:, 2:], SIZE_SIGMA)
    rects = [rect_from_box(box, height, width) for box in smooth]
    return np.array([(r.x1, r.y1, r.x2, r.y2) for r in rects], np.int32).reshape(-1, 4)


def smooth_track(values: DoubleArray, sigma: float) -> DoubleArray:
    """Each of the columns of float64 [n, k] smoothed by a parabola fitted around every frame, Gaussian weights.

    Zero phase: motion that is steady or steadily gathers speed passes unchanged, at both ends too, where a plain moving
    mean would lag (Savitzky and Golay 1964, with weights that end softly).

    Args:
        values: [n, k], all finite.
        sigma: Standard deviation of the weights in frames.
    """
    reach = math.ceil(3 * sigma)
    offset = np.arange(-reach, reach + 1, dtype=np.float64) / sigma
    weight = np.exp(-0.5 * offset**2)

    def around(series: DoubleArray, power: int) -> DoubleArray:
        """For every frame the sum over its neighbours of weight x offset^power x series."""
        kernel = (weight * offset**power)[::-1]
        return np.convolve(series, kernel)[reach : reach + len(series)]

    moments = [around(np.ones(len(values)), power) for power in range(5)]
    left = np.stack([np.stack(moments[row : row + 3], axis=-1) for row in range(3)], axis=-2)
    right = np.stack([np.stack([around(column, row) for column in values.T], axis=-1) for row in range(3)], axis=-2)
    # The pseudo-inverse, because a run of one or two frames fits no parabola; it stays as it is.
    return np.asarray((np.linalg.pinv(left, hermitian=True) @ right)[:, 0])


def _runs(usable: Sequence[bool], cuts: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First frame and end (exclusive) of every unbroken stretch of usable frames."""
    borders = set(cuts)
    first = None
    for i, good in enumerate(usable):
        if first is not None and (not good or i in borders):
            yield first, i
            first = None
        if good and first is None:
            first = i
    if first is not None:
        yield first, len(usable)


# --- the mouth, the pose --------------------------------------------------------------------------------------------
def face_height(landmarks: npt.NDArray[np.floating]) -> DoubleArray:
    """Forehead (10) to chin (152), in the landmarks' unit; landmarks [..., 468, 2 or 3], result [...]."""
    return _length(landmarks, FOREHEAD, CHIN)


def face_width(landmarks: npt.NDArray[np.floating]) -> DoubleArray:
    """Temple (234) to temple (454), in the landmarks' unit; landmarks [..., 468, 2 or 3], result [...]."""
    return _length(landmarks, LEFT_TEMPLE, RIGHT_TEMPLE)


def lip_gap(landmarks: npt.NDArray[np.floating]) -> DoubleArray:
    """How far the inner lips are open, as a share of the face's height; never negative, NaN in, NaN out.

    The mean over three pairs of points in the middle of the lips. Landmarks [..., 468, 2 or 3], result [...].
    """
    gaps = np.stack([_length(landmarks, upper, lower) for upper, lower in INNER_LIP_PAIRS])
    return np.asarray(gaps.mean(0) / face_height(landmarks))


def lip_gap68(landmarks68: npt.NDArray[np.floating]) -> DoubleArray:
    """How far the inner lips are open, as a share of the distance temple to temple, for 68 iBUG landmarks [..., 68, 2].

    Another scale than `lip_gap` (68 points have no forehead): compare the two by correlation only.
    """
    gaps = np.stack([_length(landmarks68, upper, lower) for upper, lower in ((61, 67), (62, 66), (63, 65))])
    return np.asarray(gaps.mean(0) / _length(landmarks68, 0, 16))


def mouth_polygon(landmarks: npt.NDArray[np.floating]) -> FloatArray:
    """[20, 2] float32: outline of both lips, a closed ring, from mesh landmarks [468, 2 or 3]."""
    return np.asarray(landmarks[list(OUTER_LIPS), :2], np.float32)


def lip_points(landmarks: npt.NDArray[np.floating]) -> FloatArray:
    """[..., 40, 2] float32: outer then inner lips, from mesh landmarks [..., 468, 2 or 3]."""
    return np.asarray(landmarks[..., list(LIPS), :2], np.float32)


def mouth_bounds(landmarks: npt.NDArray[np.floating]) -> tuple[float, float, float, float]:
    """x1, y1, x2, y2 in pixels around both lips, from mesh landmarks [468, 2 or 3]."""
    points = lip_points(landmarks)
    (x1, y1), (x2, y2) = points.min(0), points.max(0)
    return float(x1), float(y1), float(x2), float(y2)


def moved(mesh: DoubleArray, source: DoubleArray, target: DoubleArray) -> DoubleArray:
    """Float64 ``mesh`` [m, 3] moved by the similarity that brings ``source`` [n, 3] nearest to ``target`` [n, 3].

    Umeyama 1991, "Least-squares estimation of transformation parameters between two point patterns".
    """
    mean_s, mean_t = source.mean(axis=0), target.mean(axis=0)
    s, t = source - mean_s, target - mean_t
    u, stretch, vt = np.linalg.svd(t.T @ s)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = (u * sign) @ vt
    scale = (stretch * sign).sum() / np.square(s).sum()
    return np.asarray((mesh - mean_s) @ rotation.T * scale + mean_t)


def head_pose(landmarks: npt.NDArray[np.floating]) -> Pose:
    """Where the head points, from mesh landmarks [468, 3].

    The axes come from temples and jaw angles, which speaking hardly moves. The mesh's depth is an estimate: take the
    angles as good to about 10 degrees, their changes as better.
    """
    points = np.asarray(landmarks, np.float64)
    left, right = points[[127, 234, LEFT_JAW_ANGLE]], points[[356, 454, RIGHT_JAW_ANGLE]]
    across = (right - left).mean(0)
    across /= np.linalg.norm(across)
    middle = (left + right) / 2
    down = middle[2] - middle[0]
    down -= across * (down @ across)
    down /= np.linalg.norm(down)
    forward = np.cross(down, across)
    return Pose(
        yaw=math.degrees(math.atan2(forward[0], -forward[2])),
        pitch=math.degrees(math.asin(float(np.clip(forward[1], -1, 1)))),
        roll=math.degrees(math.atan2(across[1], across[0])),
    )


def _length(landmarks: npt.NDArray[np.floating], a: int, b: int) -> DoubleArray:
    """Distance in the picture between points ``a`` and ``b`` of [..., K, 2 or 3]."""
    points = np.asarray(landmarks, np.float64)
    return np.asarray(np.linalg.norm(points[..., a, :2] - points[..., b, :2], axis=-1))
