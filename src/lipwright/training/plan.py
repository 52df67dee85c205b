"""What a training does in the time it is given: the phases, fitted to how fast this machine is."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import torch

from lipwright.durable import write_text
from lipwright.errors import LipwrightError
from lipwright.models.generator import Width
from lipwright.models.sync_expert import SyncExpert
from lipwright.runtimes.torch import has_bf16
from lipwright.training.base import Start, begin, start
from lipwright.training.compiled import compiled_seconds
from lipwright.training.data import Sampler
from lipwright.training.lessons import CARD_WORKERS, CLIP_EVERY, Teachers, listening, pictures_shown, speaking
from lipwright.training.loop import LossOfStep, Phase, Taught, Trainer
from lipwright.training.losses import PerceptualLoss
from lipwright.training.pack import Pack
from lipwright.training.speech import SpeechSampler, own_speech
from lipwright.training.sync import SyncSampler, expert_loss

log = logging.getLogger(__name__)

#: Shares of the time that is given. What is left is for the scores at the end and for the unforeseen.
SHARES = {"expert": 0.05, "draw": 0.24, "listen": 0.06, "speak160": 0.27, "speak320": 0.28}
#: The same for what begins from a whole generator, which draws already.
SHARES_OF_WHOLE = {"expert": 0.05, "listen": 0.06, "speak160": 0.39, "speak320": 0.40}
#: Peak learning rates of a network with norms; one without takes three quarters (`without_norms`).
RATES = {"draw": 1.5e-3, "listen": 1e-3, "speak160": 8e-4, "speak320": 6e-4}
#: Share of a phase's time that checks on held-out time may take, and the most checks.
_CHECKING = 0.1
_MOST_CHECKS = 8
#: Steps of each phase by which a processor is measured; fewer than bring the first clip.
_TRIED = 3
#: The same of a card, whose first steps find their pictures prepared: those after that tell what a step takes.
_TRIED_ON_A_CARD = 2 * (CARD_WORKERS + 1)
#: Held-out frames that a check looks at.
CHECKED_FRAMES = 48
#: Fewest held-out frames that tell whether a given ear has learnt anything by listening to this person alone: five
#: seconds. Of one or two a syllable decides (DECISIONS.md, "From how much film may an ear learn?").
TELLING = 125
#: Fewest steps of a phase, and the most of those whose errors stop falling early.
_FEWEST = 4
_MOST = {"expert": 3000, "listen": 4000}
#: A picture drawn without learning, as a share of one that is learnt from.
_DRAWN = 0.35
#: Checkpoints are this far apart, at most, in seconds, and as a share of the time.
_CHECKPOINT = (120.0, 0.05)


@dataclass(frozen=True)
class Plan:
    """Everything that decides what a training does. The same plan gives the same weights on the same machine."""

    width: Width
    expert: Phase
    """The sync expert's own training."""
    phases: tuple[Phase, ...]
    """draw (unless it begins from a whole generator), listen (unless a given ear shall not), speak160, speak320."""
    costs: dict[str, float]
    """Seconds a step of each phase takes on average, by a few that were measured."""
    checks: int
    """How often each ``speak`` phase is scored on held-out time."""
    checked_frames: int
    """Held-out frames looked at for that."""
    minutes: float
    """The time that was given."""
    checkpoint_seconds: float
    """Time between two checkpoints."""
    threads: int
    """Of the processor; another number gives other last bits."""
    seed: int = 1
    held_out: tuple[int, int] | None = None
    """First frame and stop of the time put aside; None: a plan for any pack."""
    compiled: bool = False
    """Whether the generator runs compiled (``training.compiled``) in the ``speak`` phases."""
    bf16: bool = True
    """Whether layers multiply in bf16 and not in f32; plans written before that was asked all did."""
    begins: Start | Literal[""] = ""
    """From what its generator begins; older plans do not say it."""
    device: str = ""
    """What it was measured on, ``cpu`` or ``cuda``: another takes other batches. Older plans do not say it."""
    folded: bool = False
    """Whether the batch norms go into the convolutions (``training.folded``) before it learns to speak; older plans
    kept them."""

    @property
    def seconds(self) -> float:
        """How long the phases should take."""
        return sum(phase.steps * self.costs[phase.name] for phase in (self.expert, *self.phases))

    def save(self, path: Path) -> None:
        """Write it as JSON; the file appears when it is whole."""
        write_text(path, json.dumps(asdict(self), indent=1))

    @classmethod
    def load(cls, path: Path) -> Plan:
        """Read what ``save`` wrote.

        Raises:
            LipwrightError: the file is something else.
        """
        try:
            values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            values["expert"] = Phase(**values["expert"])
            values["phases"] = tuple(Phase(**phase) for phase in values["phases"])
            values["held_out"] = values["held_out"] and tuple(values["held_out"])
            return cls(**values)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise LipwrightError(
                f"{path} is no plan of a training ({error}): remove its folder and begin anew"
            ) from error


