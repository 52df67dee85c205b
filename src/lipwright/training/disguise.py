"""The same speech in other rooms, microphones, voices and wires.

Every function takes and gives float32 [n] mono at 16 kHz, -1..1, of the same length and **with every sound in its old
place**, so that whatever was true of the mouth still is. Randomness comes from the generator that is handed in: the
same generator state gives the same bits.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import av
import numpy as np
import numpy.typing as npt

from lipwright.contract import SAMPLE_RATE, FloatArray
from lipwright.libav import to_frame
from lipwright.training.sounds import coloured_noise, hum, music

Codec = Literal["opus", "aac", "mp3"]


def _filtered(x: FloatArray, gain: npt.NDArray[np.floating] | float, size: int) -> FloatArray:
    """``x`` with a zero-phase frequency response: ``gain`` for the rfft of ``size`` points."""
    return np.asarray(np.fft.irfft(np.fft.rfft(x, size) * gain, size)[: len(x)], dtype=np.float32)


def _fast_size(samples: int) -> int:
    """The smallest 2**a * 3**b * 5**c that is even and not less: sizes that a Fourier transform likes."""
    best = 1 << max(samples - 1, 1).bit_length()
    five = 1
    while five < best:
        three = five
        while three < best:
            size = 2 * three
            while size < samples:
                size *= 2
            best = min(best, size)
            three *= 3
        five *= 5
    return best


def _convolved(x: FloatArray, response: FloatArray) -> FloatArray:
    """The whole linear convolution, len(x) + len(response) - 1 samples."""
    total = len(x) + len(response) - 1
    size = _fast_size(total)
    product = np.fft.rfft(x, size) * np.fft.rfft(response, size)
    return np.asarray(np.fft.irfft(product, size)[:total], dtype=np.float32)


def _frequencies(samples: int) -> tuple[npt.NDArray[np.float32], int]:
    """Frequencies of a padded transform of ``samples``, and its size."""
    size = _fast_size(samples + SAMPLE_RATE // 20)
    return np.fft.rfftfreq(size, 1 / SAMPLE_RATE).astype(np.float32), size


def speech_level(x: FloatArray) -> float:
    """Root mean square of the parts within 35 dB of the loudest 20 ms; 0 for silence."""
    blocks = x[: len(x) // 320 * 320].reshape(-1, 320)
    power = np.mean(blocks.astype(np.float64) ** 2, axis=1) if len(blocks) else np.array([float(np.mean(x**2))])
    loud = power > power.max() * 10**-3.5
    return float(np.sqrt(power[loud].mean())) if loud.any() else 0.0


# --- room and microphone ----------------------------------------------------------------------------------------------
def room_response(rng: np.random.Generator, seconds: float, direct_db: float) -> FloatArray:
    """Impulse response of a room: the direct sound at sample 0, a few reflections, and noise that dies away.

    Args:
        rng: Source of randomness.
        seconds: Time in which the reverberation falls by 60 dB, 0.1 .. 1.2.
        direct_db: Energy of the direct sound over that of the rest.
    """
    n = int(seconds * SAMPLE_RATE)
    t = np.arange(n) / SAMPLE_RATE
    tail = rng.standard_normal(n) * np.exp(-6.9 * t / seconds)
    tail[: int(rng.uniform(0.002, 0.01) * SAMPLE_RATE)] = 0
    for at in rng.uniform(0.002, 0.04, 6):
        tail[min(n - 1, int(at * SAMPLE_RATE))] += rng.choice([-1, 1]) * rng.uniform(2, 6)
    darkness = np.exp(-np.linspace(0, rng.uniform(0.5, 3), n // 2 + 1))  # rooms swallow high frequencies
    tail = np.fft.irfft(np.fft.rfft(tail) * darkness, n)
    tail *= 10 ** (-direct_db / 20) / (np.sqrt(np.sum(tail**2)) + 1e-12)
    tail[0] += 1.0
    return np.asarray(tail, dtype=np.float32)


def reverberate(x: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Put the speaker into a random room."""
    response = room_response(rng, float(rng.uniform(0.1, 0.9)), float(rng.uniform(-2, 15)))
    return _convolved(x, response)[: len(x)]


