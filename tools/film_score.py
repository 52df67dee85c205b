"""How well `lipwright prepare` sees: its faces, rects and lip sync against films whose truth is known.

    LIPWRIGHT_DEV_DATA=FOLDER python -m tools.film_score [--work DIR]

FOLDER holds video/presenter_v0.mp4 and video/presenter_v0_paired.mp4 with their truth, and two films of real people.
Everything is seen by the walk and the judgement that `prepare` uses. With --work a walk that was stopped goes on.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lipwright.contract import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME, FloatArray, UInt8Array
from lipwright.face import MESH_OF_68, FaceFinder, FaceTracker, rect_box, rect_box68, smooth_rects
from lipwright.prepare.film import Pieces, walk
from lipwright.prepare.judge import Judged, judge
from lipwright.prepare.offset import UNRELATED, Offset, estimate_offset
from lipwright.prepare.sound import Sound, listen
from lipwright.video import VideoReader
from tools.face.measure import overlap

#: Films by name, and height and width of their pictures.
FILMS = {
    "presenter_v0": (720, 1280),
    "presenter_v0_paired": (720, 1280),
    "ls_demo1": (1920, 1080),
    "ls_demo2": (1920, 1080),
}
#: Films whose sound is where it belongs for certain.
IN_SYNC = ("presenter_v0", "presenter_v0_paired")
#: Stretches of 10 s, as film and first frame: all of the real recordings, and seven of the presenter.
STRETCHES = [("ls_demo1", 0), ("ls_demo2", 0), ("ls_demo2", 250), *(("presenter_v0", 200 * k) for k in range(7))]
STRETCH = 10 * FPS
#: Films of real people. Nobody knows to a fraction of a frame how their sound lies.
REAL = ("ls_demo1", "ls_demo2")
#: Frames by which each stretch's sound is moved.
SHIFTS = (-6, -3, 3, 6)
#: Of ``stretch_row``, as a table of Markdown.
STRETCH_HEAD = (
    f"| film | of | from, s | apart | confidence | {' | '.join(f'error at {shift:+d}' for shift in SHIFTS)} |\n"
    f"|{'---|' * (5 + len(SHIFTS))}"
)
#: Of ``strangers_row``.
STRANGERS_HEAD = "| film | confidence with its own sound | the most with a strange one |\n|---|---|---|"
#: Seconds by which a film's own sound is turned to be strange to its lips.
TURNED = 2.0
#: What is aimed at: landmark error and IoU, trembling of a still head in pixels, frames of offset, stretches of ten.
MOST_ERROR, LEAST_IOU, MOST_TREMBLE, MOST_OFFSET, LEAST_STRETCHES = 3.0, 0.9, 0.5, 0.5, 9
#: A still head: so many copies of one picture under a sensor's noise (grey levels) and a lamp's flicker.
STILL_FRAMES, NOISE, FLICKER = 40, 4.0, 0.01

DoubleArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Film:
    """A film as `prepare` sees it."""

    judged: Judged
    sound: Sound


def see(path: Path, size: tuple[int, int], work: Path) -> Film:
    """Walk over a film and judge it; ``work`` keeps the pieces."""
    seen = walk(path, Pieces(work, path), lambda done, total: print(f"{path.name} {done}/{total}", file=sys.stderr))
    sound = listen(path, len(seen.thumbs))
    return Film(judge(seen, sound, size), sound)


def moved_offset(landmarks: FloatArray, samples: FloatArray, late: int = 0) -> Offset:
    """The estimate for lips [N, 468, 3] and 16 kHz sound that was made ``late`` frames late."""
    sound = Sound(samples, np.zeros(len(landmarks), bool), len(landmarks) / FPS)
    return estimate_offset(landmarks, sound.moved(late))


def shift_errors(film: Film, first: int) -> DoubleArray:
    """[len(SHIFTS)] frames by which known shifts of the stretch that begins at ``first`` are measured wrongly."""
    marks, samples = _stretch(film, first)
    original = moved_offset(marks, samples).frames
    return np.array([moved_offset(marks, samples, late).frames + late - original for late in SHIFTS])


def stretch_row(name: str, film: Film, first: int, errors: DoubleArray) -> str:
    """What ``STRETCH_HEAD`` names, in frames: where, how far apart as it is, how sure, and ``shift_errors``."""
    offset = moved_offset(*_stretch(film, first))
    kind = "a real person" if name in REAL else "the presenter"
    figures = [f"{offset.frames:+.2f}", f"{offset.confidence:.2f}", *(f"{error:+.2f}" for error in errors)]
    return f"| {name} | {kind} | {first / FPS:.0f} | {' | '.join(figures)} |"


def shares(errors: DoubleArray) -> list[str]:
    """How many shifts [len(STRETCHES), len(SHIFTS)] are measured within a frame: all, real people's, the others."""
    real = np.array([name in REAL for name, _ in STRETCHES])
    parts = {"all": errors, "real people": errors[real], "the presenter": errors[~real]}
    told = {name: f"{int((np.abs(part) <= 1).sum())} of {part.size}" for name, part in parts.items()}
    return [f"known shifts measured within a frame, {name}: {share}" for name, share in told.items()]


