"""Measure an avatar of the presenter against its truth.

    python -m tools.presenter.measure AVATAR presenter_v0.mp4 presenter_v0_paired.mp4 --json out.json

Two tasks, as in docs/presenter.md: the *held-back* fifth of the film (reference: the training frame nearest in pose,
moved onto the pose), and the *paired* film (template: the first film, whose mouth says something else; truth: the
second). Every figure stands beside its baselines: the nearest training frame pasted in, the mean picture, and the
instrument itself on the true frames.

    python -m tools.presenter.measure AVATAR presenter_v0.mp4 presenter_v0_paired.mp4 --lookahead 0 1 2 3 4 5 6 7

What a live session pays for answering early: both tasks with fewer future features, without the baselines, and the
lowest number that keeps mouth LMD and closed-lip recall within 3 % of all seven in both tasks. Sound goes through the
same ``Voice`` as in ``lipwright serve``.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import get_args

import cv2
import numpy as np

from lipwright import patch
from lipwright.audio.decode import SoundReader
from lipwright.avatar import Avatar
from lipwright.contract import (
    FPS,
    ROI_SIZE,
    WINDOW_FUTURE,
    Alignment,
    FloatArray,
    Quality,
    Rect,
    UInt8Array,
    lookahead_ms,
)
from lipwright.face import face_width, lip_gap, lip_points, meshes
from lipwright.quality import Phone as TimedPhone
from lipwright.quality import (
    closed_lips,
    landmark_distance,
    lip_gap_correlation,
    mouth_box,
    psnr,
    rest,
    sharpness_ratio,
    silent_frames,
    ssim,
)
from lipwright.render.networks import Networks
from lipwright.render.voice import Voice
from lipwright.training.data import References, shrink
from lipwright.training.pack import Pack
from tools.presenter.film import LIPS, STILL, Film
from tools.presenter.pack import HELD_OUT

log = logging.getLogger("measure")

#: How much worse than with all future features a look-ahead may be.
TOLERANCE = 0.03


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
    boxes = [mouth_box(pack.landmarks[k, LIPS], ROI_SIZE, ROI_SIZE) for k in frames]
    return Task(name, film, frames, pack.rois[frames.start : frames.stop], rects, boxes)


def windows(networks: Networks, avatar: Avatar, sound: Path, lookahead: int = WINDOW_FUTURE) -> FloatArray:
    """[N, 32, 16, 16]: what the generator hears of a film's sound, by the way of the renderer and of live sessions."""
    manifest = avatar.manifest
    with SoundReader(sound) as reader:
        alignment = manifest.encoder.alignment.to_contract()
        voice = Voice(reader.rate, reader.channels, networks, alignment, manifest.window.padding, lookahead)
        moments = [moment for chunk in reader for moment in voice.push(chunk)] + voice.flush()
    return np.stack([moment.window for moment in moments])


def draw(networks: Networks, references: Iterator[UInt8Array], targets: UInt8Array, heard: FloatArray) -> UInt8Array:
    """The generator's pictures [n, 320, 320, 3] for n references, masked targets and windows."""
    pictures = []
    for reference, target, window in zip(references, targets, heard, strict=True):
        output = networks.draw(patch.to_input(reference, target)[None], window[None])
        pictures.append(patch.from_output(output[0]))
    return np.stack(pictures)


@dataclass(frozen=True)
class Question:
    """A task with what the generator sees in it, to be answered for any way of hearing."""

    task: Task
    references: UInt8Array
    """[n, 320, 320, 3]."""
    baselines: list[Case]

    def answer(self, avatar: Avatar, networks: Networks, lookahead: int = WINDOW_FUTURE) -> Case:
        """The generator's pictures, heard with so many future features."""
        frames = self.task.frames
        heard = windows(networks, avatar, self.task.film.path, lookahead)[frames.start : frames.stop]
        return Case("lipwright", draw(networks, iter(self.references), self.task.rois, heard))


