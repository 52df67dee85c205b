"""The training of a generator, as a story in three phases.

1. ``draw``: the picture half learns to draw any mouth of this person from a mouth code (what the lips do, read from
   the picture). Sound is not needed, so no step is lost on guessing which sound moves what.
2. ``listen``: the audio branch learns to say that code from windows of features, on as much speech as there is, in any
   voice. It works on 16 x 16 maps, so a window costs a tenth of a 320 x 320 picture.
3. ``speak``: both together, from the sound, until the pictures are right.

Plain training (phase 3 alone) needs tens of thousands of samples before the lips move at all: the mouth is a few per
cent of the picture, and its mean is a good answer for a network that cannot hear yet.
"""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lipwright.contract import FloatArray
from lipwright.models.generator import CHANNELS, Generator, Width
from lipwright.training.data import Batch, Sampler
from lipwright.training.losses import map_loss, picture_loss
from lipwright.training.pack import Pack
from lipwright.training.speech import SpeechSampler

log = logging.getLogger(__name__)

_EMA_DECAY = 0.998
_WARM_UP = 60
_REPORT_STEPS = 50
#: Weight of the mouth map against the picture while both are trained.
_OTHER_VOICES = 0.05


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
    """Side of the pictures: 160 costs a quarter of 320."""
    batch: int
    steps: int
    rate: float
    """Peak learning rate; it warms up over 60 steps and falls along a cosine to a twentieth."""

    def scaled(self, factor: float) -> Phase:
        """The same phase with ``factor`` times the steps."""
        return replace(self, steps=round(self.steps * factor))

    def learning_rate(self, step: int) -> float:
        """Learning rate at ``step`` of this phase."""
        warm = min(1.0, (step + 1) / _WARM_UP)
        fall = 0.5 * (1 + math.cos(math.pi * step / self.steps))
        return self.rate * warm * (0.05 + 0.95 * fall)


def draw_loss(student: Student, batch: Batch) -> Tensor:
    """The picture from the mouth code."""
    picture = student.generator.draw(batch.x, student.mouth_map(batch.mouth))
    return picture_loss(picture.float(), batch.y, batch.weight)


def speak_loss(student: Student, batch: Batch) -> Tensor:
    """The picture from the sound."""
    picture = student.generator(batch.x, batch.audio)
    return picture_loss(picture.float(), batch.y, batch.weight)


def listen_loss(student: Student, audio: Tensor, mouth: Tensor) -> Tensor:
    """The mouth map from the sound; the map itself stands still."""
    with torch.no_grad():
        truth = student.mouth_map(mouth).float()
    return map_loss(student.generator.audio_model(audio).float(), truth)


LossOfStep = Callable[[Student, int], Tensor]


class Trainer:
    """Runs phases on one student; checkpoints and resumes to the bit (fixed threads, processor)."""

    def __init__(self, student: Student, folder: Path, device: str = "cpu", checkpoint_seconds: float = 120) -> None:
        self.student = student.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average: Student = copy.deepcopy(self.student).eval().requires_grad_(False)
        self.folder = folder
        self.checkpoint_seconds = checkpoint_seconds
        self.device = torch.device(device)

    def run(self, phase: Phase, loss_of_step: LossOfStep, trained: Callable[[Student], nn.Module]) -> None:
        """Train ``trained(student)`` through ``phase``; a phase already finished in ``folder`` is loaded instead."""
        optimizer = torch.optim.AdamW(trained(self.student).parameters(), lr=phase.rate, weight_decay=1e-4)
        first = self._resume(phase, optimizer)
        saved = began = time.monotonic()
        losses: list[float] = []
        for step in range(first, phase.steps):
            losses.append(self._step(phase, step, loss_of_step, optimizer))
            if (step + 1) % _REPORT_STEPS == 0:
                left = (time.monotonic() - began) / (step + 1 - first) * (phase.steps - step - 1)
                mean = sum(losses) / len(losses)
                log.info("%s %d/%d loss %.5f, %.0f s left", phase.name, step + 1, phase.steps, mean, left)
                losses.clear()
            if time.monotonic() - saved > self.checkpoint_seconds or step + 1 == phase.steps:
                self._save(phase, step + 1, optimizer)
                saved = time.monotonic()

    def _step(self, phase: Phase, step: int, loss_of_step: LossOfStep, optimizer: torch.optim.Optimizer) -> float:
        for group in optimizer.param_groups:
            group["lr"] = phase.learning_rate(step)
        self.student.train()
        with torch.autocast(self.device.type, torch.bfloat16):
            loss = loss_of_step(self.student, step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.student.parameters(), 1.0)
        optimizer.step()
        follow(self.average, self.student, min(_EMA_DECAY, (step + 1) / (step + 10)))
        return loss.item()

    def _path(self, phase: Phase) -> Path:
        return self.folder / f"{phase.name}.pth"

    def _save(self, phase: Phase, step: int, optimizer: torch.optim.Optimizer) -> None:
        part = self.folder / f"{phase.name}.part"
        state = {
            "step": step,
            "student": self.student.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": optimizer.state_dict(),
        }
        torch.save(state, part)
        part.replace(self._path(phase))

    def _resume(self, phase: Phase, optimizer: torch.optim.Optimizer) -> int:
        if not self._path(phase).exists():
            return 0
        state: dict[str, Any] = torch.load(self._path(phase), map_location=self.device, weights_only=True)
        self.student.load_state_dict(state["student"])
        self.average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        return int(state["step"])


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


def on_device(batch: Batch, device: torch.device) -> Batch:
    """The batch where the student is; pictures channels last."""
    last = torch.channels_last
    return Batch(
        x=batch.x.to(device, memory_format=last),
        y=batch.y.to(device, memory_format=last),
        weight=batch.weight.to(device),
        mouth=batch.mouth.to(device),
        audio=batch.audio.to(device),
    )


def drawing(sampler: Sampler, phase: Phase, device: torch.device) -> LossOfStep:
    """Loss of a ``draw`` step."""
    return lambda student, step: draw_loss(student, on_device(sampler.batch(step, phase.batch, phase.size), device))


def listening(speech: SpeechSampler, phase: Phase, device: torch.device) -> LossOfStep:
    """Loss of a ``listen`` step."""

    def loss(student: Student, step: int) -> Tensor:
        audio, mouth = speech.batch(step, phase.batch)
        return listen_loss(student, audio.to(device), mouth.to(device))

    return loss


def fitting(sampler: Sampler, phase: Phase, device: torch.device) -> LossOfStep:
    """Loss of a step that gives a trained generator another face: the audio branch, which knows many voices, rests.

    Train ``picture_half(student)`` with it.
    """

    def loss(student: Student, step: int) -> Tensor:
        student.generator.audio_model.eval()  # its batch statistics rest too
        return speak_loss(student, on_device(sampler.batch(step, phase.batch, phase.size), device))

    return loss


def picture_half(student: Student) -> nn.Module:
    """All of the generator but its audio branch."""
    return nn.ModuleList(part for name, part in student.generator.named_children() if name != "audio_model")


def speaking(sampler: Sampler, speech: SpeechSampler, phase: Phase, device: torch.device) -> LossOfStep:
    """Loss of a ``speak`` step: the person's own pictures, and other voices so that the ear stays general."""
    hear = listening(speech, replace(phase, batch=max(phase.batch // 2, 1)), device)

    def loss(student: Student, step: int) -> Tensor:
        batch = on_device(sampler.batch(step, phase.batch, phase.size), device)
        return speak_loss(student, batch) + _OTHER_VOICES * hear(student, step)

    return loss
