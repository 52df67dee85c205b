"""The training of a generator, as a story in three phases.

1. ``draw``: the picture half learns to draw any mouth of this person from a mouth code (what the lips do, read from
   the picture). Sound is not needed, so no step is lost on guessing which sound moves what.
2. ``listen``: the audio branch learns to say that code from windows of features, on as much speech as there is, in any
   voice. It works on 16 x 16 maps, so a window costs a tenth of a 320 x 320 picture.
3. ``speak``: both together, from the sound, until the pictures are right.

This module holds what every training of a generator shares; `lipwright.training.person` is the one for a person's film.

Plain training (phase 3 alone) needs tens of thousands of samples before the lips move at all: the mouth is a few per
cent of the picture, and its mean is a good answer for a network that cannot hear yet.
"""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from lipwright.contract import FloatArray
from lipwright.durable import take_name
from lipwright.models.generator import CHANNELS, Generator, Width
from lipwright.runtimes.torch import has_bf16
from lipwright.training.folded import fold
from lipwright.training.heap import give_back_pages
from lipwright.training.pack import Pack

log = logging.getLogger(__name__)

_EMA_DECAY = 0.998
_WARM_UP = 60
_REPORT_STEPS = 25
_DECAY = 1e-4
#: What a part that knows its business already learns at, as a share of the others' rate.
_SLOW = 0.2
#: Rate of what has no norms, as a share of the rate with them.
_GENTLE = 0.75


class MouthMap(nn.Module):
    """Mouth code [B, K] to the map [B, C, 10, 10] that the audio branch shall learn to say.

    Linear, so that an uncertain ear, which says the mean of its guesses, says the map of the mean mouth.
    """

    def __init__(self, mean: FloatArray, spread: FloatArray, width: Width = "full") -> None:
        """``mean`` and ``spread`` [K] of the person's own mouth code bring it to unit size."""
        super().__init__()
        self.mean: Tensor
        self.spread: Tensor
        self.register_buffer("mean", torch.from_numpy(mean))
        self.register_buffer("spread", torch.from_numpy(spread))
        self.linear = nn.Linear(len(mean), CHANNELS[width][-1])

    def forward(self, code: Tensor) -> Tensor:
        y: Tensor = self.linear((code - self.mean) / self.spread)
        return y[:, :, None, None].expand(-1, -1, 10, 10)


class Student(nn.Module):
    """What is trained: the generator, and the mouth map that teaches it."""

    def __init__(self, pack: Pack, width: Width = "full") -> None:
        super().__init__()
        self.generator = Generator(width)
        code = pack.mouth[pack.training_frames()]
        self.mouth_map = MouthMap(code.mean(axis=0), code.std(axis=0) + np.float32(1e-6), width)


