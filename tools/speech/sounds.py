"""Sounds that are not speech: breath, clicks, silence, and the noise, hum and music of `lipwright.training.sounds`.

float32 -1..1 at 16 kHz mono.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.signal import butter, sosfilt

from lipwright.contract import SAMPLE_RATE, FloatArray
from lipwright.training.sounds import coloured_noise, hum, music, unit


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
    return unit(noise * envelope)


def clicks(rng: np.random.Generator, samples: int) -> FloatArray:
    """Typing, knocks and the like: short decaying bursts."""
    x = 0.003 * rng.standard_normal(samples)
    for _ in range(max(1, int(samples / SAMPLE_RATE * rng.uniform(0.5, 5)))):
        at, length = int(rng.integers(samples)), int(rng.uniform(0.003, 0.06) * SAMPLE_RATE)
        burst = rng.standard_normal(length) * np.exp(-np.arange(length) / (length / 5)) * rng.uniform(0.2, 1)
        end = min(samples, at + length)
        x[at:end] += burst[: end - at]
    return unit(x)


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
