"""Whether the ear that was given keeps what it has learnt by listening to this person alone."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from lipwright.training.data import Frames, full_windows
from lipwright.training.held_out import ridge
from lipwright.training.lessons import ear
from lipwright.training.loop import Phase, Student, Trainer
from lipwright.training.pack import Pack

log = logging.getLogger(__name__)

#: Windows that a read-out is fitted on at most, and how many are heard at a time.
_FIT, _AT_A_TIME = 1500, 64
#: Strength of the read-out's ridge, as a share of the words' mean variance times their number.
_RIDGE = 1.0
#: An ear whose words vary less says nothing.
_SILENT = 1e-12

Words = npt.NDArray[np.float64]
Outcome = Literal["taught", "given back", "as it came"]


class Hearing:
    """Decides before and after the ear has listened, by what it hears in held-out time.

    Of seconds of film an ear can learn every moment by heart and hear less than before. Then it is given back, and
    goes on with the pictures alone, as it does from the beginning where the plan has no ``listen``. What is decided
    depends on the weights alone, so a resumed training decides alike.
    """

    def __init__(
        self, trainer: Trainer[Student], phases: Sequence[Phase], given: bool, score: Callable[[Student], float]
    ) -> None:
        """``score`` a student: `heard`. Without an ear that was ``given`` there is nothing to give back."""
        self.outcome: Outcome = "taught" if any(phase.name == "listen" for phase in phases) else "as it came"
        """What became of the ear."""
        self._trainer, self._score = trainer, score
        self._ear = copy.deepcopy(ear(trainer.student).state_dict()) if given else None
        self._before = -math.inf

    @property
    def listens(self) -> bool:
        """Whether it goes on listening to voices without pictures."""
        return self.outcome == "taught"

    def before(self, phase: Phase) -> None:
        """Called before a phase: what the ear hears that has not listened."""
        if phase.name == "listen" and self._ear is not None:
            self._before = self._score(self._trainer.average)

    def after(self, phase: Phase) -> None:
        """Called after a phase."""
        if phase.name != "listen" or self._ear is None:
            return
        listened = self._score(self._trainer.average)
        log.info("ear: heard %.2f of the held-out mouths before it listened, %.2f after", self._before, listened)
        if listened >= self._before:
            return
        self.outcome = "given back"
        for student in (self._trainer.student, self._trainer.average):
            ear(student).load_state_dict(self._ear)


def heard(student: Student, pack: Pack, device: torch.device) -> float:
    """Share of what the mouth code does in held-out time that the ear's words tell; 1: all, 0 or below: nothing.

    NaN where that time shows no face.

    By a read-out: ridge regression of the code on the words, fitted on the frames to learn from. The words themselves
    are not compared with the mouth map's, since the picture half learns to read whatever the ear says.
    """
    fitted, asked = pack.training_frames(), pack.held_frames()
    if len(asked) == 0:
        return math.nan
    fitted = fitted[:: -(-len(fitted) // _FIT)]
    code = (pack.mouth - pack.mouth[fitted].mean(axis=0)) / (pack.mouth[fitted].std(axis=0) + 1e-6)
    words = _words(student, pack, fitted, device)
    level = words.mean(axis=0)
    spread = max(float(np.square(words - level).mean()), _SILENT)
    read_out = ridge(words - level, code[fitted].astype(np.float64), _RIDGE * spread * len(words))
    read = (_words(student, pack, asked, device) - level) @ read_out
    wrong = float(np.square(read - code[asked]).sum())
    return 1 - wrong / float(np.square(code[asked]).sum())


@torch.inference_mode()
def _words(student: Student, pack: Pack, frames: Frames, device: torch.device) -> Words:
    """[n, C] what the ear says at ``frames`` of the sound as it was recorded, all of the future known."""
    parts = torch.split(torch.from_numpy(full_windows(pack.features[0], frames)), _AT_A_TIME)
    said = [ear(student)(part.to(device)).mean(dim=(2, 3)).double().cpu() for part in parts]
    return np.asarray(torch.cat(said).numpy())
