"""The package layouts found in the wild, and how to read their parts.

Nothing here writes: every reader takes files of a foreign package and returns arrays and sentences about what it had
to assume. The four layouts are those of ``docs/avatar-format.md``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from lipwright.avatar.manifest import Sizes
from lipwright.avatar.storage import existing, inside, load_array
from lipwright.contract import FEATURE_DIM, NO_RECT, FloatArray, Rect, UInt8Array
from lipwright.errors import AvatarError

#: Lines of a ``.lms`` file: the landmarks of the family's detector.
LMS_POINTS = 110
#: A foreign package may have this many features fewer than frames (its encoder stops before the end of the sound).
FEATURES_SHORT = 2
#: So many rects more than frames are cut off: some writers count one or two frames more than the film holds.
RECTS_LONG = 2
#: Above this share of frames without a usable rect the rects belong to another film.
UNUSABLE_SHARE = 0.1
#: Frame numbers have at most so many digits, and pixels lie no further away: what is beyond is damage.
LONGEST_NUMBER = 9
FAR_AWAY = 2**31 - 1
#: A rect that rounding has made this much wider than high is made square again.
SQUARE_TOLERANCE = 1

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True, slots=True)
class Layout:
    """One way to arrange a package."""

    letter: str
    """As in the documentation."""
    marks: tuple[str, ...]
    """Files and folders it is recognised by."""
    templates: tuple[str, ...]
    """Film or folder of pictures, in order of preference."""
    rects: str
    """File or folder with the face rectangles."""


LAYOUTS = (
    Layout(
        "A",
        marks=("package_info.json", "cache/crop_rectangles.json"),
        templates=("full_body_video.mp4", "full_body_img", "frames"),
        rects="cache/crop_rectangles.json",
    ),
    Layout(
        "B",
        marks=("frames", "crop_rects.json"),
        templates=("frames", "full_body_video.mp4"),
        rects="crop_rects.json",
    ),
    Layout(
        "C",
        marks=("full_body_video.mp4", "roi_bounds.npy"),
        templates=("full_body_video.mp4", "full_body_img"),
        rects="roi_bounds.npy",
    ),
    Layout(
        "D",
        marks=("video.mp4", "face_regions_320.mp4", "face_bounds"),
        templates=("video.mp4",),
        rects="face_bounds",
    ),
)

GENERATORS = ("checkpoint/model_best.onnx", "models/generator.onnx")
GENERATOR_WEIGHTS = ("checkpoint/best_trainloss.pth",)
MODEL_FOLDERS = ("checkpoint", "models")
ENCODERS = ("audio_encoder.onnx", "models/audio_encoder.onnx")
FEATURE_FILES = ("aud_ave.npy", "aud_ave.bin")


def recognise(source: Path) -> Layout:
    """The layout most of whose marks are there.

    Raises:
        AvatarError: not a folder, or no mark of any layout; the message lists the marks.
    """
    if not source.is_dir():
        raise AvatarError(f"{source} is not a folder")
    scores = [sum((source / mark).exists() for mark in layout.marks) / len(layout.marks) for layout in LAYOUTS]
    best = int(np.argmax(scores))
    if scores[best] == 0:
        known = "; ".join(f"{layout.letter}: {', '.join(layout.marks)}" for layout in LAYOUTS)
        raise AvatarError(f"{source} has none of the known layouts ({known})")
    return LAYOUTS[best]


def find_template(source: Path, layout: Layout) -> Path:
    """The film, or the folder with its pictures."""
    for name in layout.templates:
        if (source / name).exists():
            return inside(source, name)
    raise AvatarError(f"{source}: the template is missing (layout {layout.letter}: {' or '.join(layout.templates)})")


def find_first(source: Path, names: Sequence[str]) -> Path | None:
    """The first of ``names`` that is there."""
    return next((existing(source, name) for name in names if (source / name).is_file()), None)


def find_model(source: Path, names: Sequence[str], suffix: str) -> Path | None:
    """A network under one of its usual ``names``, else the ``N.suffix`` with the highest N (the last epoch)."""
    named = find_first(source, names)
    if named is not None:
        return named
    numbered = [
        path for folder in MODEL_FOLDERS for path in (source / folder).glob(f"*{suffix}") if path.stem.isdecimal()
    ]
    if not numbered:
        return None
    return existing(source, max(numbered, key=lambda path: int(path.stem)).relative_to(source).as_posix())


# --- template ---------------------------------------------------------------------------------------------------------


def list_images(folder: Path) -> tuple[list[Path], str]:
    """Pictures of a folder in the order of the number in their name, and a sentence about how they count.

    Raises:
        AvatarError: no picture, a number twice, a gap, or numbers that begin with neither 0 nor 1.
    """
    numbered: dict[int, Path] = {}
    for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES):
        digits = re.search(r"(\d+)$", path.stem)
        if digits is None:
            continue
        number = int(digits[1])
        if number in numbered:
            raise AvatarError(f"{folder}: {numbered[number].name} and {path.name} have the same number")
        numbered[number] = path
    if not numbered:
        raise AvatarError(f"{folder} holds no numbered pictures ({', '.join(IMAGE_SUFFIXES)})")
    first = min(numbered)
    if first not in (0, 1):
        raise AvatarError(f"{folder}: the first picture is {numbered[first].name}; number 0 or 1 is missing")
    for number in range(first, first + len(numbered)):
        if number not in numbered:
            raise AvatarError(f"{folder}: the picture with number {number} is missing")
    images = [numbered[number] for number in sorted(numbered)]
    return images, f"pictures count from {first}: {images[0].name} is frame 0"


def read_images(images: Sequence[Path]) -> Iterator[UInt8Array]:
    """Decode pictures to [H, W, 3] BGR, all of one size.

    Raises:
        AvatarError: a picture is damaged or has another size than the first.
    """
    shape: tuple[int, ...] | None = None
    for path in images:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None:
            raise AvatarError(f"{path} cannot be read as a picture")
        if shape is not None and image.shape != shape:
            raise AvatarError(
                f"{path} is {image.shape[1]} x {image.shape[0]}, the first picture {shape[1]} x {shape[0]}"
            )
        shape = image.shape
        yield image.astype(np.uint8, copy=False)


# --- rects ------------------------------------------------------------------------------------------------------------

RawRects = dict[int, list[float]]


def read_rects(path: Path) -> tuple[RawRects, list[str]]:
    """Rectangles by frame number, counted from 0, as the package has them, and sentences about the form.

    ``path`` is a JSON list or dict, a ``.npy`` [N, 4..6], or a folder of ``N.npy`` with 4 to 6 values each.

    Raises:
        AvatarError: missing, damaged, or values that are not rectangles.
    """
    if path.is_dir():
        return _rects_from_folder(path)
    if not path.is_file():
        raise AvatarError(f"{path.parent}: {path.name} is missing")
    return _rects_from_json(path) if path.suffix == ".json" else _rects_from_array(path)


def _rects_from_json(path: Path) -> tuple[RawRects, list[str]]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise AvatarError(f"{path} is not valid JSON: {error}") from error
    if isinstance(data, list):
        pairs = list(enumerate(data))
        form = "a list: entry 0 is frame 0"
    elif isinstance(data, dict) and all(key.isdecimal() and len(key) <= LONGEST_NUMBER for key in data):
        pairs = [(int(key), value) for key, value in data.items()]
        form = 'a dict: key "0" is frame 0'
    else:
        raise AvatarError(f"{path}: expected a list of rects, or a dict of them by frame number")
    return {frame: _json_rect(value, f"{path}: frame {frame}") for frame, value in pairs}, [f"rects are {form}"]


def _json_rect(value: object, where: str) -> list[float]:
    """[x1, y1, x2, y2], or a dict with ``rect``, or a dict with the four names."""
    if isinstance(value, dict):
        value = value["rect"] if "rect" in value else [value.get(key) for key in ("x1", "y1", "x2", "y2")]
    if not isinstance(value, list) or len(value) < 4:
        raise AvatarError(f"{where}: expected [x1, y1, x2, y2], got {value!r}")
    return _four(value, where)


def _four(values: Sequence[object], where: str) -> list[float]:
    """The first four values as finite numbers."""
    # A comparison with NaN is false, and whole numbers may have any size in JSON.
    four = [v for v in values[:4] if isinstance(v, int | float) and not isinstance(v, bool) and abs(v) <= FAR_AWAY]
    if len(four) != 4:
        raise AvatarError(f"{where}: a rect must be four finite numbers, got {list(values)!r}")
    return [float(v) for v in four]


def _rects_from_array(path: Path) -> tuple[RawRects, list[str]]:
    array = load_array(path)
    if array.ndim != 2 or not 4 <= array.shape[1] <= 6 or array.dtype.kind not in "iuf":
        raise AvatarError(f"{path}: expected numbers [N, 4], got {array.dtype} {list(array.shape)}")
    return {k: _four(row, f"{path}: frame {k}") for k, row in enumerate(array.tolist())}, []


def _rects_from_folder(folder: Path) -> tuple[RawRects, list[str]]:
    rects, widths = {}, set()
    for path in sorted(folder.glob("*.npy")):
        if path.stem.isdecimal():
            values = load_array(path).reshape(-1)
            if not 4 <= len(values) <= 6 or values.dtype.kind not in "iuf":
                raise AvatarError(f"{path}: expected 4 to 6 numbers, got {values.dtype} {list(values.shape)}")
            rects[int(path.stem)] = _four(values.tolist(), str(path))
            widths.add(len(values))
    if not rects:
        raise AvatarError(f"{folder} holds no N.npy")
    notes = [f"{folder.name} counts from 0: 0.npy is frame 0"]
    if widths != {4}:
        notes.append(f"{folder.name} holds {max(widths)} values a frame; the first four are x1, y1, x2, y2")
    return rects, notes


def usable_rects(raw: RawRects, sizes: Sizes, where: Path) -> tuple[npt.NDArray[np.int32], list[str]]:
    """int32 [N, 4] as our format has them, and sentences about what was changed.

    A frame without a rect, or with one that is no square inside the picture, gets (-1, -1, -1, -1): it will be shown
    as it is.

    Raises:
        AvatarError: rects for frames that the film does not have, or too many frames without a usable one.
    """
    notes = _check_count(raw, sizes.frames, where)
    rects = np.full((sizes.frames, 4), -1, dtype=np.int32)
    bad: dict[int, str] = {}
    for frame in range(sizes.frames):
        problem = _place(rects[frame], raw.get(frame), sizes)
        if problem:
            bad[frame] = problem
    if any(value != int(value) for rect in raw.values() for value in rect):
        notes.append("rects were not whole numbers and are truncated, as the family does")
    if not bad:
        return rects, notes
    frame, problem = next(iter(bad.items()))
    if len(bad) > UNUSABLE_SHARE * sizes.frames:
        raise AvatarError(f"{where}: {len(bad)} of {sizes.frames} frames have no usable rect; frame {frame}: {problem}")
    notes.append(f"{len(bad)} frames have no usable rect and are shown as they are; frame {frame}: {problem}")
    return rects, notes


def _check_count(raw: RawRects, frames: int, where: Path) -> list[str]:
    last = max(raw, default=-1)
    if last >= frames + RECTS_LONG:
        raise AvatarError(f"{where} has a rect for frame {last}, but the template has only {frames} frames")
    return [f"{last + 1 - frames} rects beyond the last frame are left out"] if last >= frames else []


def _place(row: npt.NDArray[np.int32], values: list[float] | None, sizes: Sizes) -> str:
    """Write a usable rect into ``row``; say what is wrong with any other (empty string: nothing)."""
    if values is None:
        return "it has none"
    rect = Rect(*(int(value) for value in values))
    if rect == NO_RECT:
        return ""
    if 0 < abs(rect.width - rect.height) <= SQUARE_TOLERANCE:
        rect = Rect(rect.x1, rect.y1, rect.x2, rect.y1 + rect.width)
    if not rect.inside(sizes.height, sizes.width):
        return f"{values} is empty or outside the picture of {sizes.width} x {sizes.height}"
    if rect.width != rect.height:
        return f"{values} is not square"
    row[:] = rect.x1, rect.y1, rect.x2, rect.y2
    return ""


# --- features and landmarks -------------------------------------------------------------------------------------------


def read_features(path: Path, frames: int) -> tuple[FloatArray, list[str]]:
    """float32 [frames, 512] from a ``.npy`` or a headless float32 ``.bin``, and sentences about what was assumed.

    The family's encoder gives N-2 .. N features for N frames, already aligned to frame 0; the last one is repeated.

    Raises:
        AvatarError: damaged, not rows of 512, NaN, or too few or too many rows.
    """
    raw, notes = _raw_features(path)
    if not np.isfinite(raw).all():
        row = int((~np.isfinite(raw)).any(axis=1).argmax())
        raise AvatarError(f"{path}: NaN or infinite values in the features, first in row {row}")
    lacking = frames - len(raw)
    if not 0 <= lacking <= FEATURES_SHORT:
        raise AvatarError(
            f"{path} has {len(raw)} features for {frames} frames; {frames - FEATURES_SHORT} to {frames} would fit. "
            "They belong to another film: without the file the package can still be imported"
        )
    if lacking:
        notes.append(f"{len(raw)} features for {frames} frames: the last one is repeated {lacking} x")
    return np.concatenate([raw, np.repeat(raw[-1:], lacking, axis=0)]), notes


def _raw_features(path: Path) -> tuple[FloatArray, list[str]]:
    """float32 [M, 512]."""
    if path.suffix == ".bin":
        data = path.read_bytes()
        row = FEATURE_DIM * np.dtype("<f4").itemsize
        if not data or len(data) % row:
            raise AvatarError(f"{path}: {len(data)} bytes are not a whole number of float32 rows of {FEATURE_DIM}")
        array = np.frombuffer(data, dtype="<f4").reshape(-1, FEATURE_DIM)
        return array.astype(np.float32), [
            f"{path.name} is taken as little-endian float32, {len(array)} x {FEATURE_DIM}"
        ]
    loaded = load_array(path)
    if loaded.dtype.kind != "f" or loaded.ndim < 2 or loaded.shape[-1] != FEATURE_DIM or not loaded.size:
        raise AvatarError(f"{path}: expected float32 [N, {FEATURE_DIM}], got {loaded.dtype} {list(loaded.shape)}")
    notes = [] if loaded.dtype == np.float32 else [f"{path.name} is {loaded.dtype} and is stored as float32"]
    return loaded.reshape(-1, FEATURE_DIM).astype(np.float32), notes


def read_landmarks(folder: Path, frames: int) -> tuple[FloatArray, list[str]]:
    """float32 [frames, 110, 2] from ``N.lms``, counted from 0, and sentences; NaN where a frame has no file.

    Raises:
        AvatarError: a file is not 110 lines "x y", or there is none.
    """
    landmarks = np.full((frames, LMS_POINTS, 2), np.nan, dtype=np.float32)
    found = 0
    for frame in range(frames):
        path = folder / f"{frame}.lms"
        if path.is_file():
            landmarks[frame] = _read_lms(path)
            found += 1
    if not found:
        raise AvatarError(f"{folder} holds no N.lms for the template's frames")
    lacking = [f"{frames - found} frames have no .lms"] if found < frames else []
    return landmarks, [f"{folder.name} counts from 0: 0.lms is frame 0", *lacking]


def _read_lms(path: Path) -> FloatArray:
    try:
        rows = [[float(value) for value in line.split()] for line in path.read_text(encoding="utf-8").splitlines()]
        points = np.asarray([row for row in rows if row], dtype=np.float32)
    except (OSError, ValueError) as error:
        raise AvatarError(f"{path}: expected {LMS_POINTS} lines 'x y': {error}") from error
    if points.shape != (LMS_POINTS, 2) or not np.isfinite(points).all():
        raise AvatarError(f"{path}: expected {LMS_POINTS} lines 'x y', got {list(points.shape)}")
    return points