def microphone(x: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Random smooth frequency response, up to +-8 dB, with a low cut and sometimes a high cut."""
    f, size = _frequencies(len(x))
    knots = np.linspace(0, np.log2(8000 / 60), 8)
    octave = np.log2(np.maximum(f, 60) / 60)
    gain = 10 ** (np.interp(octave, knots, rng.uniform(-8, 8, 8)) / 20)
    low = rng.uniform(20, 180)
    gain *= 1 / np.sqrt(1 + (low / np.maximum(f, 1)) ** 4)
    if rng.random() < 0.4:
        gain *= 1 / np.sqrt(1 + (f / rng.uniform(3000, 7500)) ** 8)
    return _filtered(x, gain, size)


# --- other sounds -----------------------------------------------------------------------------------------------------
def mix(x: FloatArray, other: FloatArray, snr_db: float) -> FloatArray:
    """Add ``other`` (same length) so that the speech in ``x`` is ``snr_db`` louder; silent ``x`` counts as -26 dB."""
    level = speech_level(x) or 0.05
    noise = float(np.sqrt(np.mean(other.astype(np.float64) ** 2))) + 1e-9
    return np.asarray(x + other * np.float32(level / noise * 10 ** (-snr_db / 20)), dtype=np.float32)


def babble(rng: np.random.Generator, others: Sequence[FloatArray], samples: int) -> FloatArray:
    """3 to 8 other speakers talking at once, ``samples`` long."""
    out = np.zeros(samples, np.float32)
    for _ in range(int(rng.integers(3, 9))):
        voice = others[int(rng.integers(len(others)))]
        level = speech_level(voice)
        if level > 0:
            start = int(rng.integers(len(voice)))
            out += np.resize(np.roll(voice, -start), samples) * np.float32(rng.uniform(0.4, 1) / level)
    return out


def add_noise(x: FloatArray, rng: np.random.Generator, others: Sequence[FloatArray] = ()) -> FloatArray:
    """Add noise, hum, music or, if there are ``others``, babble at 0 .. 30 dB."""
    snr = float(rng.uniform(0, 30))
    kind = int(rng.integers(5 if len(others) else 3))
    if kind == 0:
        return mix(x, music(rng, len(x)), snr)
    if kind == 1:
        return mix(x, hum(rng, len(x)), snr)
    if kind == 2:
        return mix(x, coloured_noise(rng, len(x)), snr)
    return mix(x, babble(rng, others, len(x)), snr)


# --- level ------------------------------------------------------------------------------------------------------------
def gain(x: FloatArray, decibel: float) -> FloatArray:
    """Change the level; what exceeds full scale is clipped."""
    return np.asarray(np.clip(x * np.float32(10 ** (decibel / 20)), -1, 1), dtype=np.float32)


def clip(x: FloatArray, decibel: float) -> FloatArray:
    """Overdrive by ``decibel`` above full scale and come back: clipped speech at its old level."""
    peak = float(np.abs(x).max(initial=1e-9))
    limit = np.float32(peak * 10 ** (-decibel / 20))
    return np.clip(x, -limit, limit)


# --- wires ------------------------------------------------------------------------------------------------------------
def telephone(x: FloatArray) -> FloatArray:
    """300 .. 3400 Hz at 8 kHz, 8 bits by the mu-law (ITU-T G.711's curve)."""
    f, size = _frequencies(len(x))
    band = 1 / np.sqrt(1 + (300 / np.maximum(f, 1)) ** 8) / np.sqrt(1 + (f / 3400) ** 24)
    narrow = np.clip(_resampled(_filtered(x, band, size), SAMPLE_RATE // 2), -1, 1)
    mu = 255.0
    code = np.round(np.sign(narrow) * np.log1p(mu * np.abs(narrow)) / np.log1p(mu) * 127) / 127
    decoded = np.sign(code) * np.expm1(np.abs(code) * np.log1p(mu)) / mu
    return _fitted(_resampled(decoded.astype(np.float32), SAMPLE_RATE, SAMPLE_RATE // 2), len(x))


_ENCODERS: dict[Codec, tuple[str, str]] = {
    "opus": ("libopus", "ogg"),
    "aac": ("aac", "mp4"),
    "mp3": ("libmp3lame", "mp3"),
}
#: Bits a second of each codec: poor to good, for 16 kHz mono.
BIT_RATES: dict[Codec, tuple[int, ...]] = {
    "opus": (6_000, 9_000, 12_000, 16_000, 24_000),
    "aac": (12_000, 16_000, 24_000, 32_000),
    "mp3": (8_000, 16_000, 24_000, 32_000),
}


def _encode(x: FloatArray, codec: Codec, bit_rate: int) -> bytes:
    name, container = _ENCODERS[codec]
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as out:
        stream = out.add_stream(name, rate=SAMPLE_RATE, layout="mono")
        assert isinstance(stream, av.AudioStream)
        stream.bit_rate = bit_rate
        pcm = np.round(np.clip(x, -1, 1) * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts = SAMPLE_RATE, 0
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            out.mux(packet)
    return buffer.getvalue()


def _decode(data: bytes) -> FloatArray:
    resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
    pieces = []
    with av.open(io.BytesIO(data), "r") as file:
        for frame in file.decode(audio=0):
            pieces += [f.to_ndarray()[0] for f in resampler.resample(frame)]
    pieces += [f.to_ndarray()[0] for f in resampler.resample(None)]
    return np.concatenate(pieces).astype(np.float32)


@lru_cache(maxsize=32)
def codec_delay(codec: Codec, bit_rate: int) -> int:
    """Samples by which a round trip delays the sound, measured with a second of modulated noise."""
    rng = np.random.default_rng(0)
    f, size = _frequencies(SAMPLE_RATE)
    noise = _filtered(rng.standard_normal(SAMPLE_RATE).astype(np.float32), 1 / (1 + (f / 1500) ** 4), size)
    x = noise * np.repeat(rng.uniform(0, 0.4, 40), SAMPLE_RATE // 40).astype(np.float32)
    y = _decode(_encode(x, codec, bit_rate))
    correlation = _convolved(y, x[::-1])
    return int(np.argmax(correlation)) - (len(x) - 1)


def through_codec(x: FloatArray, codec: Codec, bit_rate: int) -> FloatArray:
    """Encode and decode, with the measured delay taken out."""
    delay = codec_delay(codec, bit_rate)
    y = _decode(_encode(x, codec, bit_rate))
    return _fitted(y[delay:] if delay >= 0 else np.concatenate([np.zeros(-delay, np.float32), y]), len(x))


# --- other voices -----------------------------------------------------------------------------------------------------
_WINDOW, _HOP = 512, 128
#: Cepstral coefficients that describe the vocal tract; the rest is the voice's pitch.
_ENVELOPE_ORDER = 40


def _frames(x: FloatArray) -> npt.NDArray[np.complex64]:
    padded = np.pad(x, (_WINDOW, _WINDOW + _HOP))
    view = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP]
    return np.asarray(np.fft.rfft(view * _hann(), axis=1), dtype=np.complex64)


@lru_cache(maxsize=1)
def _hann() -> FloatArray:
    n = np.arange(_WINDOW)
    return np.asarray(0.5 - 0.5 * np.cos(2 * np.pi * n / _WINDOW), dtype=np.float32)


def _overlap_add(spectra: npt.NDArray[np.complex64], samples: int) -> FloatArray:
    frames = np.fft.irfft(spectra, _WINDOW, axis=1).astype(np.float32) * _hann()
    parts = _WINDOW // _HOP
    out = np.zeros((len(frames) + parts - 1, _HOP), np.float32)
    for k in range(parts):
        out[k : k + len(frames)] += frames[:, k * _HOP : (k + 1) * _HOP]
    return out.reshape(-1)[_WINDOW : _WINDOW + samples] / 1.5  # the squared Hann window sums to 1.5 at a quarter hop


def change_tract(x: FloatArray, factor: float) -> FloatArray:
    """Move the formants by ``factor`` (0.8 .. 1.25; above 1 a shorter vocal tract) and keep pitch and time.

    Each short spectrum is multiplied by the ratio of its warped and its own cepstral envelope: no phase changes.
    """
    spectra = _frames(x)
    log_magnitude = np.log(np.abs(spectra) + np.float32(1e-6))
    cepstrum = np.fft.irfft(log_magnitude, _WINDOW, axis=1)
    cepstrum[:, _ENVELOPE_ORDER : _WINDOW - _ENVELOPE_ORDER] = 0
    envelope = np.fft.rfft(cepstrum, axis=1).real
    bins = envelope.shape[1]
    source = np.clip(np.arange(bins) / factor, 0, bins - 1)
    low = np.minimum(source.astype(int), bins - 2)
    part = (source - low).astype(np.float32)
    warped = envelope[:, low] * (1 - part) + envelope[:, low + 1] * part
    spectra *= np.exp(np.clip(warped - envelope, -6, 6))
    return _overlap_add(spectra, len(x))


def stretch(x: FloatArray, samples: int) -> FloatArray:
    """Change the duration to ``samples`` and keep the pitch: WSOLA (Verhelst & Roelands 1993).

    A sound at ``t`` moves to ``t * samples / len(x)`` within the search range of 8 ms.
    """
    size, search = SAMPLE_RATE // 25, SAMPLE_RATE // 125
    hop = size // 2
    window = np.hanning(size + 1)[:size].astype(np.float32)
    source = np.pad(x, (size + search, 2 * size + 2 * search))
    count = samples // hop + 2
    out = np.zeros((count + 2) * hop, np.float32)
    ratio = len(x) / max(samples, 1)
    natural = source[search : search + size]
    for k in range(count):
        # Frame k is centred on output sample k * hop; `source` starts size + search before x.
        nominal = min(round(k * hop * ratio) - size // 2 + size + search, len(source) - size - search - hop)
        region = source[nominal - search : nominal + size + search]
        best = 0 if k == 0 else int(np.argmax(np.correlate(region, natural, "valid")))
        start = nominal - search + (search if k == 0 else best)
        out[k * hop : k * hop + size] += source[start : start + size] * window
        natural = source[start + hop : start + hop + size]
    return out[hop : hop + samples]


def _resampled(x: FloatArray, rate: int, from_rate: int = SAMPLE_RATE) -> FloatArray:
    """``x`` at another rate, by FFmpeg's resampler: ceil(len(x) * rate / from_rate) samples."""
    converter = av.AudioResampler(format="fltp", layout="mono", rate=rate)
    # Some silence behind the end comes out where the resampler would stop half a filter early.
    padded = np.concatenate([x, np.zeros(from_rate // 50, np.float32)])
    frame = to_frame(padded[:, None], from_rate)
    frame.pts = 0
    pieces = [piece.to_ndarray()[0] for piece in [*converter.resample(frame), *converter.resample(None)]]
    return _fitted(np.concatenate(pieces), -(-len(x) * rate // from_rate))


def _fitted(x: FloatArray, samples: int) -> FloatArray:
    """Cut, or filled up with silence, to so many samples."""
    out = np.zeros(samples, np.float32)
    out[: min(samples, len(x))] = x[:samples]
    return out


def _faster(x: FloatArray, factor: float) -> tuple[FloatArray, float]:
    """``x`` played ``factor`` times as fast, pitch and formants higher, and the exact factor."""
    rate = round(SAMPLE_RATE / factor)
    return _resampled(x, rate), SAMPLE_RATE / rate


def change_pitch(x: FloatArray, factor: float, keep_tract: bool = True) -> FloatArray:
    """Raise the pitch by ``factor`` (0.7 .. 1.4) and keep time; formants stay, or follow as on a faster tape."""
    tape, exact = _faster(x, factor)
    y = stretch(tape, len(x))
    return change_tract(y, 1 / exact) if keep_tract else y


# --- all of it --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Chances:
    """How often each change is made, 0 .. 1."""

    voice: float = 0.5
    reverb: float = 0.4
    microphone: float = 0.6
    noise: float = 0.6
    clip: float = 0.08
    codec: float = 0.15
    telephone: float = 0.08


def _other_voice(x: FloatArray, rng: np.random.Generator) -> FloatArray:
    if rng.random() < 0.5:
        return change_tract(x, float(np.exp(rng.uniform(np.log(0.83), np.log(1.2)))))
    return change_pitch(x, float(np.exp(rng.uniform(np.log(0.75), np.log(1.35)))), keep_tract=bool(rng.random() < 0.5))


def disguise(
    x: FloatArray, rng: np.random.Generator, others: Sequence[FloatArray] = (), chances: Chances | None = None
) -> FloatArray:
    """The same words at the same time by another voice in another place: a random chain in the order of nature.

    ``others`` are other utterances, for babble. The level ends between -30 and +6 dB of where it was.
    """
    c = chances or Chances()
    drawn = rng.random(7)
    if drawn[0] < c.voice:
        x = _other_voice(x, rng)
    if drawn[1] < c.reverb:
        x = reverberate(x, rng)
    if drawn[2] < c.noise:
        x = add_noise(x, rng, others)
    if drawn[3] < c.microphone:
        x = microphone(x, rng)
    x = mix(x, coloured_noise(rng, len(x), 0.5), float(rng.uniform(35, 70)))  # no real silence is digital
    if drawn[4] < c.clip:
        x = clip(x, float(rng.uniform(3, 20)))
    if drawn[5] < c.codec:
        codec: Codec = ("opus", "aac", "mp3")[int(rng.integers(3))]
        x = through_codec(x, codec, int(rng.choice(BIT_RATES[codec])))
    elif drawn[5] < c.codec + c.telephone:
        x = telephone(x)
    return gain(x, float(rng.uniform(-30, 6)))
