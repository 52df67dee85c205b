"""Voice activity: does somebody speak in this video frame, or do the lips rest?

Levels of two bands are compared with a fixed gate (below it nothing counts as speech) and with an adaptive noise
floor (the minimum of the smoothed level over the last 1.5 s, as in R. Martin, "Noise power spectral density
estimation based on optimal smoothing and minimum statistics", 2001): speech falls back to the background between
words and inside them, a fan or a hum never does. The low band alone makes quiet vowels stand out of broad noise.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from lipwright.contract import SAMPLE_RATE, SAMPLES_PER_FRAME, FloatArray, frame_count

#: Frames the voice is held after its last sound: the closures of p, b and t and the gaps between words stay open.
HANGOVER_FRAMES = 6
#: Frames in which the gain goes from 0 to 1 and back.
FADE_FRAMES = 3
#: Frames heard after a frame before it is judged: 130 ms from its start, within the 132.5 ms its feature waits for.
FUTURE_FRAMES = 2

_BLOCK = 160
_SPAN = 2 * _BLOCK
_BLOCKS_PER_FRAME = SAMPLES_PER_FRAME // _BLOCK
_STEP_SAMPLES = SAMPLES_PER_FRAME + _SPAN - _BLOCK
_JUDGED_BLOCKS = (1 + FUTURE_FRAMES) * _BLOCKS_PER_FRAME
#: Blocks that must stand out of the noise: one alone may be a click.
_NEEDED_BLOCKS = 2

#: Lower edges and upper edges of the two bands in Hz. Mains hum and rumble lie below.
_BANDS = ((200, 1000), (1000, 7600))
#: Gate of each band, dBFS. White noise of -50 dBFS reaches -60 and -51, pink noise -56 and -54.
_GATE_DB = (-53.0, -46.0)
#: How far above the noise floor a block must be, dB.
_MARGIN_DB = 8.0
#: The floor never rises above this level: what is louder is meant to be heard, dBFS.
_FLOOR_CAP_DB = -30.0
#: The floor is the minimum over 1.5 s of the level smoothed over 50 ms; before 0.6 s are heard there is none.
_FLOOR_BLOCKS = 150
_SMOOTH_BLOCKS = 5
_WARM_BLOCKS = 60

Float64Array = npt.NDArray[np.float64]


def _power_of(decibel: tuple[float, ...] | float) -> Float64Array:
    return np.asarray(10 ** (np.asarray(decibel) / 10))


@cache
def _window() -> Float64Array:
    """Hann window of 20 ms, scaled so that summed bin powers are the mean square of the samples."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_SPAN) / _SPAN)
    return np.asarray(hann * np.sqrt(2 / (_SPAN * np.sum(hann**2))))


def _band_powers(samples: FloatArray) -> Float64Array:
    """Samples of one step [800] to the power of its 4 blocks in the two bands [4, 2]; 0 dBFS is 1."""
    blocks = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), _SPAN)[::_BLOCK]
    power = np.abs(np.fft.rfft(blocks * _window())) ** 2
    width = SAMPLE_RATE // _SPAN
    return np.stack([power[:, low // width : high // width].sum(axis=1) for low, high in _BANDS], axis=1)


class VoiceActivity:
    """Streams 16 kHz mono samples into one gain a video frame: 1 is voice, 0 is rest, between them it fades.

    The fade in is complete when the voice begins (the judgement knows the next 90 ms); the fade out begins
    ``HANGOVER_FRAMES`` after its end. A sound that begins in the middle of speech begins with gain 1. The gains do
    not depend on how the samples were cut into chunks, not in a single bit.
    """

    def __init__(self) -> None:
        self._samples = 0
        self._buffer = np.empty(0, np.float32)
        # Blocks that were not heard yet are infinitely loud, so that they are never the minimum.
        self._power = np.full((_FLOOR_BLOCKS + _SMOOTH_BLOCKS - 1, len(_BANDS)), np.inf)
        self._floor = np.zeros(len(_BANDS))
        self._steps = 0
        self._frames = 0
        self._held = -1
        self._fade = 0

    def push(self, samples: FloatArray) -> FloatArray:
        """[k] samples, -1..1, to the gains [m], 0..1, of the frames that can now be judged, in order."""
        self._samples += len(samples)
        return self._listen(samples, ended=False)

    def flush(self) -> FloatArray:
        """The gains [m], 0..1, of the remaining frames: ceil(samples / 640) in all; the last call."""
        missing = frame_count(self._samples) - self._frames
        nothing = np.zeros((missing + FUTURE_FRAMES + 1) * SAMPLES_PER_FRAME, np.float32)
        return self._listen(nothing, ended=True)[:missing]

    def _listen(self, samples: FloatArray, *, ended: bool) -> FloatArray:
        self._buffer = np.concatenate([self._buffer, samples])
        gains = []
        start = 0
        while len(self._buffer) - start >= _STEP_SAMPLES:
            powers = _band_powers(self._buffer[start : start + _STEP_SAMPLES])
            self._power = np.concatenate([self._power[_BLOCKS_PER_FRAME:], powers])
            self._steps += 1
            start += SAMPLES_PER_FRAME
            # The silence behind the end of the sound says nothing about its background.
            if not ended and self._steps * _BLOCKS_PER_FRAME >= _WARM_BLOCKS:
                self._floor = _floor(self._power)
            if self._steps > FUTURE_FRAMES:
                gains.append(self._judge())
        self._buffer = self._buffer[start:].copy()
        return np.array(gains, np.float32)

    def _judge(self) -> float:
        """The gain of the next frame."""
        self._held = HANGOVER_FRAMES if self._speaks() else self._held - 1
        step = 1 if self._held >= 0 else -1
        if not self._frames:
            step *= FADE_FRAMES
        self._fade = min(max(self._fade + step, 0), FADE_FRAMES)
        self._frames += 1
        return self._fade / FADE_FRAMES

    def _speaks(self) -> bool:
        """Whether the frame or what follows it stands out of the noise in either band."""
        limit = np.maximum(_power_of(_GATE_DB), _power_of(_MARGIN_DB) * self._floor)
        return bool(np.any(np.sum(self._power[-_JUDGED_BLOCKS:] > limit, axis=0) >= _NEEDED_BLOCKS))


def _floor(power: Float64Array) -> Float64Array:
    """Block powers [n, 2] to the power of the steady background in the two bands [2]."""
    smooth = np.lib.stride_tricks.sliding_window_view(power, _SMOOTH_BLOCKS, axis=0).mean(axis=2)
    return np.asarray(np.minimum(smooth.min(axis=0), _power_of(_FLOOR_CAP_DB)))
