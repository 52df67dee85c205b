"""Sounds that voices are heard through: coloured noise, hum and simple music. float32 -1..1 at 16 kHz mono."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lipwright.contract import SAMPLE_RATE, FloatArray


def unit(x: npt.NDArray[np.float64]) -> FloatArray:
    """Scaled to a root mean square of 0.1 and at most full scale."""
    rms = float(np.sqrt(np.mean(x**2))) + 1e-12
    return np.clip(x * (0.1 / rms), -1, 1).astype(np.float32)


def coloured_noise(rng: np.random.Generator, samples: int, slope: float | None = None) -> FloatArray:
    """Gaussian noise whose power falls with f**slope; 0 white, 1 pink, 2 brown; drawn from -0.5 .. 2 if not given."""
    slope = float(rng.uniform(-0.5, 2)) if slope is None else slope
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    f = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE)
    spectrum *= np.maximum(f, 30.0) ** (-slope / 2)
    return unit(np.fft.irfft(spectrum, samples))


def hum(rng: np.random.Generator, samples: int) -> FloatArray:
    """Mains hum with harmonics over a little noise."""
    t = np.arange(samples) / SAMPLE_RATE
    base = float(rng.choice([50.0, 60.0, 100.0]))
    x = sum(rng.uniform(0, 1) / k * np.sin(2 * np.pi * (base * k * t + rng.random())) for k in range(1, 12))
    return unit(np.asarray(x) + 0.05 * rng.standard_normal(samples))


def _note(rng: np.random.Generator, frequency: float, length: int) -> npt.NDArray[np.float64]:
    t = np.arange(length) / SAMPLE_RATE
    partials = min(10, int(7000 / frequency))
    roll = rng.uniform(0.8, 2)
    x = np.zeros(length)
    for k in range(1, partials + 1):
        x += np.sin(2 * np.pi * (frequency * k * t + rng.random())) / k**roll
    attack = np.clip(t / rng.uniform(0.005, 0.08), 0, 1)
    return np.asarray(x * attack * np.exp(-t * rng.uniform(0.3, 6)) * np.clip((length - np.arange(length)) / 400, 0, 1))


def music(rng: np.random.Generator, samples: int) -> FloatArray:
    """Chords and melody of plucked or held harmonic tones, sometimes with a beat of noise."""
    x = np.zeros(samples)
    beat = int(rng.uniform(0.2, 0.6) * SAMPLE_RATE)
    root = float(rng.uniform(80, 260))
    scale = np.array([0, 2, 4, 5, 7, 9, 11, 12, 14, 16, 19, 24])
    drums = rng.random() < 0.5
    for at in range(0, samples, beat):
        for _ in range(int(rng.integers(1, 4))):
            length = min(int(beat * rng.uniform(1, 4)), samples - at)
            x[at : at + length] += _note(rng, root * 2 ** (float(rng.choice(scale)) / 12), length)
        if drums:
            length = min(int(0.08 * SAMPLE_RATE), samples - at)
            x[at : at + length] += rng.standard_normal(length) * np.exp(-np.arange(length) / 200)
    return unit(x)