@dataclass(frozen=True)
class Phase:
    """One stretch of training with one learning-rate curve."""

    name: str
    """``draw``, ``listen`` or ``speak``, and a number where it comes twice."""
    size: int
    """Side of the pictures: 160 costs half of 320."""
    batch: int
    steps: int
    rate: float
    """Peak learning rate; it warms up over 60 steps, or a fifth of a short phase, and falls to a twentieth."""

    def scaled(self, factor: float) -> Phase:
        """The same phase with ``factor`` times the steps."""
        return replace(self, steps=round(self.steps * factor))

    def gentle(self) -> Phase:
        """The same phase, calmer: for what has learnt already and has no batch norms to catch it."""
        return replace(self, rate=self.rate * _GENTLE)

    @property
    def speaks(self) -> bool:
        """Whether sound becomes pictures in it."""
        return self.name.startswith("speak")

    @property
    def report_every(self) -> int:
        """Steps from one entry of the curve to the next: twenty in a short phase."""
        return min(_REPORT_STEPS, max(self.steps // 20, 1))

    def learning_rate(self, step: int) -> float:
        """Learning rate at ``step`` of this phase."""
        warm = min(1.0, (step + 1) / min(_WARM_UP, self.steps / 5 + 1))
        fall = 0.5 * (1 + math.cos(math.pi * step / self.steps))
        return self.rate * warm * (0.05 + 0.95 * fall)


Taught = TypeVar("Taught", bound=nn.Module)
LossOfStep = Callable[[Taught, int], Tensor]


@dataclass
class Record:
    """What is written down while a phase runs; it goes into the checkpoint, so a resumed phase writes on."""

    curve: list[list[float]] = field(default_factory=list)
    """Step and mean loss since the last entry, now and then."""
    window: list[float] = field(default_factory=list)
    """Losses since the last entry."""
    scores: list[list[float]] = field(default_factory=list)
    """Step and held-out score of the averaged weights, at every check; the higher the better."""
    seconds: float = 0.0
    """Spent so far."""
    finished: bool = False
    """The phase is over: all steps are done, or it was stopped early."""
    ended: str = ""
    """Why, once it is over: ``steps``, ``time`` or ``score``. What the clock ended ends elsewhere another time."""

    @property
    def best(self) -> float:
        """The best score so far; minus infinity before the first check."""
        return max((score for _, score in self.scores), default=-math.inf)

    def checks_without_progress(self) -> int:
        """Checks since the best one."""
        scores = [score for _, score in self.scores]
        return len(scores) - 1 - scores.index(max(scores)) if scores else 0


@dataclass(frozen=True)
class Checks(Generic[Taught]):
    """How a phase is watched."""

    every: int
    """Steps from one check to the next; there is always one at the end."""
    score: Callable[[Taught], float]
    """Of the averaged weights, on held-out time."""
    patience: int = 4
    """The phase ends after so many checks in a row that are no better than the best."""


class Trainer(Generic[Taught]):
    """Runs phases on one student; checkpoints and resumes to the bit (fixed threads, processor, arithmetic)."""

    def __init__(
        self,
        student: Taught,
        folder: Path,
        device: str = "cpu",
        checkpoint_seconds: float = 120,
        on_step: Callable[[Phase, int, Record], None] = lambda *_: None,
        bf16: bool | None = None,
    ) -> None:
        """Train ``student``, keep checkpoints in ``folder``.

        Args:
            student: what is trained.
            folder: must be there.
            device: ``cpu``, ``cuda``.
            checkpoint_seconds: time between two checkpoints.
            on_step: told after every step; what it raises stops the training, which can be resumed.
            bf16: whether layers multiply in bf16; None: where the device does that natively. A resumed training must
                be told what it began with.
        """
        self.student: Taught = student.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average: Taught = copy.deepcopy(self.student).eval().requires_grad_(False)
        self.folder = folder
        self.checkpoint_seconds = checkpoint_seconds
        self.device = torch.device(device)
        self.bf16 = has_bf16(self.device.type) if bf16 is None else bf16
        self.records: dict[str, Record] = {}
        self._on_step = on_step

    def run(
        self,
        phase: Phase,
        loss_of_step: LossOfStep[Taught],
        trained: Callable[[Taught], nn.Module],
        checks: Checks[Taught] | None = None,
        slow: Callable[[Taught], nn.Module] | None = None,
        limit_seconds: float = math.inf,
    ) -> None:
        """Train ``trained(student)`` through ``phase``; a phase already finished in ``folder`` is loaded instead.

        ``slow(student)``, a part of it, learns at a fifth of the rate. With ``checks`` the best averaged weights are
        kept (``load_best``). The phase ends when it has taken ``limit_seconds``.
        """
        optimizer = self.optimizer(phase, trained(self.student), slow(self.student) if slow else None)
        first, record = self._resume(phase, optimizer)
        self.records[phase.name] = record
        if record.finished:
            return
        before, saved = record.seconds, time.monotonic()
        began = saved
        for step in range(first, phase.steps):
            record.window.append(self.learn(phase, step, loss_of_step, optimizer))
            record.seconds = before + time.monotonic() - began
            over = "steps" if step + 1 == phase.steps else "time" if record.seconds > limit_seconds else ""
            if checks and ((step + 1) % checks.every == 0 or over):
                self._check(phase, step + 1, record, checks)
            record.ended = over or ("score" if _enough(record, checks) else "")
            record.finished = bool(record.ended)
            if (step + 1) % phase.report_every == 0 or record.finished:
                self._write_down(phase, step + 1, record)
            if record.finished or time.monotonic() - saved > self.checkpoint_seconds:
                self._save(phase, step + 1, optimizer, record)
                saved = time.monotonic()
            self._on_step(phase, step + 1, record)
            if record.finished:
                break

    def fold(self) -> None:
        """Go on from the averaged weights without batch norms; where there are none, nothing changes."""
        if not any(isinstance(module, nn.BatchNorm2d) for module in self.student.modules()):
            return
        self.student.load_state_dict(self.average.state_dict())
        fold(self.student)
        fold(self.average)

    def optimizer(self, phase: Phase, trained: nn.Module, slow: nn.Module | None = None) -> torch.optim.Optimizer:
        """The optimizer of a phase; ``slow``, a part of ``trained``, learns at a fifth of the rate."""
        calm = list(slow.parameters()) if slow else []
        known = {id(p) for p in calm}
        groups = [{"params": [p for p in trained.parameters() if id(p) not in known], "factor": 1.0}]
        if calm:
            groups.append({"params": calm, "factor": _SLOW})
        return torch.optim.AdamW(groups, lr=phase.rate, weight_decay=_DECAY)

    def learn(
        self, phase: Phase, step: int, loss_of_step: LossOfStep[Taught], optimizer: torch.optim.Optimizer
    ) -> float:
        """One step; returns its loss."""
        for group in optimizer.param_groups:
            group["lr"] = phase.learning_rate(step) * group["factor"]
        self.student.train()
        torch.manual_seed(step)  # dropout must not depend on how often the training was interrupted
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            loss = loss_of_step(self.student, step)
        # Of all parts: gradients that an earlier phase left behind would count when the sum is clipped.
        self.student.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.student.parameters(), 1.0)
        optimizer.step()
        follow(self.average, self.student, min(_EMA_DECAY, (step + 1) / (step + 10)))
        return loss.item()

    def _write_down(self, phase: Phase, step: int, record: Record) -> None:
        total, count = sum(record.window), len(record.window)
        if record.curve and 2 * count < phase.report_every:  # the few steps at an end would look like a jump
            _, before = record.curve.pop()
            total, count = total + before * phase.report_every, count + phase.report_every
        mean = total / count
        record.window.clear()
        record.curve.append([step, mean])
        left = record.seconds / step * (phase.steps - step)
        log.info("%s %d/%d loss %.5f, %.0f s left", phase.name, step, phase.steps, mean, left)

    def _check(self, phase: Phase, step: int, record: Record, checks: Checks[Taught]) -> None:
        score = checks.score(self.average)
        if score > record.best:
            part = self._path(phase, "best.part")
            torch.save(self.average.state_dict(), part)
            take_name(part, self._path(phase, "best.pth"))
        record.scores.append([step, score])
        log.info("%s %d/%d held-out score %.4f, best %.4f", phase.name, step, phase.steps, score, record.best)

    def load_best(self, phase: Phase) -> None:
        """Make the best averaged weights of a phase that had checks the present average."""
        path = self._path(phase, "best.pth")
        if path.exists():
            self.average.load_state_dict(torch.load(path, map_location=self.device, weights_only=True))

    def _path(self, phase: Phase, kind: str = "pth") -> Path:
        return self.folder / f"{phase.name}.{kind}"

    def _save(self, phase: Phase, step: int, optimizer: torch.optim.Optimizer, record: Record) -> None:
        part = self._path(phase, "part")
        state = {
            "step": step,
            "student": self.student.state_dict(),
            "average": self.average.state_dict(),
            # A finished phase is never trained on, and the optimizer is half of the file.
            "optimizer": None if record.finished else optimizer.state_dict(),
            "record": asdict(record),
        }
        torch.save(state, part)
        take_name(part, self._path(phase))
        give_back_pages()

    def _resume(self, phase: Phase, optimizer: torch.optim.Optimizer) -> tuple[int, Record]:
        if not self._path(phase).exists():
            return 0, Record()
        # Not onto a card: the optimizer counts its steps on the processor, and asks a card for them in every step.
        state: dict[str, Any] = torch.load(self._path(phase), map_location="cpu", weights_only=True)
        self.student.load_state_dict(state["student"])
        self.average.load_state_dict(state["average"])
        if state["optimizer"] is not None:
            optimizer.load_state_dict(state["optimizer"])
        return int(state["step"]), Record(**state["record"])


def save_weights(network: nn.Module, path: Path) -> None:
    """Write a network's ``state_dict``; the file appears when it is whole."""
    part = path.with_suffix(".part")
    torch.save(network.state_dict(), part)
    take_name(part, path)


def _enough(record: Record, checks: Checks[Taught] | None) -> bool:
    """Whether a phase has stopped getting better."""
    if checks is None or record.checks_without_progress() < checks.patience:
        return False
    log.info("no better for %d checks: enough", checks.patience)
    return True


@torch.no_grad()
def follow(average: nn.Module, student: nn.Module, decay: float) -> None:
    """Move the average a little towards the student (Polyak averaging); counters are copied."""
    for mean, now in zip(_tensors(average), _tensors(student), strict=True):
        if mean.is_floating_point():
            mean.lerp_(now, 1 - decay)
        else:
            mean.copy_(now)


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()
