"""Sounds that are not speech: coloured noise, breath, hum, clicks and simple music. float32 -1..1 at 16 kHz mono."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.signal import butter, sosfilt

from lipwright.contract import SAMPLE_RATE

FloatArray = npt.NDArray[np.float32]


def _unit(x: npt.NDArray[np.float64]) -> FloatArray:
    """Scaled to a root mean square of 0.1 and at most full scale."""
    rms = float(np.sqrt(np.mean(x**2))) + 1e-12
    return np.clip(x * (0.1 / rms), -1, 1).astype(np.float32)


def coloured_noise(rng: np.random.Generator, samples: int, slope: float | None = None) -> FloatArray:
    """Gaussian noise whose power falls with f**slope; 0 white, 1 pink, 2 brown; drawn from -0.5 .. 2 if not given."""
    slope = float(rng.uniform(-0.5, 2)) if slope is None else slope
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    f = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE)
    spectrum *= np.maximum(f, 30.0) ** (-slope / 2)
    return _unit(np.fft.irfft(spectrum, samples))


def breath(rng: np.random.Generator, samples: int) -> FloatArray:
    """Bandpassed noise that swells and fades, every 1 to 4 s."""
    low = float(rng.uniform(300, 900))
    sos = butter(2, [low, low * float(rng.uniform(3, 8))], "bandpass", fs=SAMPLE_RATE, output="sos")
    noise = sosfilt(sos, rng.standard_normal(samples))
    envelope = np.full(samples, 0.02)
    at = int(rng.uniform(0, 0.5) * SAMPLE_RATE)
    while at < samples:
        length = min(int(rng.uniform(0.2, 0.9) * SAMPLE_RATE), samples - at)
        envelope[at : at + length] += np.hanning(length) * rng.uniform(0.4, 1)
        at += length + int(rng.uniform(0.8, 3) * SAMPLE_RATE)
    return _unit(noise * envelope)


def hum(rng: np.random.Generator, samples: int) -> FloatArray:
    """Mains hum with harmonics over a little noise."""
    t = np.arange(samples) / SAMPLE_RATE
    base = float(rng.choice([50.0, 60.0, 100.0]))
    x = sum(rng.uniform(0, 1) / k * np.sin(2 * np.pi * (base * k * t + rng.random())) for k in range(1, 12))
    return _unit(np.asarray(x) + 0.05 * rng.standard_normal(samples))


def clicks(rng: np.random.Generator, samples: int) -> FloatArray:
    """Typing, knocks and the like: short decaying bursts."""
    x = 0.003 * rng.standard_normal(samples)
    for _ in range(max(1, int(samples / SAMPLE_RATE * rng.uniform(0.5, 5)))):
        at, length = int(rng.integers(samples)), int(rng.uniform(0.003, 0.06) * SAMPLE_RATE)
        burst = rng.standard_normal(length) * np.exp(-np.arange(length) / (length / 5)) * rng.uniform(0.2, 1)
        end = min(samples, at + length)
        x[at:end] += burst[: end - at]
    return _unit(x)


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
    return _unit(x)


def silence(rng: np.random.Generator, samples: int) -> FloatArray:
    """Nothing, or the faint noise of a microphone in a quiet room."""
    level = 0.0 if rng.random() < 0.3 else 10 ** rng.uniform(-4.5, -2.5)
    return (level * rng.standard_normal(samples)).astype(np.float32)


#: Kind -> maker; every one counts as rest.
REST_SOUNDS: dict[str, Callable[[np.random.Generator, int], FloatArray]] = {
    "silence": silence,
    "noise": coloured_noise,
    "breath": breath,
    "hum": hum,
    "clicks": clicks,
    "music": music,
}