def make_plan(pack: Pack, sampler: Sampler, width: Width, device: str, minutes: float) -> Plan:
    """Measure this machine on a few steps and share the time out.

    Raises:
        LipwrightError: there is not even time for a handful of steps, or too little memory.
    """
    began = time.monotonic()
    large, begins = device != "cpu", start(pack.base, width)
    expert, phases = Phase("expert", size=0, batch=64, steps=0, rate=2e-3), _phases(large, begins)
    if begins != "none" and len(pack.held_frames()) < TELLING:
        phases = without(phases, "listen")
    shares = _shares(begins, ("expert", *(phase.name for phase in phases)))
    phases, costs = _affordable(pack, sampler, phases, width, device)
    costs["expert"] = _measured_expert(pack, expert, device)
    time_to_speak = minutes * 60 * sum(share for name, share in shares.items() if name.startswith("speak"))
    compiled = large and _compile(pack, sampler, phases[-1], width, device, costs, time_to_speak)
    costs.update({phase.name: _with_clips(phase, costs[phase.name]) for phase in phases if phase.speaks})
    seconds = minutes * 60 - (time.monotonic() - began)
    if seconds < _FEWEST * sum(costs.values()):
        raise LipwrightError(
            f"{minutes:g} minutes are too few on this machine, whose steps take up to {max(costs.values()):.1f} s: "
            "give more --minutes"
        )
    fitted = [_fitted(phase, shares[phase.name] * seconds, costs[phase.name]) for phase in (expert, *phases)]
    frames = min(CHECKED_FRAMES, len(pack.held_frames()))
    check = frames * costs["speak320"] / phases[-1].batch * _DRAWN
    checks = math.floor(_CHECKING * fitted[-1].steps * costs["speak320"] / check) if check else 1
    return Plan(
        width=width,
        expert=fitted[0],
        phases=tuple(fitted[1:]),
        costs=costs,
        checks=min(max(checks, 1), _MOST_CHECKS),
        checked_frames=frames,
        minutes=minutes,
        checkpoint_seconds=min(_CHECKPOINT[0], _CHECKPOINT[1] * minutes * 60),
        threads=torch.get_num_threads(),
        held_out=pack.held_out,
        begins=begins,
        device=device,
        compiled=compiled,
        bf16=has_bf16(torch.device(device).type),
        folded=True,
    )


def _phases(large: bool, begins: Start) -> tuple[Phase, ...]:
    """All phases but the expert's, without their steps; ``large``: a graphics card takes large batches."""
    phases = (
        Phase("draw", size=160, batch=32 if large else 8, steps=0, rate=RATES["draw"]),
        Phase("listen", size=0, batch=128 if large else 64, steps=0, rate=RATES["listen"]),
        Phase("speak160", size=160, batch=32 if large else 8, steps=0, rate=RATES["speak160"]),
        Phase("speak320", size=320, batch=16 if large else 4, steps=0, rate=RATES["speak320"]),
    )
    whole = begins == "whole generator"
    return without_norms(without(phases, "draw") if whole else phases, whole)


def without(phases: Sequence[Phase], name: str) -> tuple[Phase, ...]:
    """The phases but for the one of this name, for what begins with what that teaches."""
    return tuple(phase for phase in phases if phase.name != name)


def _shares(begins: Start, names: Sequence[str]) -> dict[str, float]:
    """Shares of the time that ``names`` take; what is left out leaves them its own."""
    usual = SHARES_OF_WHOLE if begins == "whole generator" else SHARES
    more = sum(usual.values()) / sum(usual[name] for name in names)
    return {name: more * usual[name] for name in names}


def without_norms(phases: Sequence[Phase], from_whole: bool) -> tuple[Phase, ...]:
    """The phases, gentler where no norms catch a step: ``speak``, and all that begin from a generator."""
    return tuple(phase.gentle() if from_whole or phase.speaks else phase for phase in phases)


def _with_clips(phase: Phase, cost: float) -> float:
    """Seconds a step takes on average, if one without clips takes ``cost``: clips may need more pictures."""
    return cost * pictures_shown(phase, CLIP_EVERY) / (CLIP_EVERY * phase.batch)


