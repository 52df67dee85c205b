"""Speech of many voices with known mouths: what the audio branch listens to besides the person's own sound."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lipwright.contract import WINDOW_FUTURE, FloatArray
from lipwright.errors import LipwrightError
from lipwright.training.data import Frames, windows


@dataclass(frozen=True)
class Speech:
    """T frames of many utterances behind each other, in V versions (voices, rooms, noise)."""

    features: npt.NDArray[np.float16]
    """[V, T, 512]."""
    mouth: FloatArray
    """[T, K] mouth code, the same channels as the person's pack."""
    first: Frames
    """[T] first frame of the utterance a frame belongs to."""
    last: Frames
    """[T] its last frame."""

    @classmethod
    def load(cls, path: Path) -> Speech:
        """Read what ``tools/speech/pack_speech.py features`` wrote.

        Raises:
            LipwrightError: the file is something else.
        """
        try:
            with np.load(path) as data:
                return cls(data["features"], data["mouth"], data["first"], data["last"])
        except (OSError, ValueError, KeyError) as error:
            raise LipwrightError(f"{path} holds no speech features: {error}") from error


class SpeechSampler:
    """Draws windows with their mouth code; what a step gets depends on the seed and the step alone."""

    def __init__(self, speech: Speech, seed: int) -> None:
        self._speech = speech
        self._seed = seed

    def batch(self, step: int, count: int) -> tuple[Tensor, Tensor]:
        """Windows [count, 32, 16, 16] with random look-ahead, and mouth codes [count, K]."""
        speech = self._speech
        rng = np.random.default_rng((self._seed, step))
        frames = rng.integers(len(speech.mouth), size=count)
        future = np.where(rng.random(count) < 0.5, WINDOW_FUTURE, rng.integers(0, WINDOW_FUTURE + 1, count))
        version = speech.features[rng.integers(len(speech.features))]
        picked = windows(version, frames, future, speech.first[frames], speech.last[frames])
        return torch.from_numpy(picked), torch.from_numpy(speech.mouth[frames])