def held_back(film: Film, pack: Pack, frames: int | None = None) -> Question:
    """The last fifth, or so many frames of it: each reference is the training frame nearest in pose."""
    start, stop = pack.held_out
    chosen = range(start, stop if frames is None else min(start + frames, stop))
    references = References(pack, pack.training_frames())
    nearest = [int(references.candidates(k)[0]) for k in chosen]
    moved = np.stack([references.picture(k, j) for k, j in zip(chosen, nearest, strict=True)])
    baselines = [Case("nearest pose", pack.rois[nearest]), Case("mean picture", _mean_picture(pack, len(chosen)))]
    return Question(make_task("held-back", film, pack, chosen), moved, baselines)


def paired(template: Pack, film: Film, pack: Pack, frames: int | None = None) -> Question:
    """Re-dubbing: the template's frames, the other film's sound; the truth is the other film, or its first frames."""
    n = len(pack.rois) if frames is None else min(frames, len(pack.rois))
    references = References(template, template.training_frames())
    nearest = [int(references.candidates(k)[0]) for k in range(n)]
    baselines = [
        Case("template itself", template.rois[:n]),
        Case("nearest pose", template.rois[nearest]),
        Case("mean picture", _mean_picture(template, n)),
    ]
    return Question(make_task("paired", film, pack, range(n)), template.rois[:n], baselines)


def _mean_picture(pack: Pack, count: int) -> UInt8Array:
    mean = pack.rois[pack.training_frames()].mean(axis=0)
    return np.repeat(np.rint(mean).astype(np.uint8)[None], count, axis=0)


def pasted(task: Task, rois: UInt8Array) -> Iterator[UInt8Array]:
    """The true frames with these ROIs in them."""
    pictures = (picture for k, picture in enumerate(task.film.frames()) if k in task.frames)
    for picture, rect, roi in zip(pictures, task.rects, rois, strict=True):
        yield patch.paste(picture, rect, patch.crop(picture, rect, "auto"), roi, "auto")


def phones_of(task: Task) -> list[TimedPhone]:
    """What is said in the task's frames, counted from its first; what begins before or ends after them is cut."""
    first, end = task.frames.start / FPS, task.frames.stop / FPS
    inside = [phone for phone in task.film.phones if phone.start < end and phone.end > first]
    return [TimedPhone(p.symbol, max(p.start, first) - first, min(p.end, end) - first) for p in inside]


def score(task: Task, case: Case, true_mesh: FloatArray) -> dict[str, float]:
    """All figures of one case."""
    mesh = meshes(pasted(task, case.rois))
    gaps, truth = lip_gap(mesh), task.film.lip_gap[task.frames.start : task.frames.stop]
    phones = phones_of(task)
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
        "closed_phones": float(lips.phones),
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
    true_mesh = meshes(pasted(task, task.rois))
    rows = {case.name: score(task, case, true_mesh) for case in [*cases, Case("truth", task.rois)]}
    rows["truth"].pop("psnr_db")
    for name, row in rows.items():
        log.info("%-10s %-16s %s", task.name, name, "  ".join(f"{k} {v:.3f}" for k, v in row.items()))
    return rows


# --- look-ahead -------------------------------------------------------------------------------------------------------

#: Figures of a task by look-ahead.
Sweep = Mapping[int, Mapping[str, float]]


def sweep(
    question: Question, answer: Callable[[int], Case], lookaheads: Sequence[int]
) -> Iterator[tuple[int, dict[str, float]]]:
    """The question with every number of future features, and the figures."""
    true_mesh = meshes(pasted(question.task, question.task.rois))
    began = time.monotonic()
    for done, n in enumerate(lookaheads, 1):
        yield n, score(question.task, answer(n), true_mesh)
        each = (time.monotonic() - began) / done
        log.info("%s, look-ahead %d: done, %.0f s to go", question.task.name, n, each * (len(lookaheads) - done))


