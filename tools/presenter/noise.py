"""Smooth randomness: value noise in space, and drifts that never repeat in time."""

from __future__ import annotations

import numpy as np

from lipwright.contract import FPS, FloatArray

_LATTICE = 32


class Noise:
    """Value noise on a periodic lattice, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._values = np.random.default_rng(seed).random((_LATTICE,) * 3).astype(np.float32)

    def at(self, points: FloatArray, frequency: float) -> FloatArray:
        """[..., 3] -> [...] 0..1; features are about 1 / frequency wide."""
        q = np.asarray(points, np.float32) * frequency
        cell = np.floor(q).astype(np.int64)
        f = q - cell
        f = f * f * (3 - 2 * f)
        total = np.zeros(q.shape[:-1], np.float32)
        for corner in np.ndindex(2, 2, 2):
            weight = np.prod(np.where(corner, f, 1 - f), axis=-1)
            i, j, k = np.moveaxis((cell + corner) % _LATTICE, -1, 0)
            total += weight * self._values[i, j, k]
        return total

    def fractal(self, points: FloatArray, frequency: float, octaves: int) -> FloatArray:
        """Sum of octaves, each of twice the frequency and half the height, scaled back to 0..1."""
        heights = 0.5 ** np.arange(octaves)
        layers = [h * self.at(points + 7.3 * k, frequency * 2**k) for k, h in enumerate(heights)]
        return np.asarray(sum(layers) / heights.sum(), dtype=np.float32)

    def vectors(self, points: FloatArray, frequency: float) -> FloatArray:
        """[..., 3] -> [..., 3] each component -0.5..0.5."""
        return np.stack([self.at(points + 17.0 * k, frequency) - 0.5 for k in range(3)], axis=-1)


def drift(rng: np.random.Generator, frames: int, low: float, high: float) -> FloatArray:
    """[frames] random motion of variance 1 with frequencies from ``low`` to ``high`` Hz only.

    Filtered noise, not a sum of a few waves: no eye finds a loop in it. The series drawn is twice as long as needed,
    because the filter joins its end to its start.
    """
    count = max(2 * frames, 64 * FPS)
    spectrum = np.fft.rfft(rng.standard_normal(count))
    frequency = np.fft.rfftfreq(count, 1 / FPS)
    spectrum *= np.exp(-((frequency / high) ** 4)) * (1 - np.exp(-((frequency / low) ** 4)))
    series = np.fft.irfft(spectrum, count)
    return np.asarray(series[:frames] / series.std(), dtype=np.float32)
