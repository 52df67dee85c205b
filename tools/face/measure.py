"""Measures the face finder on the development recordings and prints the table of tools/face/README.md.

    LIPWRIGHT_DEV_DATA=FOLDER python tools/face/measure.py [--every K] [--sheets FOLDER]

FOLDER holds video/presenter_v0.mp4 with its truth, its paired film, and two films of real people.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt

from lipwright import face, quality

SYNTHETIC = ("presenter_v0", "presenter_v0_paired")
REAL = ("ls_demo1", "ls_demo2")
#: Frames of each film on the sheet.
SHEET_FRAMES = 8
SHEET_SIZE = 360

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Tracked:
    """What the tracker made of one film."""

    frames: list[int]
    """Which frames were looked at."""
    landmarks: FloatArray
    """[n, 468, 3], NaN where no face was found."""
    height: int
    width: int
    milliseconds: float
    """A frame, without decoding."""
    pictures: list[npt.NDArray[np.uint8]]
    """A few frames with the landmarks and the rect drawn in."""

    @property
    def found(self) -> npt.NDArray[np.bool_]:
        """[n] True where there is a face."""
        return np.asarray(np.isfinite(self.landmarks[:, 0, 0]))


def pictures(path: Path, every: int) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
    """Every ``every``-th frame with its index."""
    with av.open(str(path)) as container:
        for i, frame in enumerate(container.decode(video=0)):
            if i % every == 0:
                yield i, np.asarray(frame.to_ndarray(format="bgr24"), dtype=np.uint8)


def overlay(picture: npt.NDArray[np.uint8], found: face.Face) -> npt.NDArray[np.uint8]:
    """The part of the picture around a face with its landmarks (green), lips (yellow) and rect (red)."""
    drawn = picture.copy()
    for x, y, _ in found.landmarks:
        cv2.circle(drawn, (round(float(x)), round(float(y))), 1, (0, 255, 0), -1)
    cv2.polylines(drawn, [np.rint(face.mouth_polygon(found.landmarks)).astype(np.int32)], True, (0, 255, 255), 1)
    rect = face.rect_from_mesh(found.landmarks, *picture.shape[:2])
    cv2.rectangle(drawn, (rect.x1, rect.y1), (rect.x2 - 1, rect.y2 - 1), (0, 0, 255), 2)
    square = found.square
    half = round(square.side / 2)
    x, y = max(round(square.x) - half, 0), max(round(square.y) - half, 0)
    return np.asarray(cv2.resize(drawn[y : y + 2 * half, x : x + 2 * half], (SHEET_SIZE, SHEET_SIZE)), np.uint8)


def track(path: Path, every: int) -> Tracked:
    """Follow the largest face through a film."""
    tracker = face.FaceTracker(face.FaceFinder())
    frames, rows, drawn, spent = [], [], [], 0.0
    size = (0, 0)
    for i, picture in pictures(path, every):
        started = time.perf_counter()
        found = tracker.follow(picture)
        spent += time.perf_counter() - started
        frames.append(i)
        rows.append(found.landmarks if found else np.full((face.MESH_POINTS, 3), np.nan, np.float32))
        size = picture.shape[:2]
        if found and len(frames) % 20 == 1:
            drawn.append(overlay(picture, found))
    return Tracked(frames, np.stack(rows), *size, spent / len(frames) * 1000, drawn)


def overlap(ours: DoubleArray, true: DoubleArray) -> DoubleArray:
    """Intersection over union of boxes [n, 3] centre x, centre y, side."""
    span = np.minimum(*(b[:, :2] + b[:, 2:] / 2 for b in (ours, true)))
    span -= np.maximum(*(b[:, :2] - b[:, 2:] / 2 for b in (ours, true)))
    common = np.clip(span, 0, None).prod(1)
    return np.asarray(common / (ours[:, 2] ** 2 + true[:, 2] ** 2 - common))


def tremble(ours: DoubleArray, true: DoubleArray) -> float:
    """Standard deviation in pixels, from frame to frame, of what the rect's corners do and the true rect's do not.

    From second differences, so that slow differences, such as another idea of where a temple is, do not count.
    """
    corners = [np.concatenate([b[:, :2] - b[:, 2:] / 2, b[:, :2] + b[:, 2:] / 2], 1) for b in (ours, true)]
    return float(np.sqrt(np.mean(np.diff(corners[0] - corners[1], n=2, axis=0) ** 2) / 6))


def compare_with_truth(tracked: Tracked, truth: Path) -> None:
    """Landmarks, rect, lip gap and closed lips against what the renderer knows."""
    known = np.load(truth)
    marks, gaps = known["landmarks68"][tracked.frames].astype(np.float64), known["lip_gap"][tracked.frames]
    marks, gaps, mesh = marks[tracked.found], gaps[tracked.found], tracked.landmarks[tracked.found]
    width = np.linalg.norm(marks[:, 0] - marks[:, 16], axis=1)
    error = np.linalg.norm(mesh[:, face.MESH_OF_68, :2] - marks, axis=2) / width[:, None] * 100
    parts = {"all 68": (0, 68), "without outline": (17, 68), "eyes": (36, 48), "mouth": (48, 68)}
    for name, (first, end) in parts.items():
        print(f"  landmark error, {name}: {error[:, first:end].mean():.2f} % of face width")
    true_box = face.rect_box68(marks)
    print(f"  rect IoU: {overlap(face.rect_box(mesh), true_box).mean():.3f}")
    rects = face.smooth_rects(face.rect_box(mesh), tracked.height, tracked.width).astype(np.float64)
    smooth = np.stack([rects[:, [0, 2]].mean(1), rects[:, [1, 3]].mean(1), rects[:, 2] - rects[:, 0]], 1)
    print(f"  smoothed integer rect: IoU {overlap(smooth, true_box).mean():.3f}, ", end="")
    print(
        f"tremble {tremble(smooth, true_box):.2f} px, before smoothing {tremble(face.rect_box(mesh), true_box):.2f} px"
    )
    ours = face.lip_gap(mesh)
    print(f"  lip gap r: {np.corrcoef(ours, gaps)[0, 1]:.3f} (68 true landmarks in the picture: ", end="")
    print(f"{np.corrcoef(face.lip_gap68(marks), gaps)[0, 1]:.3f})")
    if len(tracked.frames) == len(known["lip_gap"]):
        phones = [quality.Phone(*phone) for phone in json.loads(truth.with_suffix(".json").read_text())["phones"]]
        print(f"  p, b, m: {quality.closed_lips(ours, phones)}")
        print(f"  rest: {quality.rest(ours, quality.silent_frames(phones, len(ours)))}")


def main() -> None:
    """Measure all four films."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1, help="look at every K-th frame only")
    parser.add_argument("--sheets", type=Path, help="folder for one picture of drawn-in landmarks a film")
    options = parser.parse_args()
    folder = Path(os.environ["LIPWRIGHT_DEV_DATA"]) / "video"
    for name in SYNTHETIC + REAL:
        tracked = track(folder / f"{name}.mp4", options.every)
        print(f"{name}: found in {tracked.found.mean():.1%} of {len(tracked.frames)} frames, ", end="")
        print(f"{tracked.milliseconds:.1f} ms a frame at {tracked.width} x {tracked.height}")
        if name in SYNTHETIC:
            compare_with_truth(tracked, folder / f"{name}_truth.npz")
        if options.sheets:
            options.sheets.mkdir(parents=True, exist_ok=True)
            chosen = [tracked.pictures[i * len(tracked.pictures) // SHEET_FRAMES] for i in range(SHEET_FRAMES)]
            rows = [np.hstack(chosen[:4]), np.hstack(chosen[4:])]
            cv2.imwrite(str(options.sheets / f"{name}.png"), np.vstack(rows))


if __name__ == "__main__":
    main()
