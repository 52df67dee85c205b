"""``bench``: every way of this machine alone and end to end, the baseline in the same run, and how cost grows."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lipwright.avatar import Avatar
from lipwright.bench.children import measure
from lipwright.bench.growth import HEIGHTS, JOBS, SECONDS, lasting, resized
from lipwright.bench.measures import Failed, Kind, Measured, Task
from lipwright.bench.report import Bench, Curve
from lipwright.contract import FPS
from lipwright.runtimes.torch import weights_beside
from lipwright.trial import REFERENCE, Look, Progress, Way, built_in_sound, generator_of, stamp, ways

#: Frames measured of the generator alone, and before that not measured.
ALONE, WARM_UP = 100, 10
#: Seconds of film end to end.
SECONDS_OF_FILM = 10.0
#: What OpenVINO and torch use on most processors of today: no AVX-512, no bf16.
COMMON_ISA = "AVX2"


@dataclass(frozen=True)
class Plan:
    """What is measured."""

    ways: Sequence[Way] | None = None
    """None: all of this machine, and ``auto`` end to end."""
    sound: Path | None = None
    """None: the sentences of the demo."""
    seconds: float = SECONDS_OF_FILM
    """Of film, end to end and for the baseline."""
    alone: int = ALONE
    """Frames of the generator alone."""
    warm_up: int = WARM_UP
    """Frames before them, and before the end-to-end ones."""
    scaling: bool = False
    """Also how cost grows with jobs, length and size."""
    jobs: Sequence[int] = JOBS
    lengths: Sequence[float] = SECONDS
    heights: Sequence[str] = tuple(HEIGHTS)


def bench(avatar: Avatar, plan: Plan, look: Look = lambda progress: None) -> Bench:
    """Measure ``avatar`` on this machine, each thing in a fresh process.

    What this machine cannot do is in the result with its reason; nothing is raised for it.

    Raises:
        AvatarError: the avatar has no generator.
        MediaError: the sound or the template cannot be read.
    """
    generator_of(avatar)
    before = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    with tempfile.TemporaryDirectory(prefix="lipwright-bench-") as name:
        folder = Path(name)
        frames = round(plan.seconds * FPS)
        lasts = (frames + plan.warm_up + 1) / FPS
        sound = lasting(plan.sound or built_in_sound(), lasts, folder / "sound.wav")
        base = Task("inference", "", str(avatar.path), str(sound), frames=frames, warm_up=plan.warm_up)
        results = [_do(task, look) for task in tasks(avatar, plan, base)]
        curves = _curves(avatar, plan, base, folder, look) if plan.scaling else []
    return Bench(_title(avatar), stamp(), before, results, curves)


def _title(avatar: Avatar) -> str:
    """The avatar, and what of it matters for speed."""
    sizes, record = avatar.manifest.sizes, avatar.manifest.models.generator
    width = f", {record.width} width" if record and record.width else ""
    return f"{avatar.name}, {sizes.width} x {sizes.height}{width}"


def tasks(avatar: Avatar, plan: Plan, base: Task) -> list[Task]:
    """What is measured, in the order of the report; ``base`` has what all share."""
    chosen = ways() if plan.ways is None else list(plan.ways)
    found = [_task(base, "inference", way, plan.alone) for way in chosen]
    if plan.ways is None:
        found += [replace(base, kind="render", label="auto: what a user gets")]
    found += [_task(base, "render", way) for way in chosen]
    common = Way("openvino", "f32")
    if common in chosen and _is_x86():
        label = f"{common}, {COMMON_ISA} only"
        found += [replace(_task(base, "inference", common, plan.alone), label=label, isa=COMMON_ISA)]
        found += [replace(_task(base, "render", common), label=label, isa=COMMON_ISA)]
    plain = [Way(REFERENCE, "f32"), *([Way("torch", "f32")] if weights_beside(generator_of(avatar)) else [])]
    return found + [
        replace(_task(base, "baseline", way), label=f"baseline: sequential, {way}", warm_up=0) for way in plain
    ]


def _task(base: Task, kind: Kind, way: Way, frames: int | None = None) -> Task:
    named = replace(base, kind=kind, label=str(way), runtime=way.runtime, precision=way.precision)
    return named if frames is None else replace(named, frames=frames)


def _is_x86() -> bool:
    return platform.machine() in ("x86_64", "AMD64")


def _do(task: Task, look: Look) -> Measured | Failed:
    step = f"{task.kind}: {task.label}"
    look(Progress(step, 0, None))
    return measure(task, lambda done, total: look(Progress(step, done, total)))


# --- growth ---------------------------------------------------------------------------------------------------------


def _curves(avatar: Avatar, plan: Plan, base: Task, folder: Path, look: Look) -> list[Curve]:
    """Jobs at once, length of the sound, size of the picture; each in the way that ``auto`` takes."""
    sound = plan.sound or built_in_sound()
    shared = replace(base, kind="jobs", warm_up=0)
    jobs = [(str(n), float(n), replace(shared, label=f"{n} jobs", jobs=n)) for n in plan.jobs]
    lengths = []
    for seconds in plan.lengths:
        longer = lasting(sound, seconds, folder / f"{seconds:g}s.wav")
        task = replace(shared, label=f"{seconds:g} s", sound=str(longer), frames=round(seconds * FPS) - 1)
        lengths.append((f"{seconds:g} s", float(seconds), task))
    sizes = []
    for name in plan.heights:
        look(Progress(f"resizing to {name}", 0, None))
        other = resized(avatar, HEIGHTS[name], folder)
        sizes.append((name, float(HEIGHTS[name]), replace(base, kind="jobs", label=name, avatar=str(other.path))))
    return [
        Curve("jobs at once", [(n, v, _do(task, look)) for n, v, task in jobs]),
        Curve("length of the sound", [(n, v, _do(task, look)) for n, v, task in lengths]),
        Curve("height of the picture", [(n, v, _do(task, look)) for n, v, task in sizes]),
    ]
