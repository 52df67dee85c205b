"""Measure an avatar of the presenter against its truth.

    python -m tools.presenter.measure AVATAR presenter_v0.mp4 presenter_v0_paired.mp4 --json out.json

Two tasks, as in docs/measures: the *held-back* fifth of the film (reference: the training frame nearest in pose, moved
onto the pose), and the *paired* film (template: the first film, whose mouth says something else; truth: the second).
Every figure stands beside its baselines: the nearest training frame pasted in, the mean picture, and the instrument
itself on the true frames.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from lipwright import patch
from lipwright.audio.decode import SoundReader
from lipwright.avatar import Avatar
from lipwright.contract import FloatArray, Rect, UInt8Array
from lipwright.face import FaceFinder, FaceTracker, face_width, lip_gap, lip_points
from lipwright.quality import Phone as TimedPhone
from lipwright.quality import (
    closed_lips,
    landmark_distance,
    lip_gap_correlation,
    psnr,
    rest,
    sharpness_ratio,
    silent_frames,
    ssim,
)
from lipwright.render.networks import Networks
from lipwright.render.voice import Voice
from lipwright.training.data import References, shrink
from lipwright.training.held_out import mouth_box
from lipwright.training.pack import Pack
from tools.presenter.film import LIPS, STILL, Film
from tools.presenter.pack import HELD_OUT

log = logging.getLogger("measure")

_NO_MESH = np.full((468, 3), np.nan, np.float32)


@dataclass(frozen=True)
class Case:
    """One way to fill the mouth of n frames, to be scored against the true frames."""

    name: str
    rois: UInt8Array
    """[n, 320, 320, 3]."""


@dataclass(frozen=True)
class Task:
    """n true frames, and what an answer is measured with."""

    name: str
    film: Film
    frames: range
    """Frame numbers in ``film``."""
    rois: UInt8Array
    """[n, 320, 320, 3] the truth."""
    rects: list[Rect]
    boxes: list[Rect]
    """Mouth boxes in ROI pixels: the lips' bounding box + 20 %, from true landmarks."""


