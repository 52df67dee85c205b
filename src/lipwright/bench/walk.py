"""``bench``: every way of this machine alone and end to end, the baseline in the same run, and how cost grows."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lipwright.avatar import Avatar, builtin_sound
from lipwright.bench.children import measure
from lipwright.bench.growth import GROWTH, HEIGHTS, JOBS, SECONDS, Growth, lasting, resized
from lipwright.bench.measures import Failed, Kind, Measured, Task
from lipwright.bench.report import Bench
from lipwright.bench.schedule import Schedule, cost
from lipwright.contract import FPS, Quality
from lipwright.runtimes.choice import is_installed
from lipwright.runtimes.onnx_card import CARDS
from lipwright.runtimes.torch import has_weights
from lipwright.trial import REFERENCE, Look, Progress, Way, generator_of, stamp, ways

#: Frames measured of the generator alone, and before that not measured.
ALONE, WARM_UP = 100, 10
#: Seconds of film end to end.
SECONDS_OF_FILM = 10.0
#: What OpenVINO and torch use on most processors of today: no AVX-512, no bf16.
COMMON_ISA = "AVX2"
#: Besides its own size an avatar is measured in this one.
FULL_HD = "1080p"
#: Where frames are drawn faster together, they are also measured so many a call.
BATCH = 16


@dataclass(frozen=True)
class Plan:
    """What is measured."""

    ways: Sequence[Way] | None = None
    """None: all of this machine, and ``auto`` end to end, also in full HD. Without any, only growth is measured."""
    sound: Path | None = None
    """None: the sentences of the demo."""
    seconds: float = SECONDS_OF_FILM
    """Of film, end to end and for the baseline."""
    alone: int = ALONE
    """Frames of the generator alone."""
    warm_up: int = WARM_UP
    """Frames before them, and before the end-to-end ones."""
    quality: Quality | None = None
    """Which of the avatar's generators; None: all it has. The baseline is always that of full quality."""
    growth: Sequence[Growth] = ()
    """What cost is measured against besides."""
    jobs: Sequence[int] = JOBS
    lengths: Sequence[float] = SECONDS
    heights: Sequence[str] = tuple(HEIGHTS)


Keep = Callable[[Bench], None]
"""Gets all that was found so far, after every measurement."""


def bench(avatar: Avatar, plan: Plan, look: Look = lambda progress: None, keep: Keep = lambda found: None) -> Bench:
    """Measure ``avatar`` on this machine, each thing in a fresh process.

    What this machine cannot do is in the result with its reason; nothing is raised for it. Whoever wants to stop it by
    an exception has with ``keep`` what was found until then.

    Raises:
        AvatarError: the avatar has no generator, or not of the quality that was asked for.
        MediaError: the sound or the template cannot be read.
    """
    generator_of(avatar.at(plan.quality or "full"))
    before = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    with tempfile.TemporaryDirectory(prefix="lipwright-bench-") as name:
        folder = Path(name)
        frames = round(plan.seconds * FPS)
        lasts = (frames + plan.warm_up + 1) / FPS
        sound = lasting(plan.sound or builtin_sound(), lasts, folder / "sound.wav")
        base = Task("inference", "", str(avatar.path), str(sound), frames=frames, warm_up=plan.warm_up)
        planned = [_Planned(task, cost(task)) for task in tasks(avatar, plan, base)]
        grown = replace(base, quality=plan.quality or "full")
        planned += [_full_hd(avatar, grown, folder, look)] if plan.ways is None else []
        planned += [point for what in plan.growth for point in _GROWN[what](avatar, plan, grown, folder, look)]
        found = Bench(_title(avatar), stamp(), before, planned=len(planned))
        _measure_all(planned, found, look, keep)
    return found


@dataclass(frozen=True)
class _Planned:
    """A task, and where its result belongs."""

    task: Task
    cost: float
    curve: str = ""
    """Empty: it is no point of a curve."""
    point: str = ""
    value: float = 0.0


def _measure_all(planned: Sequence[_Planned], found: Bench, look: Look, keep: Keep) -> None:
    """One after the other, into ``found``."""
    schedule = Schedule([one.cost for one in planned])
    for number, one in enumerate(planned):
        result = _do(one.task, number, schedule, look)
        if one.curve:
            found.add_point(one.curve, one.point, one.value, result)
        else:
            found.results.append(result)
        keep(found)


def _do(task: Task, number: int, schedule: Schedule, look: Look) -> Measured | Failed:
    def tell(done: int, total: int | None) -> None:
        place = schedule.words(number, done / total if total else 0.0)
        look(Progress(f"{place}: {task.kind}, {task.label}", done, total))

    tell(0, None)
    return measure(task, tell)


def _title(avatar: Avatar) -> str:
    """The avatar, and what of it matters for speed."""
    sizes, records = avatar.manifest.sizes, [avatar.at(quality).drawing for quality in avatar.qualities]
    widths = " and ".join(record.width for record in records if record and record.width)
    return f"{avatar.name}, {sizes.width} x {sizes.height}{f', {widths} width' if widths else ''}"