def _fitted(phase: Phase, seconds: float, cost: float) -> Phase:
    steps = max(int(seconds / cost), _FEWEST)
    return replace(phase, steps=min(steps, _MOST.get(phase.name, steps)))


def _affordable(
    pack: Pack, sampler: Sampler, phases: tuple[Phase, ...], width: Width, device: str
) -> tuple[tuple[Phase, ...], dict[str, float]]:
    """The phases, with batches half as large where a graphics card has too little memory, and what their steps cost.

    Not smaller still: a clip would then be larger than the batch, and the card would be full in the middle.
    """
    smaller = tuple(replace(phase, batch=phase.batch // 2) for phase in phases)
    for tried in (phases, smaller):
        try:
            return tried, _measured(pack, sampler, tried, width, device)
        except torch.cuda.OutOfMemoryError:
            log.warning("the graphics card has too little memory for batches of %d", tried[-1].batch)
            torch.cuda.empty_cache()
    raise LipwrightError(
        f"the graphics card has too little memory for {smaller[-1].batch} pictures at a time: close what else uses it, "
        "or train with --width mobile or --device cpu"
    )


def _measured(pack: Pack, sampler: Sampler, phases: tuple[Phase, ...], width: Width, device: str) -> dict[str, float]:
    """Seconds a step takes, by phase."""
    costs = {}
    voices = SpeechSampler(own_speech(pack), seed=0)
    trainer = Trainer(begin(pack, width, voices), Path(), device)
    teachers = _teachers(device)
    for planned in phases:
        phase = _tried(planned, device)
        if phase.speaks:
            trainer.fold()
        sound = phase.name == "listen"
        heard = listening(voices, phase, trainer.device)
        loss = heard if sound else speaking(sampler, voices, phase, trainer.device, teachers)
        costs[phase.name] = _step_seconds(trainer, phase, loss)
    return costs


def _teachers(device: str) -> Teachers:
    """Those whose time counts: VGG takes as long as the generator; the sync expert looks at small pictures only."""
    return Teachers(perceptual=PerceptualLoss.installed(torch.device(device)))


def _compile(
    pack: Pack, sampler: Sampler, phase: Phase, width: Width, device: str, costs: dict[str, float], time_to_speak: float
) -> bool:
    """Whether to compile the generator; the ``speak`` phases' ``costs`` are those of the compiled one afterwards."""
    voices = SpeechSampler(own_speech(pack), seed=0)
    trainer = Trainer(begin(pack, width, voices), Path(), device)
    trainer.fold()
    few = _tried(phase, device)
    loss = speaking(sampler, voices, few, trainer.device, _teachers(device))
    optimizer = trainer.optimizer(few, trainer.student)
    each = compiled_seconds(
        trainer.student.generator,
        lambda: trainer.learn(few, 0, loss, optimizer),
        lambda: _step_seconds(trainer, few, loss),
        costs[phase.name],
        time_to_speak,
    )
    if each is None:
        return False
    quicker = each / costs[phase.name]
    costs.update({name: cost * quicker for name, cost in costs.items() if name.startswith("speak")})
    return True


def _measured_expert(pack: Pack, planned: Phase, device: str) -> float:
    """Seconds a step of the sync expert takes, or would take if the film were long enough."""
    samples = SyncSampler(pack, seed=0)
    if not samples.possible:
        return 1.0
    phase = _tried(planned, device)
    trainer = Trainer(SyncExpert(), Path(), device)
    return _step_seconds(trainer, phase, expert_loss(samples, phase.batch, trainer.device))


def _tried(planned: Phase, device: str) -> Phase:
    """The phase, with the few steps by which its cost is measured."""
    return replace(planned, steps=_TRIED if device == "cpu" else _TRIED_ON_A_CARD)


def _step_seconds(trainer: Trainer[Taught], phase: Phase, loss: LossOfStep[Taught]) -> float:
    """What a step of the phase takes.

    On the processor the quickest but the first, which finds nothing warm: what others want only adds to it. On a card
    the mean of the later half, which waits for its pictures as long as all others will.
    """
    optimizer = trainer.optimizer(phase, trainer.student)
    taken = []
    for step in range(phase.steps):
        began = time.monotonic()
        trainer.learn(phase, step, loss, optimizer)
        taken.append(time.monotonic() - began)
    return min(taken[1:]) if trainer.device.type == "cpu" else fmean(taken[len(taken) // 2 :])
