"""What is measured, as plain values that go through JSON from the measured process to the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import inf
from typing import Any, Literal, Self

import numpy as np

from lipwright.contract import Quality

Kind = Literal["inference", "render", "baseline", "jobs"]
#: The stages of a frame, in the order it passes them.
STAGES = ("decode", "cut", "hear", "draw", "paste", "encode")


@dataclass(frozen=True, slots=True)
class Task:
    """One thing to measure, alone in a fresh process."""

    kind: Kind
    label: str
    """What it is called in the report."""
    avatar: str
    """Folder."""
    sound: str
    runtime: str = "auto"
    precision: Literal["auto", "f32", "bf16", "f16"] = "auto"
    frames: int = 0
    """To be measured, after the warm-up; for each job where there are several."""
    warm_up: int = 0
    """Frames before the measured ones."""
    jobs: int = 1
    folder: str = ""
    """Where it may write."""
    batch: int = 1
    """Frames in one call of the generator alone."""
    size: str = ""
    """Size of the picture where it is not the avatar's own."""
    quality: Quality = "full"
    """Which of the avatar's generators draws."""
    isa: str = ""
    """Largest instruction set OpenVINO and torch may use (``ONEDNN_MAX_CPU_ISA``); empty: all of the processor's."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, data: dict[str, Any]) -> Self:
        return cls(**data)


@dataclass(frozen=True, slots=True)
class Measured:
    """What came of a task. Times that a task does not have are None."""

    label: str
    kind: Kind
    detail: str
    """What was really active: library, device, precision, threads."""
    cold_load_s: float | None
    """From the start of the process until the networks have answered once, Python's own start included."""
    first_frame_s: float | None
    """From the start of the process until the first real frame was there (end to end: handed to the encoder)."""
    median_ms: float
    p95_ms: float
    p99_ms: float
    """Of a frame: the network's answer, or the time from one finished frame to the next."""
    fps: float
    """Frames a second after the warm-up; end to end until the file is closed."""
    memory_mb: float | None
    """Peak of the whole process, in units of 10^6 bytes."""
    card_mb: float | None
    """Memory that the process took of the card; None without one."""
    frames: int
    warm_up: int
    stages_ms: dict[str, float]
    """Mean of each stage alone, one after the other; empty where it was not looked at."""
    fairness: float | None = None
    """Several jobs: speed of the slowest as a share of the fastest."""
    size: str = ""
    """Size of the picture where it is not the avatar's own: nothing to compare with the baseline, which has that."""

    @classmethod
    def of(cls, data: dict[str, Any]) -> Self:
        return cls(**data)


@dataclass(frozen=True, slots=True)
class Failed:
    """A task that this machine cannot do, and why."""

    label: str
    kind: Kind
    reason: str


@dataclass(frozen=True, slots=True)
class Pace:
    """Times of single frames in a few numbers."""

    median_ms: float
    p95_ms: float
    p99_ms: float
    fps: float

    @classmethod
    def of(cls, seconds: Sequence[float], whole: float | None = None) -> Self:
        """From the time of each frame; ``whole``: seconds that all of them took together, where that is more."""
        median, p95, p99 = (float(v) * 1000 for v in np.percentile(seconds, [50, 95, 99]))
        total = whole or sum(seconds)
        return cls(median, p95, p99, len(seconds) / total if total else inf)