def keeps(figures: Mapping[str, float], full: Mapping[str, float]) -> bool:
    """Whether figures are within the tolerance of those with all future features; better is always within."""
    near = figures["lmd"] <= full["lmd"] * (1 + TOLERANCE)
    return near and figures["closed_recall"] >= full["closed_recall"] * (1 - TOLERANCE)


def chosen_lookahead(sweeps: Mapping[str, Sweep]) -> int:
    """The lowest number of future features that keeps the figures in every task."""
    known = sorted(set.intersection(*(set(figures) for figures in sweeps.values())))
    kept = (n for n in known if all(keeps(figures[n], figures[WINDOW_FUTURE]) for figures in sweeps.values()))
    return next(kept, WINDOW_FUTURE)


def lookahead_table(sweeps: Mapping[str, Sweep], alignment: Alignment) -> list[str]:
    """Markdown, a line for every number in every task."""
    lines = [
        "| task | n | look-ahead ms | mouth LMD | p, b, m recall | precision | lip-gap r | within 3 % |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for task, figures in sweeps.items():
        for n, row in sorted(figures.items()):
            kept = "yes" if keeps(row, figures[WINDOW_FUTURE]) else "no"
            lines.append(
                f"| {task} | {n} | {lookahead_ms(n, alignment):g} | {row['lmd']:.4f} | {row['closed_recall']:.3f} | "
                f"{row['closed_precision']:.3f} | {row['lip_gap_r']:.3f} | {kept} |"
            )
    return lines


def measure_lookaheads(
    avatar: Avatar, networks: Networks, questions: Sequence[Question], lookaheads: Sequence[int]
) -> dict[str, dict[int, dict[str, float]]]:
    """Figures of every task by look-ahead; that with all future features is what the others are held to."""
    wanted = sorted({*lookaheads, WINDOW_FUTURE})
    return {
        question.task.name: dict(sweep(question, partial(question.answer, avatar, networks), wanted))
        for question in questions
    }


def measure_all(
    avatar: Avatar, networks: Networks, questions: Sequence[Question], sheets: Path | None
) -> dict[str, dict[str, dict[str, float]]]:
    """Figures of every task and case."""
    results = {}
    for question in questions:
        task, cases = question.task, [question.answer(avatar, networks), *question.baselines]
        results[task.name] = report(task, cases)
        if sheets:
            sheets.mkdir(parents=True, exist_ok=True)
            sheet(task, cases, sheets / f"{task.name}.png")
    return results


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("avatar", type=Path)
    parser.add_argument("film", type=Path)
    parser.add_argument("paired", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sheets", type=Path, help="folder for pictures")
    parser.add_argument("--quality", default="full", choices=get_args(Quality), help="which generator draws")
    parser.add_argument("--precision", default="auto", choices=["auto", "f32", "bf16"])
    parser.add_argument("--lookahead", type=int, nargs="+", choices=range(WINDOW_FUTURE + 1), help="compare these")
    parser.add_argument("--frames", type=int, help="so many of every task, for a quick look")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    avatar = Avatar.open(options.avatar).at(options.quality)
    networks = Networks.open(avatar, precision=options.precision)
    film, other = Film.open(options.film), Film.open(options.paired)
    pack, other_pack = load_rois(film), load_rois(other)
    questions = [held_back(film, pack, options.frames), paired(pack, other, other_pack, options.frames)]
    results: dict[str, object] = {"network": networks.generator.detail}
    if options.lookahead is None:
        results |= measure_all(avatar, networks, questions, options.sheets)
    else:
        sweeps = measure_lookaheads(avatar, networks, questions, options.lookahead)
        chosen, alignment = chosen_lookahead(sweeps), avatar.manifest.encoder.alignment.to_contract()
        results |= {"lookahead": sweeps, "chosen": chosen}
        print("\n".join(lookahead_table(sweeps, alignment)))
        print(f"\nlowest look-ahead that keeps LMD and recall within 3 %: {chosen}")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
