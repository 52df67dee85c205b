"""What one step of each phase teaches: the samples it takes and how wrong its answer is.

The presenter and a user's own person are taught alike; only where the speech comes from differs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from lipwright.models.generator import Generator
from lipwright.models.sync_expert import EXPERT_FRAMES, MOUTH_SIZE, SyncExpert, mouth_pictures, sync_loss
from lipwright.training.data import Ahead, Batch, Sampler, stacked
from lipwright.training.loop import LossOfStep, Phase, Student
from lipwright.training.losses import PerceptualLoss, detail_loss, map_loss, motion_loss, picture_loss
from lipwright.training.speech import SpeechSampler

#: What the losses count beside the picture's own.
DETAIL, MOTION, SYNC, PERCEPTUAL = 0.5, 1.0, 0.02, 0.02
#: Weight of other voices' mouth maps against the picture while both halves are trained.
OTHER_VOICES = 0.05
#: Every so many steps about half of the samples are clips of consecutive frames, for the losses that look at time.
CLIP_EVERY = 4
#: Fewest samples beside clips that are not of them.
_OTHERS = 2
#: Threads that prepare pictures for a card.
CARD_WORKERS = 12


@dataclass(frozen=True)
class Teachers:
    """Networks that judge the pictures while they are learnt; None where there is none."""

    expert: SyncExpert | None = None
    perceptual: PerceptualLoss | None = None


NOBODY = Teachers()


def lesson(
    phase: Phase,
    sampler: Sampler,
    voices: SpeechSampler,
    device: torch.device,
    teachers: Teachers = NOBODY,
    ear_listens: bool = True,
) -> LossOfStep[Student]:
    """Loss of a step of ``phase``: of its name ``draw``, ``listen``, or another, such as ``speak320``.

    Args:
        phase: decides sizes and what is taught.
        sampler: the pictures.
        voices: what the ear hears besides.
        device: where the student is.
        teachers: judge the pictures of ``speak`` phases.
        ear_listens: whether it hears other voices too in ``speak`` phases.
    """
    if phase.name == "draw":
        return drawing(sampler, phase, device)
    if phase.name == "listen":
        return listening(voices, phase, device)
    return speaking(sampler, voices if ear_listens else None, phase, device, teachers)


def learner(phase: Phase) -> Callable[[Student], nn.Module]:
    """What a phase trains: the whole student while it draws, its ear while it listens, then the generator."""
    return _LEARNERS.get(phase.name, lambda student: student.generator)


def ear(student: Student) -> nn.Module:
    """The audio branch."""
    return student.generator.audio_model


_LEARNERS: dict[str, Callable[[Student], nn.Module]] = {"draw": lambda student: student, "listen": ear}


def pictures_shown(phase: Phase, steps: int) -> int:
    """How many pictures so many steps of ``phase`` show; a step with a clip may show more than ``phase.batch``."""
    if phase.name in _LEARNERS:
        return steps * phase.batch if phase.size else 0
    stretches = max(phase.batch // 2 // EXPERT_FRAMES, 1)
    with_clips = max(phase.batch, stretches * EXPERT_FRAMES + _OTHERS)
    return steps * phase.batch + steps // CLIP_EVERY * (with_clips - phase.batch)


def drawing(sampler: Sampler, phase: Phase, device: torch.device) -> LossOfStep[Student]:
    """Loss of a ``draw`` step: the picture from the mouth code."""
    batches = Ahead(lambda step: sampler.batch(step, phase.batch, phase.size), _workers(device))

    def loss(student: Student, step: int) -> Tensor:
        batch = on_device(batches(step), device)
        picture = student.generator.draw(batch.x, student.mouth_map(batch.mouth))
        return picture_loss(picture.float(), batch.y, batch.weight)

    return loss


def listening(speech: SpeechSampler, phase: Phase, device: torch.device) -> LossOfStep[Student]:
    """Loss of a ``listen`` step: the mouth map from the sound; the map itself stands still."""

    def loss(student: Student, step: int) -> Tensor:
        audio, mouth = speech.batch(step, phase.batch)
        with torch.no_grad():
            truth = student.mouth_map(mouth.to(device)).float()
        return map_loss(student.generator.audio_model(audio.to(device)).float(), truth)

    return loss


def speaking(
    sampler: Sampler, speech: SpeechSampler | None, phase: Phase, device: torch.device, teachers: Teachers
) -> LossOfStep[Student]:
    """Loss of a ``speak`` step: the person's own pictures, and other voices, if any, so that the ear stays general.

    Every few steps half of the samples are clips, so that time can be judged too.
    """
    voices = listening(speech, replace(phase, batch=max(phase.batch // 2, 1)), device) if speech else None
    batches = Ahead(lambda step: spoken(sampler, phase, step), _workers(device))

    def loss(student: Student, step: int) -> Tensor:
        batch = on_device(batches(step), device)
        picture = student.generator(batch.x, batch.audio).float()
        error = _picture_error(picture, batch, teachers)
        return error + OTHER_VOICES * voices(student, step) if voices else error

    return loss


def spoken(sampler: Sampler, phase: Phase, step: int) -> Batch:
    """What a ``speak`` step shows: every few steps clips first, if the film has any, and always pictures of all times.

    Not clips alone: their frames differ in the lips and in nothing else, so a step that saw one pose would forget the
    others.
    """
    clips = None
    if step % CLIP_EVERY == CLIP_EVERY - 1:
        clips = sampler.clips(step, phase.batch // 2, phase.size, EXPERT_FRAMES)
    if clips is None:
        return sampler.batch(step, phase.batch, phase.size)
    others = max(phase.batch - clips.in_clips, _OTHERS)
    return stacked([clips, sampler.batch(step, others, phase.size)])


def _picture_error(picture: Tensor, batch: Batch, teachers: Teachers) -> Tensor:
    error = picture_loss(picture, batch.y, batch.weight) + DETAIL * detail_loss(picture, batch.y, batch.weight)
    if teachers.perceptual:
        error = error + PERCEPTUAL * teachers.perceptual(picture, batch.y)
    if batch.heard is None:
        return error
    rows = slice(batch.in_clips)
    error = error + MOTION * motion_loss(picture[rows], batch.y[rows], batch.weight[rows], batch.clip)
    if teachers.expert:
        shown = mouth_pictures(picture[rows]).reshape(-1, batch.clip, 3, MOUTH_SIZE, MOUTH_SIZE)
        preference = teachers.expert.preference(shown, batch.heard[:, 0], batch.heard[:, 1])
        error = error + SYNC * sync_loss(preference.float())
    return error


def plainly(sampler: Sampler, phase: Phase, device: torch.device) -> LossOfStep[Generator]:
    """Loss of a step without anything clever, to compare with: the mean of absolute differences, from the sound."""
    batches = Ahead(lambda step: sampler.batch(step, phase.batch, phase.size), _workers(device))

    def loss(generator: Generator, step: int) -> Tensor:
        batch = on_device(batches(step), device)
        error: Tensor = (generator(batch.x, batch.audio).float() - batch.y).abs().mean()
        return error

    return loss


def on_device(batch: Batch, device: torch.device) -> Batch:
    """The batch where the student is; pictures channels last."""
    last = torch.channels_last
    return Batch(
        x=batch.x.to(device, memory_format=last),
        y=batch.y.to(device, memory_format=last),
        weight=batch.weight.to(device),
        mouth=batch.mouth.to(device),
        audio=batch.audio.to(device),
        clip=batch.clip,
        heard=None if batch.heard is None else batch.heard.to(device),
    )


def _workers(device: torch.device) -> int:
    """Threads that prepare pictures: on the processor they compete with the network."""
    return 1 if device.type == "cpu" else CARD_WORKERS
