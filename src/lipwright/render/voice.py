"""The sound side of a frame: what is heard around it, and the 40 ms that are played with it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lipwright.audio.activity import VoiceActivity
from lipwright.audio.decode import ToNetwork
from lipwright.audio.mel import MelStream
from lipwright.audio.window import FeatureWindow, Padding
from lipwright.contract import (
    AUDIO_SHAPE,
    FEATURE_DIM,
    FPS,
    SAMPLE_RATE,
    WINDOW_FUTURE,
    WINDOW_SIZE,
    Alignment,
    FloatArray,
)
from lipwright.errors import ContractError
from lipwright.libav import check_samples
from lipwright.render.networks import Networks


@dataclass(frozen=True, slots=True)
class Moment:
    """One frame of time, heard but not yet seen."""

    index: int
    """0-based frame number."""
    window: FloatArray
    """[32, 16, 16] the features around it."""
    samples: FloatArray
    """[n, channels] its own 40 ms at the user's rate, -1..1; less in the last frame."""


class Voice:
    """Streams the user's sound into moments; how it was cut into chunks changes no bit of them.

    Where nobody speaks the feature fades to the rest feature, the encoder's answer to digital silence: a network
    asked about room noise would move the lips.

    Args:
        rate: samples a second of the user's sound; a multiple of 25.
        channels: 1 or 2.
        networks: whose encoder listens.
        alignment: which mel columns the encoder reads for a frame.
        padding: what the generator saw beyond the ends of the sound.
        lookahead: future features awaited, 0..7.

    Raises:
        ContractError: a rate that does not divide into frames, or a look-ahead outside 0..7.
    """

    def __init__(
        self,
        rate: int,
        channels: int,
        networks: Networks,
        alignment: Alignment,
        padding: Padding = "edge",
        lookahead: int = WINDOW_FUTURE,
    ) -> None:
        if rate <= 0 or rate % FPS:
            raise ContractError(f"{rate} Hz does not divide into {FPS} frames a second: resample the sound to 48000 Hz")
        self._samples_per_frame = rate // FPS
        self._channels = channels
        self._networks = networks
        self._rest = networks.hear(_silence(alignment))
        self._to_network = ToNetwork(rate, channels)
        self._mel = MelStream(alignment)
        self._activity = VoiceActivity()
        self._window = FeatureWindow(padding, lookahead)
        self._slices: deque[FloatArray] = deque()
        self._gains: deque[float] = deque()
        self._own = np.empty((0, channels), np.float32)
        self._index = 0
        self._ended = False

    @property
    def rest(self) -> FloatArray:
        """[32, 16, 16] the window of lips at rest: the rest feature in every place."""
        return np.tile(self._rest, (WINDOW_SIZE, 1)).reshape(AUDIO_SHAPE)

    def push(self, samples: FloatArray) -> list[Moment]:
        """[n, channels] float32, -1..1, to the moments that are now complete, in order.

        Raises:
            ContractError: another shape or type, or values that are not finite; nothing was consumed then.
        """
        self._check(samples)
        self._own = np.concatenate([self._own, samples])
        self._listen(self._to_network.push(samples))
        return list(self._moments(self._window.push(self._features())))

    def flush(self) -> list[Moment]:
        """The remaining moments: ceil(seconds * 25) in all. Nothing may be pushed afterwards."""
        self._ended = True
        self._listen(self._to_network.flush())
        self._slices.extend(self._mel.flush())
        self._gains.extend(self._activity.flush().tolist())
        windows = [self._window.push(self._features()), self._window.flush()]
        return list(self._moments(np.concatenate(windows)))

    def _listen(self, heard: FloatArray) -> None:
        """[k] samples at 16 kHz mono: mel slices and voice gains line up, each in its own time."""
        self._slices.extend(self._mel.push(heard))
        self._gains.extend(self._activity.push(heard).tolist())

    def _features(self) -> FloatArray:
        """[m, 512] of the frames whose slice and gain are both there."""
        ready = min(len(self._slices), len(self._gains))
        features = [self._feature(self._slices.popleft(), self._gains.popleft()) for _ in range(ready)]
        return np.stack(features) if features else np.empty((0, FEATURE_DIM), np.float32)

    def _feature(self, mel: FloatArray, gain: float) -> FloatArray:
        if gain == 0:
            return self._rest
        voiced: FloatArray = np.float32(gain) * self._networks.hear(mel) + np.float32(1 - gain) * self._rest
        return voiced

    def _moments(self, windows: FloatArray) -> Iterator[Moment]:
        for window in windows:
            samples, self._own = np.split(self._own, [self._samples_per_frame])
            yield Moment(self._index, window, samples.copy())
            self._index += 1

    def _check(self, samples: FloatArray) -> None:
        if self._ended:
            raise ContractError("this sound has ended with flush: the next one needs a new Renderer")
        check_samples(samples, self._channels)
        if not np.isfinite(samples).all():
            raise ContractError("the sound holds values that are not numbers (NaN or infinity): replace them by zeros")


def _silence(alignment: Alignment) -> FloatArray:
    """The mel slice [1, 80, 16] of digital silence."""
    last: FloatArray = MelStream(alignment).push(np.zeros(SAMPLE_RATE, np.float32))[-1]
    return last
