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
from lipwright.training.pack import UNREADABLE, Pack


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
    frames: Frames | None = None
    """Those that may be drawn; None: all."""

    @classmethod
    def load(cls, path: Path) -> Speech:
        """Read what ``tools/speech/pack_speech.py features`` wrote.

        Raises:
            LipwrightError: the file is something else.
        """
        try:
            with np.load(path) as data:
                return cls(data["features"], data["mouth"], data["first"], data["last"])
        except UNREADABLE as error:
            raise LipwrightError(f"{path} holds no speech features: {error}") from error


def own_speech(pack: Pack) -> Speech:
    """The person's own sound and its changed copies, without the held-out time and without frames that show no face."""
    ends = np.zeros(len(pack.mouth), np.int64)
    return Speech(
        features=pack.features[: pack.trained_versions],
        mouth=pack.mouth,
        first=ends,
        last=ends + len(pack.mouth) - 1,
        frames=pack.training_frames(),
    )


class SpeechSampler:
    """Draws windows with their mouth code; what a step gets depends on the seed and the step alone."""

    def __init__(self, speech: Speech, seed: int) -> None:
        self._speech = speech
        self._seed = seed

    def batch(self, step: int, count: int) -> tuple[Tensor, Tensor]:
        """Windows [count, 32, 16, 16] with random look-ahead, and mouth codes [count, K]."""
        speech = self._speech
        rng = np.random.default_rng((self._seed, step))
        drawn = rng.integers(len(speech.mouth if speech.frames is None else speech.frames), size=count)
        frames = drawn if speech.frames is None else speech.frames[drawn]
        future = np.where(rng.random(count) < 0.5, WINDOW_FUTURE, rng.integers(0, WINDOW_FUTURE + 1, count))
        version = speech.features[rng.integers(len(speech.features))]
        picked = windows(version, frames, future, speech.first[frames], speech.last[frames])
        return torch.from_numpy(picked), torch.from_numpy(speech.mouth[frames])