def load_rois(film: Film) -> Pack:
    """The film as a pack without sound: pictures and landmarks in ROI pixels."""
    n = len(film.landmarks)
    none = np.zeros((1, n, 1), np.float16)
    return Pack(film.rois(), film.roi_landmarks(), STILL, LIPS, film.mouth, none, (n - n // HELD_OUT, n))


def make_task(name: str, film: Film, pack: Pack, frames: range) -> Task:
    """Truth of ``frames``."""
    rects = [Rect(*row) for row in film.rects()[frames.start : frames.stop].tolist()]
    boxes = [mouth_box(pack.landmarks[k, LIPS]) for k in frames]
    return Task(name, film, frames, pack.rois[frames.start : frames.stop], rects, boxes)


def windows(networks: Networks, avatar: Avatar, sound: Path) -> FloatArray:
    """[N, 32, 16, 16]: what the generator hears of a film's sound, by the renderer's own way."""
    manifest = avatar.manifest
    with SoundReader(sound) as reader:
        alignment = manifest.encoder.alignment.to_contract()
        voice = Voice(reader.rate, reader.channels, networks, alignment, manifest.window.padding)
        moments = [moment for chunk in reader for moment in voice.push(chunk)] + voice.flush()
    return np.stack([moment.window for moment in moments])


def draw(networks: Networks, references: Iterator[UInt8Array], targets: UInt8Array, heard: FloatArray) -> UInt8Array:
    """The generator's pictures [n, 320, 320, 3] for n references, masked targets and windows."""
    pictures = []
    for reference, target, window in zip(references, targets, heard, strict=True):
        output = networks.draw(patch.to_input(reference, target)[None], window[None])
        pictures.append(patch.from_output(output[0]))
    return np.stack(pictures)


def held_back(avatar: Avatar, networks: Networks, film: Film, pack: Pack) -> tuple[Task, list[Case]]:
    """The last fifth: each reference is the training frame nearest in pose."""
    frames = range(*pack.held_out)
    references = References(pack, pack.training_frames())
    nearest = [int(references.candidates(k)[0]) for k in frames]
    moved = (references.picture(k, j) for k, j in zip(frames, nearest, strict=True))
    heard = windows(networks, avatar, film.path)[frames.start : frames.stop]
    task = make_task("held-back", film, pack, frames)
    cases = [
        Case("lipwright", draw(networks, moved, task.rois, heard)),
        Case("nearest pose", pack.rois[nearest]),
        Case("mean picture", _mean_picture(pack, len(frames))),
    ]
    return task, cases


def paired(avatar: Avatar, networks: Networks, template: Pack, film: Film, pack: Pack) -> tuple[Task, list[Case]]:
    """Re-dubbing: the template's frames, the other film's sound; the truth is the other film."""
    n = len(pack.rois)
    references = References(template, template.training_frames())
    nearest = [int(references.candidates(k)[0]) for k in range(n)]
    heard = windows(networks, avatar, film.path)[:n]
    task = make_task("paired", film, pack, range(n))
    cases = [
        Case("lipwright", draw(networks, iter(template.rois[:n]), template.rois[:n], heard)),
        Case("template itself", template.rois[:n]),
        Case("nearest pose", template.rois[nearest]),
        Case("mean picture", _mean_picture(template, n)),
    ]
    return task, cases


def _mean_picture(pack: Pack, count: int) -> UInt8Array:
    mean = pack.rois[pack.training_frames()].mean(axis=0)
    return np.repeat(np.rint(mean).astype(np.uint8)[None], count, axis=0)


def meshes(task: Task, rois: UInt8Array) -> FloatArray:
    """[n, 468, 3] landmarks of the true frames with these ROIs in them; NaN where no face is found."""
    tracker = FaceTracker(FaceFinder())
    found = []
    pictures = (picture for k, picture in enumerate(task.film.frames()) if k in task.frames)
    for picture, rect, roi in zip(pictures, task.rects, rois, strict=True):
        crop = patch.crop(picture, rect, "auto")
        face = tracker.follow(patch.paste(picture, rect, crop, roi, "auto"))
        found.append(_NO_MESH if face is None else face.landmarks)
    return np.stack(found)


def score(task: Task, case: Case, true_mesh: FloatArray) -> dict[str, float]:
    """All figures of one case."""
    mesh = meshes(task, case.rois)
    gaps, truth = lip_gap(mesh), task.film.lip_gap[task.frames.start : task.frames.stop]
    offset = task.frames.start / 25
    phones = [TimedPhone(p.symbol, p.start - offset, p.end - offset) for p in task.film.phones if p.start >= offset]
    both = list(zip(case.rois, task.rois, task.boxes, strict=True))
    correlation = lip_gap_correlation(gaps, truth)
    lips = closed_lips(gaps, phones)
    quiet = rest(gaps, silent_frames(phones, len(gaps)))
    return {
        "psnr_db": float(np.mean([psnr(a, b, box) for a, b, box in both])),
        "ssim": float(np.mean([ssim(a, b, box) for a, b, box in both])),
        "sharpness": float(np.mean([sharpness_ratio(a, b, box) for a, b, box in both])),
        "lip_gap_r": correlation.r,
        "lip_gap_lag": float(correlation.lag),
        "lip_gap_amplitude": lip_gap_correlation(gaps, lip_gap(true_mesh)).amplitude,
        "lmd": landmark_distance(lip_points(mesh)[..., :2], lip_points(true_mesh)[..., :2], face_width(true_mesh)),
        "closed_recall": lips.recall,
        "closed_precision": lips.precision,
        "rest_gap_99": quiet.gap_99,
        "rest_step_99": quiet.step_99,
    }


def sheet(task: Task, cases: list[Case], out: Path, count: int = 12) -> None:
    """A picture: truth above the first case, ``count`` moments across."""
    chosen = np.linspace(0, len(task.rois) - 1, count).astype(int)
    rows = [np.concatenate([shrink(rois[k], 200) for k in chosen], axis=1) for rois in (task.rois, cases[0].rois)]
    cv2.imwrite(str(out), np.concatenate(rows))


def report(task: Task, cases: list[Case]) -> dict[str, dict[str, float]]:
    """Figures of every case, and of the true frames: what the instrument can reach."""
    true_mesh = meshes(task, task.rois)
    rows = {case.name: score(task, case, true_mesh) for case in [*cases, Case("truth", task.rois)]}
    rows["truth"].pop("psnr_db")
    for name, row in rows.items():
        log.info("%-10s %-16s %s", task.name, name, "  ".join(f"{k} {v:.3f}" for k, v in row.items()))
    return rows


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("avatar", type=Path)
    parser.add_argument("film", type=Path)
    parser.add_argument("paired", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sheets", type=Path, help="folder for pictures")
    parser.add_argument("--precision", default="auto", choices=["auto", "f32", "bf16"])
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    avatar = Avatar.open(options.avatar)
    networks = Networks.open(avatar, precision=options.precision)
    film, other = Film.open(options.film), Film.open(options.paired)
    pack, other_pack = load_rois(film), load_rois(other)
    results = {}
    for task, cases in (
        held_back(avatar, networks, film, pack),
        paired(avatar, networks, pack, other, other_pack),
    ):
        results[task.name] = report(task, cases)
        if options.sheets:
            options.sheets.mkdir(parents=True, exist_ok=True)
            sheet(task, cases, options.sheets / f"{task.name}.png")
    if options.json:
        options.json.write_text(json.dumps({"network": networks.generator.detail, **results}, indent=1))


if __name__ == "__main__":
    main()