def strangers(name: str, films: Mapping[str, Film]) -> list[float]:
    """Confidences of a film's lips with sounds that are not theirs: of every other film, and their own ``TURNED``."""
    marks = films[name].judged.landmarks
    turned = np.roll(films[name].sound.samples, round(TURNED * SAMPLE_RATE))
    others = [film.sound.samples for other, film in films.items() if other != name]
    sounds = (np.resize(samples, len(marks) * SAMPLES_PER_FRAME) for samples in (*others, turned))
    return [moved_offset(marks, samples.astype(np.float32)).confidence for samples in sounds]


def strangers_row(name: str, films: Mapping[str, Film]) -> str:
    """What ``STRANGERS_HEAD`` names."""
    own = films[name].judged.offset.confidence
    return f"| {name} | {own:.2f} | {max(strangers(name, films)):.2f} |"


def _stretch(film: Film, first: int) -> tuple[FloatArray, FloatArray]:
    """Landmarks and sound of the stretch that begins at ``first``."""
    marks = film.judged.landmarks[first : first + STRETCH]
    return marks, film.sound.samples[first * SAMPLES_PER_FRAME : (first + len(marks)) * SAMPLES_PER_FRAME]


def tremble(picture: UInt8Array) -> float:
    """Standard deviation, in pixels, of the worst corner of the smoothed rect of a head that does not move."""
    rng, tracker, boxes = np.random.default_rng(2), FaceTracker(FaceFinder()), []
    for _ in range(STILL_FRAMES):
        noisy = picture * rng.normal(1, FLICKER) + rng.normal(0, NOISE, picture.shape)
        face = tracker.follow(np.clip(noisy, 0, 255).astype(np.uint8))
        assert face is not None
        boxes.append(rect_box(face.landmarks))
    return float(smooth_rects(np.stack(boxes), *picture.shape[:2]).std(axis=0).max())


def against_truth(judged: Judged, truth: FloatArray) -> tuple[float, DoubleArray]:
    """Landmark error in % of face width against [N, 68, 2], and [N] IoU of the rect with that of the true landmarks."""
    width = np.linalg.norm(truth[:, 0] - truth[:, 16], axis=1)
    error = np.linalg.norm(judged.landmarks[:, MESH_OF_68, :2] - truth, axis=2) / width[:, None]
    x1, y1, x2, y2 = judged.rects.T.astype(np.float64)
    ours = np.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1], axis=1)
    return 100 * float(error.mean()), overlap(ours, rect_box68(truth.astype(np.float64)))


def _told(what: str, value: float, aim: float, most: bool) -> None:
    met = value <= aim if most else value >= aim
    print(f"{what}: {value:.3g}, aim {'<=' if most else '>='} {aim:g}: {'met' if met else 'MISSED'}")


def score(folder: Path, work: Path) -> None:
    """Print every figure beside its aim."""
    films = {name: see(folder / f"{name}.mp4", size, work / name) for name, size in FILMS.items()}
    for name in IN_SYNC:
        error, iou = against_truth(films[name].judged, np.load(folder / f"{name}_truth.npz")["landmarks68"])
        _told(f"{name}: landmark error, % of face width", error, MOST_ERROR, most=True)
        _told(f"{name}: IoU of the rect, mean", float(iou.mean()), LEAST_IOU, most=False)
        print(f"{name}: IoU of the rect, worst frame: {iou.min():.2f}")
        offset = films[name].judged.offset
        print(f"{name}: lips and sound {offset.frames:+.2f} frames apart, confidence {offset.confidence:.2f}")
        _told(f"{name}: the same without its sign", abs(offset.frames), MOST_OFFSET, most=True)
    with VideoReader(folder / f"{IN_SYNC[0]}.mp4") as film:
        _told("a still head's rect trembles by, px", tremble(next(iter(film))), MOST_TREMBLE, most=True)
    errors = np.stack([shift_errors(films[name], first) for name, first in STRETCHES])
    print(STRETCH_HEAD)
    for (name, first), wrong in zip(STRETCHES, errors, strict=True):
        print(stretch_row(name, films[name], first, wrong))
    for line in shares(errors):
        print(line)
    good = int((np.abs(errors) <= 1).all(axis=1).sum())
    _told("stretches of ten on which all of them are", good, LEAST_STRETCHES, most=False)
    print(f"lips and sound do not match: confidence below {UNRELATED}\n{STRANGERS_HEAD}")
    for name in films:
        print(strangers_row(name, films))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="folder for the pieces of the walks; else they are thrown away")
    options = parser.parse_args()
    folder = Path(os.environ["LIPWRIGHT_DEV_DATA"]) / "video"
    with tempfile.TemporaryDirectory() as passing:
        score(folder, options.work or Path(passing))


if __name__ == "__main__":
    main()
