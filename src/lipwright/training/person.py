"""The training of one person, from a pack to a generator, as a story from top to bottom.

``expert``   Do lips and sound belong together? A small network learns it first; it is only listened to if it can tell.
``draw``     The picture half, which begins by copying, learns to draw any mouth of this person from the mouth code.
             What begins from a whole generator, such as the presenter's, leaves this out.
``listen``   The audio branch, the presenter's where that is possible, learns to say the code from this person's sound.
             A given one does so only where enough time is held out to tell whether it helps.
``speak160`` Both together, on small pictures.
``speak320`` The same at full size; the best weights by held-out time are kept.

Everything is written into one folder. A training that was killed goes on from its last checkpoint, and ends with the
same bits as one that was not (on the processor, with the threads and the arithmetic that its plan names).
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from lipwright.contract import UInt8Array
from lipwright.durable import take_name, write_text
from lipwright.errors import LipwrightError
from lipwright.models.generator import Generator, Width
from lipwright.models.sync_expert import EXPERT_FRAMES, SyncExpert
from lipwright.training.base import base_width, begin, is_whole, start
from lipwright.training.compiled import compile_in_place
from lipwright.training.copying import begin_by_copying
from lipwright.training.data import Sampler, shrink
from lipwright.training.folded import unfolded
from lipwright.training.heap import keep_pages
from lipwright.training.hearing import Hearing, Outcome, heard
from lipwright.training.held_out import HeldOut, Score, draw, unchosen
from lipwright.training.lessons import Teachers, ear, learner, lesson, pictures_shown, plainly
from lipwright.training.loop import Checks, Phase, Record, Student, Taught, Trainer, save_weights
from lipwright.training.losses import PerceptualLoss
from lipwright.training.pack import Pack
from lipwright.training.plan import RATES, SHARES_OF_WHOLE, Plan, make_plan
from lipwright.training.speech import SpeechSampler, own_speech
from lipwright.training.sync import TRUSTED, Features, SyncSampler, accuracy, expert_loss, held_accuracy, mouths

log = logging.getLogger(__name__)

#: Fewest frames that can be learnt from, and fewest held-out ones that can be scored: 6 s and 1 s.
FEWEST_FRAMES, FEWEST_HELD = 150, 25

WEIGHTS, FIGURES, SHEET, PLAN = "generator.pth", "training.json", "sheet.jpg", "plan.json"
#: Weights of the generator that was trained plainly, where one was asked for.
PLAIN = "plain.pth"
#: Largest part of weights that travel in parts.
PART_BYTES = 16 * 2**20
_SHEET_MOMENTS, _SHEET_SIDE = 8, 200
#: Held-out frames that a training itself is scored on, ten seconds; `create` measures on all of them, with progress.
_SCORED = 250
#: Plain training takes so many times as long as ours with as many pictures on a processor: it keeps its norms
#: (DECISIONS.md, "When may a training do without its norms?").
_PLAIN_TAKES = 1.7
#: Share of a training's time that goes into pictures.
_PICTURES = sum(share for name, share in SHARES_OF_WHOLE.items() if name.startswith("speak"))
#: A phase that takes so many times as long as planned ends there, so that the next one has its time too.
_PATIENCE = 1.25


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a training has come."""

    step: str
    """What is done, in a few words."""
    done: float
    """Seconds of the plan."""
    total: float
    """Seconds of the whole plan, as measured before it began."""


