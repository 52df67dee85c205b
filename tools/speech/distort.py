"""A changed copy of an utterance with the same timing: another vocal tract, room, microphone, noise, level.

float32 [n] in -1..1 at 16 kHz mono, in and out, of the same length. Every step keeps the time of every phone, so the
mouth's truth stays true.
"""

from __future__ import annotations

import numpy as np
from scipy.signal import butter, fftconvolve, istft, sosfilt, stft

from lipwright.contract import SAMPLE_RATE, FloatArray

from .sounds import coloured_noise, hum, music

_FFT, _HOP = 512, 128


def vocal_tract(samples: FloatArray, factor: float) -> FloatArray:
    """Formants and pitch multiplied by ``factor`` (0.8..1.25) by warping the short-time spectrum along frequency.

    Vocal tract length perturbation (Jaitly and Hinton 2013), done on the sound itself.
    """
    spectrum = stft(samples, SAMPLE_RATE, nperseg=_FFT, noverlap=_FFT - _HOP)[2]
    bins = np.arange(len(spectrum))
    source = np.clip(bins / factor, 0, len(bins) - 1)
    low = np.floor(source).astype(int)
    high, part = np.minimum(low + 1, len(bins) - 1), (source - low)[:, None]
    magnitude = np.abs(spectrum)
    warped = (1 - part) * magnitude[low] + part * magnitude[high]
    turned = istft(warped * np.exp(1j * np.angle(spectrum)), SAMPLE_RATE, nperseg=_FFT, noverlap=_FFT - _HOP)[1]
    return _fit(turned, len(samples))


def room(rng: np.random.Generator, samples: FloatArray) -> FloatArray:
    """Reverberation: the direct sound first, then noise that decays by 60 dB in 0.1 to 0.8 s."""
    seconds = float(rng.uniform(0.1, 0.8))
    t = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    response = rng.standard_normal(len(t)) * 10 ** (-3 * t / seconds)
    response *= rng.uniform(0.15, 0.7) / np.sqrt(np.square(response).sum())
    response[0] = 1
    return _fit(fftconvolve(samples, response), len(samples))


def microphone(rng: np.random.Generator, samples: FloatArray) -> FloatArray:
    """A smooth random frequency response of +-9 dB."""
    spectrum = np.fft.rfft(samples)
    knots = rng.uniform(-9, 9, 7)
    octave = np.linspace(0, 1, len(spectrum)) ** 0.5
    decibel = np.interp(octave, np.linspace(0, 1, len(knots)), knots)
    return _fit(np.fft.irfft(spectrum * 10 ** (decibel / 20), len(samples)), len(samples))


def telephone(rng: np.random.Generator, samples: FloatArray) -> FloatArray:
    """300-3400 Hz, give or take, through 8-bit mu-law."""
    band = [float(rng.uniform(200, 350)), float(rng.uniform(3000, 3800))]
    heard = sosfilt(butter(4, band, "bandpass", fs=SAMPLE_RATE, output="sos"), samples)
    peak = np.abs(heard).max() + 1e-6
    code = np.sign(heard) * np.log1p(255 * np.abs(heard) / peak) / np.log(256)
    code = np.round(code * 127) / 127
    return _fit(np.sign(code) * (256 ** np.abs(code) - 1) / 255 * peak, len(samples))


def noise(rng: np.random.Generator, samples: FloatArray) -> FloatArray:
    """Coloured noise, hum or music at 0 to 30 dB below the speech."""
    kind = rng.choice(3, p=[0.7, 0.1, 0.2])
    other = (coloured_noise, hum, music)[kind](rng, len(samples)).astype(np.float64)
    speech = np.sqrt(np.mean(np.square(samples[np.abs(samples) > 1e-3]))) if (np.abs(samples) > 1e-3).any() else 0.01
    wanted = speech * 10 ** (-rng.uniform(0, 30) / 20)
    return _fit(samples + other * (wanted / (np.sqrt(np.mean(np.square(other))) + 1e-9)), len(samples))


def distort(rng: np.random.Generator, samples: FloatArray) -> FloatArray:
    """A random chain of the above, then a level of -24..+6 dB with clipping at full scale."""
    if rng.random() < 0.75:
        samples = vocal_tract(samples, float(np.exp(rng.uniform(np.log(0.82), np.log(1.25)))))
    if rng.random() < 0.5:
        samples = room(rng, samples)
    if rng.random() < 0.6:
        samples = microphone(rng, samples)
    if rng.random() < 0.65:
        samples = noise(rng, samples)
    if rng.random() < 0.12:
        samples = telephone(rng, samples)
    gain = 10 ** (rng.uniform(-24, 6) / 20)
    return _fit(np.clip(samples * gain, -1, 1), len(samples))


def _fit(samples: np.typing.NDArray[np.floating], length: int) -> FloatArray:
    """float32 of exactly ``length``."""
    fitted = np.zeros(length, np.float32)
    count = min(length, len(samples))
    fitted[:count] = samples[:count]
    return fitted
