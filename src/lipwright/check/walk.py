"""``check``: everything that can be proved of an avatar on this machine, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lipwright.avatar import Avatar, builtin_sound
from lipwright.check.checklist import Subject, checklist
from lipwright.check.checkpoints import Contest, contest
from lipwright.check.fast import fast_path, uncut
from lipwright.check.findings import Finding
from lipwright.check.limits import F32, Limits
from lipwright.check.made import as_made
from lipwright.check.parity import Pictures, Reference, ask, compare
from lipwright.check.report import Report
from lipwright.check.vectors import judge
from lipwright.errors import MediaError
from lipwright.trial import REFERENCE, Look, Progress, Way, generator_of, questions, stamp, ways

#: Two seconds: enough movement of the lips for a correlation.
FRAMES = 50


@dataclass(frozen=True)
class Plan:
    """What is looked at."""

    ways: Sequence[Way] | None = None
    """Ways to run the generator that are compared with onnxruntime in f32; None: all of this machine."""
    sound: Path | None = None
    """What is heard; None: the sentences of the demo."""
    frames: int = FRAMES
    """Frames compared."""
    start: int | None = None
    """First template frame; None: the avatar's own."""
    shown: tuple[int, ...] = ()
    """Template frames on the sheets; none: evenly spread ones and the worst."""
    film: bool = False
    """Also write the four pictures side by side as films."""
    checkpoints: Sequence[Path] = ()
    """Generators of the same person to score side by side."""


def check(avatar: Avatar, folder: Path, plan: Plan, look: Look = lambda progress: None) -> Report:
    """Go through the contract, compare every way to draw, and score checkpoints; pictures go into ``folder``.

    Limits that are not kept are in the report; nothing is raised for them.

    Raises:
        AvatarError: the avatar has no generator, no encoder, or no usable frame.
        MediaError: the sound cannot be read, or ``folder`` not written.
        LipwrightError: a chosen frame is not among the compared ones, or a checkpoint cannot be read.
    """
    model = generator_of(avatar)
    _make(folder)
    look(Progress("the questions", 0, None))
    sound = plan.sound or builtin_sound()
    asked = questions(avatar, sound, plan.frames, plan.start)
    runtime = Way(REFERENCE, "f32").open(model)
    look(Progress("the contract", 0, None))
    findings = list(checklist(Subject(avatar, asked, runtime)))
    step = _Counter(f"{REFERENCE}/f32", len(asked), look)
    reference = Reference(avatar, asked, sound, runtime, ask(runtime, asked, step))
    shown = Pictures(folder, plan.shown, plan.film)
    others = _others(plan.ways)
    comparisons = []
    for way in others:
        more, comparison = compare(way, model, reference, shown, _Counter(str(way), len(asked), look))
        findings += more
        comparisons += [comparison] if comparison else []
    frames = uncut(avatar, asked[0].frame, len(asked))
    for way in (Way(REFERENCE, "f32"), *others):
        counted = _Counter(f"fast path, {way}", len(frames), look)
        more, fast = fast_path(avatar, sound, frames, way, folder, counted)
        findings, comparisons = findings + more, comparisons + fast
    findings += [*_other_qualities(avatar), *as_made(avatar)]
    scored = _scored(avatar, plan.checkpoints, look)
    if scored is not None:
        findings.append(Finding.note("checkpoints", "best", scored.best))
    return Report(avatar.name, stamp(), findings, comparisons, scored)


def check_against(vectors: Path, folder: Path, limits: Limits = F32) -> Report:
    """Score another implementation's ``output.bin`` in a folder of test vectors; pictures go into ``folder``.

    Raises:
        LipwrightError: ``vectors`` is no such folder, or there is no ``output.bin`` in it.
    """
    _make(folder)
    findings, comparison = judge(vectors, limits, folder)
    return Report(vectors.name, stamp(), findings, [comparison] if comparison else [])


def _others(chosen: Sequence[Way] | None) -> list[Way]:
    return [way for way in (ways() if chosen is None else chosen) if way != Way(REFERENCE, "f32")]


def _other_qualities(avatar: Avatar) -> list[Finding]:
    """What the avatar can draw in besides, which another run has to look at."""
    others = [quality for quality in avatar.qualities if quality != avatar.quality]
    told = f"looked at is --quality {avatar.quality}; the avatar also draws in"
    return [Finding.note("contract", "quality", f"{told} --quality {quality}") for quality in others]


def _scored(avatar: Avatar, checkpoints: Sequence[Path], look: Look) -> Contest | None:
    if not checkpoints:
        return None
    return contest(avatar, checkpoints, lambda done, total: look(Progress("checkpoints", done, total)))


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MediaError(f"{folder} cannot be made ({error.strerror or error}): choose another folder") from error


class _Counter:
    """Counts frames of one step for the progress."""

    def __init__(self, step: str, total: int, look: Look) -> None:
        self._step, self._total, self._look, self._done = step, total, look, 0
        look(Progress(step, 0, total))

    def __call__(self, more: int) -> None:
        self._done += more
        self._look(Progress(self._step, self._done, self._total))