def train_person(
    pack: Pack,
    folder: Path,
    *,
    minutes: float = 30,
    device: str = "cpu",
    width: Width | None = None,
    plan: Plan | None = None,
    baselines: bool = False,
    others: Sequence[Features] = (),
    progress: Callable[[Progress], None] = lambda _: None,
) -> dict[str, Any]:
    """Train a generator on ``pack``; called again after it was stopped, it goes on.

    Args:
        pack: the person.
        folder: checkpoints and what comes of it: ``generator.pth``, ``training.json``, ``sheet.jpg``, and with
            ``baselines`` ``plain.pth``.
        minutes: time to be taken; steps are planned to fit, measured on this machine.
        device: as for `device_for`.
        width: of the generator; None: the base's where that is a whole generator, else full.
        plan: what to do instead of planning for ``minutes``; a plan in the folder goes before.
        baselines: also train with plain L1 on as many pictures, which takes longer than the rest (`with_plain`).
        others: features [M, 512] of other films, as wrong sounds for the sync expert.
        progress: called after every step.

    Returns:
        What stands in ``training.json``.

    Raises:
        LipwrightError: too little to learn from, or no such device.
    """
    check_enough(pack)
    device = device_for(device)
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    keep_pages()
    sampler = Sampler(pack, pack.training_frames(), seed=1)
    plan = _settled(plan, pack, sampler, folder, width, device, minutes, progress)
    torch.set_num_threads(plan.threads)
    torch.backends.cudnn.benchmark = True
    clock = _Clock(plan, baselines, progress)
    expert, expert_figures = _train_expert(pack, plan, folder, device, clock, others)
    teachers = Teachers(expert, PerceptualLoss.installed(torch.device(device)))
    trainer, became = _train_generator(pack, sampler, plan, folder, device, clock, teachers)
    held = HeldOut(pack, unchosen(pack, plan.checked_frames)[:_SCORED])
    generator = trainer.average.generator
    save_weights(unfolded(generator), folder / WEIGHTS)
    drawn = partial(draw, held=held, device=trainer.device, bf16=plan.bf16)
    pictures = drawn(generator)
    scores = {"own sound": held.score(pictures)}
    if pack.trained_versions < len(pack.features):
        scores["another voice"] = held.score(drawn(generator, version=len(pack.features) - 1))
    scores |= held.baselines()
    if baselines:
        plain = _train_plainly(pack, sampler, plan, trainer.records, folder, device, clock)
        save_weights(plain, folder / PLAIN)
        scores["plain L1"] = held.score(drawn(plain))
    if expert is not None:
        expert_figures["accuracy_drawn"] = _drawn_accuracy(expert, pack, held, pictures, trainer.device)
    _save_sheet(held, pictures, folder / SHEET)
    figures = _figures(pack, plan, trainer.records, scores, held, expert_figures, device, teachers)
    figures["ear"] = became
    _write_json(folder / FIGURES, figures)
    return figures


def with_plain(minutes: float) -> float:
    """How long a training of so many minutes takes with ``baselines``, on a processor."""
    return minutes * (1 + _PLAIN_TAKES * _PICTURES)


def check_enough(pack: Pack) -> None:
    """Raise LipwrightError, with what to change, if a pack is too little to learn from."""
    frames, held = len(pack.training_frames()), len(pack.held_frames())
    if frames < FEWEST_FRAMES:
        raise LipwrightError(
            f"only {frames} frames can be learnt from, {FEWEST_FRAMES} are the least: film longer, two minutes are good"
        )
    if held < FEWEST_HELD:
        raise LipwrightError(
            f"only {held} frames at the film's end can be scored, {FEWEST_HELD} are the least: "
            "film longer, and stay in the picture until the end"
        )