def tasks(avatar: Avatar, plan: Plan, base: Task) -> list[Task]:
    """What is measured, in the order of the report; ``base`` has what all share."""
    chosen = ways() if plan.ways is None else list(plan.ways)
    if not chosen:
        return []
    found: list[Task] = []
    for quality in avatar.qualities if plan.quality is None else [plan.quality]:
        drawn = _drawn(plan, chosen, replace(base, quality=quality))
        found += drawn if quality == base.quality else [_named(task) for task in drawn]
    in_torch = is_installed("torch") and has_weights(generator_of(avatar))
    plain = [Way(REFERENCE, "f32"), *([Way("torch", "f32")] if in_torch else [])]
    return found + [
        replace(_task(base, "baseline", way), label=f"baseline: sequential, {way}", warm_up=0) for way in plain
    ]


def _drawn(plan: Plan, chosen: Sequence[Way], base: Task) -> list[Task]:
    """Every way alone and end to end, with one of the avatar's generators."""
    found = [_task(base, "inference", way, plan.alone) for way in chosen]
    found += [_together(task) for task in found if task.runtime.endswith(tuple(CARDS))]
    if plan.ways is None:
        found += [replace(base, kind="render", label="auto: what a user gets")]
    found += [_task(base, "render", way) for way in chosen]
    common = Way("openvino", "f32")
    if common in chosen and _is_x86():
        label = f"{common}, {COMMON_ISA} only"
        found += [replace(_task(base, "inference", common, plan.alone), label=label, isa=COMMON_ISA)]
        found += [replace(_task(base, "render", common), label=label, isa=COMMON_ISA)]
    return found


def _together(task: Task) -> Task:
    """The same with several frames a call."""
    return replace(task, label=f"{task.label}, {BATCH} frames a call", batch=BATCH)


def _named(task: Task) -> Task:
    """The task with its quality in its name."""
    return replace(task, label=f"{task.label}, {task.quality} quality")


def _task(base: Task, kind: Kind, way: Way, frames: int | None = None) -> Task:
    named = replace(base, kind=kind, label=str(way), runtime=way.runtime, precision=way.precision)
    return named if frames is None else replace(named, frames=frames)


def _is_x86() -> bool:
    return platform.machine() in ("x86_64", "AMD64")


def _full_hd(avatar: Avatar, base: Task, folder: Path, look: Look) -> _Planned:
    """End to end as a user gets it, with the avatar's film in full HD."""
    look(Progress(f"resizing to {FULL_HD}", 0, None))
    other = resized(avatar, HEIGHTS[FULL_HD], folder)
    size = f"{other.manifest.sizes.width} x {other.manifest.sizes.height}"
    task = replace(base, kind="render", label=f"auto, {size}", avatar=str(other.path), size=size)
    return _Planned(task, cost(task, _pixels(avatar, FULL_HD)))


# --- growth ---------------------------------------------------------------------------------------------------------


def _jobs(avatar: Avatar, plan: Plan, base: Task, folder: Path, look: Look) -> list[_Planned]:
    """Films at once, each as long as the others, from one loaded model."""
    found = [replace(base, kind="jobs", warm_up=0, label=f"{n} jobs", jobs=n) for n in plan.jobs]
    return [_Planned(task, cost(task), "jobs at once", str(task.jobs), float(task.jobs)) for task in found]


def _lengths(avatar: Avatar, plan: Plan, base: Task, folder: Path, look: Look) -> list[_Planned]:
    """One film, of longer and longer sounds."""
    found = []
    for seconds in plan.lengths:
        sound = lasting(plan.sound or builtin_sound(), seconds, folder / f"{seconds:g}s.wav")
        frames = round(seconds * FPS) - 1
        task = replace(base, kind="jobs", warm_up=0, label=f"{seconds:g} s", sound=str(sound), frames=frames)
        found.append(_Planned(task, cost(task), "length of the sound", task.label, float(seconds)))
    return found


def _sizes(avatar: Avatar, plan: Plan, base: Task, folder: Path, look: Look) -> list[_Planned]:
    """One film, of larger and larger pictures."""
    found = []
    for name in plan.heights:
        look(Progress(f"resizing to {name}", 0, None))
        other = resized(avatar, HEIGHTS[name], folder)
        task = replace(base, kind="jobs", label=name, avatar=str(other.path))
        price = cost(task, _pixels(avatar, name))
        found.append(_Planned(task, price, "height of the picture", name, float(HEIGHTS[name])))
    return found


def _pixels(avatar: Avatar, height: str) -> float:
    """Pixels of the resized avatar, as a share of its own."""
    return (HEIGHTS[height] / avatar.manifest.sizes.height) ** 2


_GROWN = dict(zip(GROWTH, (_jobs, _lengths, _sizes), strict=True))