def device_for(name: str) -> str:
    """``cpu`` or ``cuda``, if torch has it; for ``auto`` the graphics card if torch can use one, else the processor.

    Raises:
        LipwrightError: torch has no such device.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name != "cpu" and not torch.cuda.is_available():
        raise LipwrightError(f"torch finds no {name} device: use --device cpu, or install a CUDA build of torch")
    return name


def _settled(
    plan: Plan | None,
    pack: Pack,
    sampler: Sampler,
    folder: Path,
    width: Width | None,
    device: str,
    minutes: float,
    progress: Callable[[Progress], None],
) -> Plan:
    """The plan in the folder, else the one that was given, else a new one; it is in the folder afterwards."""
    path = folder / PLAN
    if path.exists():
        begun = Plan.load(path)
        _check_same_pack(begun, pack, folder)
        if begun.device not in ("", device):
            raise LipwrightError(
                f"{folder} was begun on {begun.device}, whose steps and batches are not those of {device}: go on with "
                f"--device {begun.device}, or remove that folder to begin anew"
            )
        if plan is None and (begun.minutes != minutes or width not in (None, begun.width)):
            log.warning(
                "going on as begun, %s for %g minutes: remove %s to begin anew", begun.width, begun.minutes, folder
            )
        return begun
    if plan is None:
        progress(Progress("measuring this machine", 0, minutes * 60))
        plan = make_plan(pack, sampler, _width(pack, width), device, minutes)
    plan.save(path)
    return plan


def _check_same_pack(begun: Plan, pack: Pack, folder: Path) -> None:
    """Raise LipwrightError unless a training was begun with such a pack: with the same held-out time and beginning."""
    if begun.held_out not in (None, pack.held_out):
        raise LipwrightError(
            f"{folder} was begun with the frames {begun.held_out} put aside, not {pack.held_out}: "
            "give the same pack and --held-out, or another folder"
        )
    brought = start(pack.base, begun.width)
    if begun.begins not in ("", brought):
        raise LipwrightError(
            f"{folder} was begun from {_BEGAN[begun.begins]}, the pack brings {_BEGAN[brought]}: "
            "give the same pack, or another folder"
        )


def _width(pack: Pack, asked: Width | None) -> Width:
    """The width that was asked for, else the base's.

    Raises:
        LipwrightError: the base is a whole generator of another width.
    """
    if not is_whole(pack.base):
        return asked or "full"
    own = base_width(pack.base)
    if asked not in (None, own):
        raise LipwrightError(
            f"{pack.base_name or 'the base'} is of width {own} and cannot become {asked}: leave --width away, give a "
            "base that is so wide, or pack the film again with "
            f"`lipwright train AVATAR --pack PACK.npz --width {asked}`"
        )
    return own


class _Clock:
    """Turns steps into progress."""

    def __init__(self, plan: Plan, baselines: bool, progress: Callable[[Progress], None]) -> None:
        planned = {phase.name: phase.steps for phase in plan.phases}
        phases = [plan.expert, *plan.phases, *(_plain_phases(plan, planned) if baselines else [])]
        slower = _PLAIN_TAKES if plan.folded else 1.0
        self._costs = plan.costs | {f"plain{size}": slower * plan.costs[f"speak{size}"] for size in (160, 320)}
        self._before = {}
        self._total = 0.0
        for phase in phases:
            self._before[phase.name] = self._total
            self._total += phase.steps * self._costs[phase.name]
        self._progress = progress

    def __call__(self, phase: Phase, step: int, _record: Record) -> None:
        done = self._before[phase.name] + step * self._costs[phase.name]
        self._progress(Progress(f"{_WORDS[phase.name]}, step {step} of {phase.steps}", done, self._total))


#: What a training began from, in words.
_BEGAN: dict[str, str] = {"none": "nothing", "ear": "an ear", "whole generator": "a whole generator"}

_WORDS = {
    "expert": "do lips and sound fit",
    "draw": "learning to draw the mouth",
    "listen": "learning to listen",
    "speak160": "learning to speak",
    "speak320": "learning the details",
    "plain160": "plain training to compare with",
    "plain320": "plain training to compare with",
}


# --- the sync expert ------------------------------------------------------------------------------------------------
def _train_expert(
    pack: Pack, plan: Plan, folder: Path, device: str, clock: _Clock, others: Sequence[Features]
) -> tuple[SyncExpert | None, dict[str, Any]]:
    """An expert that can be trusted, or None; and what was found out."""
    sampler = SyncSampler(pack, plan.seed + 2, others)
    if not sampler.possible:
        return None, {"used": False, "accuracy": None, "steps": 0}
    torch.manual_seed(plan.seed)
    trainer = Trainer(SyncExpert(), folder, device, plan.checkpoint_seconds, clock, plan.bf16)
    trainer.run(plan.expert, expert_loss(sampler, plan.expert.batch, trainer.device), lambda expert: expert)
    expert = trainer.average
    found = held_accuracy(expert, pack, trainer.device)
    log.info("sync expert: %.3f of the held-out comparisons are right", found)
    trusted = not math.isnan(found) and found >= TRUSTED
    figures = {"used": trusted, "accuracy": _number(found), "needed": TRUSTED, "steps": plan.expert.steps}
    return (expert if trusted else None), figures


def _drawn_accuracy(
    expert: SyncExpert, pack: Pack, held: HeldOut, pictures: UInt8Array, device: torch.device
) -> float | None:
    """What the expert thinks of the drawn held-out lips."""
    first, last = pack.held_out
    drawn = mouths(pictures)
    shown = np.zeros((last - first, *drawn.shape[1:]), np.uint8)  # of other frames no clip is asked
    shown[held.frames - first] = drawn
    starts = pack.clips(held.frames, EXPERT_FRAMES) - first
    return _number(accuracy(expert, shown, pack.features[0, first:last], starts, device))


# --- the generator --------------------------------------------------------------------------------------------------
def _train_generator(
    pack: Pack,
    sampler: Sampler,
    plan: Plan,
    folder: Path,
    device: str,
    clock: _Clock,
    teachers: Teachers,
) -> tuple[Trainer[Student], Outcome]:
    """Run all phases; the trainer, whose average holds the best weights, and what became of the ear."""
    torch.manual_seed(plan.seed)
    voices = SpeechSampler(own_speech(pack), seed=plan.seed + 1)
    begins = start(pack.base, plan.width)
    student = begin(pack, plan.width, voices)
    if begins != "whole generator":
        begin_by_copying(student, sampler)
    trainer = Trainer(student, folder, device, plan.checkpoint_seconds, clock, plan.bf16)
    if plan.compiled:
        compile_in_place(trainer.student.generator)
    watched = HeldOut(pack, pack.held_frames()[: plan.checked_frames])
    hearing = Hearing(trainer, plan.phases, begins != "none", partial(heard, pack=pack, device=trainer.device))
    for phase in plan.phases:
        checks: Checks[Student] | None = None
        if phase.speaks:
            if plan.folded:
                trainer.fold()
            checks = _checks(phase, plan, watched, lambda student: student.generator)
        loss = lesson(phase, sampler, voices, trainer.device, teachers, hearing.listens)
        slow = ear if checks and begins != "none" else None
        limit = _PATIENCE * phase.steps * plan.costs[phase.name]
        hearing.before(phase)
        trainer.run(phase, loss, learner(phase), checks, slow, limit)
        hearing.after(phase)
    trainer.load_best(plan.phases[-1])
    return trainer, hearing.outcome


def _checks(phase: Phase, plan: Plan, watched: HeldOut, network: Callable[[Taught], Generator]) -> Checks[Taught]:
    """Watch a phase by the held-out score at the size that is learnt: at another it does not know what it sees."""

    def score(average: Taught) -> float:
        generator = network(average)
        return watched.score(
            draw(generator, watched, next(generator.parameters()).device, size=phase.size, bf16=plan.bf16)
        ).total

    return Checks(math.ceil(phase.steps / plan.checks), score)


# --- to compare with ------------------------------------------------------------------------------------------------
def _plain_phases(plan: Plan, steps: Mapping[str, int]) -> list[Phase]:
    """As many pictures of each size as so many steps of every phase take, in phases without anything clever.

    At the whole rate: plain training keeps its norms.
    """
    small, large = plan.phases[-2:]
    shown = dict.fromkeys((small.size, large.size), 0)
    for phase in plan.phases:
        if phase.size:
            shown[phase.size] += pictures_shown(phase, steps[phase.name])
    return [
        replace(p, name=f"plain{p.size}", steps=math.ceil(shown[p.size] / p.batch), rate=RATES[p.name])
        for p in (small, large)
    ]


def _train_plainly(
    pack: Pack,
    sampler: Sampler,
    plan: Plan,
    records: Mapping[str, Record],
    folder: Path,
    device: str,
    clock: _Clock,
) -> Generator:
    """The same network from nothing, by the plain mean of absolute differences, on as many pictures as ``records``.

    Its best weights are kept by the same checks as ours, but none of them ends it: it must see as many pictures.
    """
    torch.manual_seed(plan.seed)
    watched = HeldOut(pack, pack.held_frames()[: plan.checked_frames])
    trainer = Trainer(Generator(plan.width), folder, device, plan.checkpoint_seconds, clock, plan.bf16)
    if plan.compiled:
        compile_in_place(trainer.student)
    phases = _plain_phases(plan, _taken(records))
    for phase in phases:
        checks = replace(_checks(phase, plan, watched, _itself), patience=phase.steps)
        trainer.run(phase, plainly(sampler, phase, trainer.device), _itself, checks)
    trainer.load_best(phases[-1])
    return trainer.average


def _itself(generator: Generator) -> Generator:
    return generator


def _taken(records: Mapping[str, Record]) -> dict[str, int]:
    """Steps that every phase has taken: it may have stopped before its last one."""
    return {name: int(record.curve[-1][0]) for name, record in records.items()}


# --- what comes of it -----------------------------------------------------------------------------------------------
def _save_sheet(held: HeldOut, pictures: UInt8Array, path: Path) -> None:
    """Moments of the held-out time: the truth above what was drawn."""
    chosen = np.linspace(0, len(pictures) - 1, _SHEET_MOMENTS).astype(int)
    rows = [np.concatenate([shrink(each[k], _SHEET_SIDE) for k in chosen], axis=1) for each in (held.truth, pictures)]
    part = path.with_name(f"part-{path.name}")
    cv2.imwrite(str(part), np.concatenate(rows), [cv2.IMWRITE_JPEG_QUALITY, 92])
    take_name(part, path)


def _figures(
    pack: Pack,
    plan: Plan,
    records: dict[str, Record],
    scores: dict[str, Score],
    held: HeldOut,
    expert: dict[str, Any],
    device: str,
    teachers: Teachers,
) -> dict[str, Any]:
    phases = [
        asdict(phase) | {"curve": r.curve, "scores": r.scores, "seconds": round(r.seconds, 1), "ended": r.ended}
        for phase, r in ((phase, records[phase.name]) for phase in plan.phases)
    ]
    done = _taken(records)
    return {
        "minutes": plan.minutes,
        "seconds": round(sum(r.seconds for r in records.values()), 1),
        "device": device if device == "cpu" else torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "threads": plan.threads,
        "bf16": plan.bf16,
        "width": plan.width,
        "base": start(pack.base, plan.width),
        "began_from": pack.base_name,
        "film": pack.film,
        "pictures": sum(pictures_shown(phase, done[phase.name]) for phase in plan.phases),
        "training_frames": len(pack.training_frames()),
        "held_out": {
            "first": pack.held_out[0],
            "stop": pack.held_out[1],
            "frames": len(pack.held_frames()),
            "checked": min(plan.checked_frames, len(pack.held_frames())),
            "measured": len(unchosen(pack, plan.checked_frames)),
            "measured_from": int(held.frames[0]),
        },
        "references": held.references,
        "perceptual_loss": teachers.perceptual is not None,
        "expert": expert,
        "scores": {name: score.figures() for name, score in scores.items()},
        "phases": phases,
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    write_text(path, json.dumps(value, indent=1))


# --- weights that travel --------------------------------------------------------------------------------------------
def split(path: Path) -> list[Path]:
    """Write a file again in parts of at most 16 MiB, ``NAME.000`` and so on, and ``NAME.sha256``; the parts."""
    data = path.read_bytes()
    parts = []
    for number, first in enumerate(range(0, len(data), PART_BYTES)):
        part = path.with_name(f"{path.name}.{number:03d}")
        part.write_bytes(data[first : first + PART_BYTES])
        parts.append(part)
    _hash_file(path).write_text(hashlib.sha256(data).hexdigest(), encoding="ascii")
    return parts


def travelled(path: Path) -> bool:
    """Whether weights are there, whole or in parts."""
    return path.exists() or _hash_file(path).exists()


def _hash_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def joined(path: Path) -> Path:
    """``path``, put together from its parts if it is not there.

    Raises:
        LipwrightError: there is neither, or a part is missing or damaged.
    """
    if path.exists():
        return path
    parts = sorted(path.parent.glob(f"{path.name}.[0-9][0-9][0-9]"))
    hash_file = _hash_file(path)
    if not parts or not hash_file.exists():
        raise LipwrightError(f"{path.parent} holds no trained weights: let `python -m lipwright.training` finish there")
    data = b"".join(part.read_bytes() for part in parts)
    if hashlib.sha256(data).hexdigest() != hash_file.read_text(encoding="ascii").strip():
        raise LipwrightError(f"the parts of {path} are not complete or damaged: copy all of them again")
    whole = path.with_suffix(".part")
    whole.write_bytes(data)
    take_name(whole, path)
    return path
