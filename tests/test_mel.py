"""The mel spectrogram equals the family's, and streaming changes no bit of it."""

from pathlib import Path

import librosa
import numpy as np
import pytest

from lipwright.audio.mel import MelStream, mel_filters, mel_spectrogram
from lipwright.contract import AVE, CENTRED, MEL_WINDOW, SAMPLE_RATE, Alignment, FloatArray, frame_count

BOTH = pytest.mark.parametrize("alignment", [CENTRED, AVE], ids=lambda a: a.name)


def sweep(seconds: float, seed: int = 3) -> FloatArray:
    """A chirp over noise: every band has something to say."""
    t = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    noise = np.random.default_rng(seed).standard_normal(len(t)) * 0.02
    return (0.5 * np.sin(2 * np.pi * (100 + 500 * t) * t) + noise).astype(np.float32)


def stream(samples: FloatArray, chunk: int, alignment: Alignment) -> FloatArray:
    source = MelStream(alignment)
    parts = [source.push(samples[i : i + chunk]) for i in range(0, len(samples), chunk)]
    return np.concatenate([*parts, source.flush()])


def family_mel(samples: FloatArray) -> FloatArray:
    """The recipe as the family writes it, by librosa."""
    emphasised = np.append(samples[:1], samples[1:] - 0.97 * samples[:-1])
    spectrum = np.abs(librosa.stft(emphasised, n_fft=800, hop_length=200, win_length=800))
    bands = librosa.filters.mel(sr=16_000, n_fft=800, n_mels=80, fmin=55, fmax=7600) @ spectrum
    decibel = 20 * np.log10(np.maximum(1e-5, bands)) - 20
    return np.asarray(np.clip(8 * ((decibel + 100) / 100) - 4, -4, 4), dtype=np.float32)


def test_filters_are_slaneys() -> None:
    theirs = librosa.filters.mel(sr=16_000, n_fft=800, n_mels=80, fmin=55, fmax=7600, dtype=np.float64)
    np.testing.assert_allclose(mel_filters(), theirs, atol=1e-8)


def test_equals_the_family_by_librosa() -> None:
    samples = sweep(3.01)
    np.testing.assert_allclose(mel_spectrogram(samples), family_mel(samples), atol=1e-4)


def test_equals_the_golden_values(dev_data: Path, golden: Path) -> None:
    values = np.load(golden / "family.npz")
    samples, _ = librosa.load(dev_data / "speech" / "librispeech_2609-156975-0007.flac", sr=None)
    mel = mel_spectrogram(samples)
    assert mel.shape == tuple(values["speech_mel_shape"])
    np.testing.assert_allclose(mel[:, :400], values["speech_mel"], atol=1e-4)


@BOTH
@pytest.mark.parametrize("chunk", [1, 160, 640, 5000])
def test_chunks_change_no_bit(alignment: Alignment, chunk: int) -> None:
    samples = sweep(1.3)
    np.testing.assert_array_equal(stream(samples, chunk, alignment), stream(samples, len(samples), alignment))


@BOTH
@pytest.mark.parametrize("samples", [1, 100, 639, 640, 641, 2000, 3300, 16_001])
def test_every_started_frame_gets_a_slice(alignment: Alignment, samples: int) -> None:
    assert len(stream(sweep(1.1)[:samples], 700, alignment)) == frame_count(samples)


@BOTH
def test_no_sound_no_slice(alignment: Alignment) -> None:
    assert MelStream(alignment).flush().shape == (0, 1, 80, 16)


def test_our_slices_are_centred_on_their_frame() -> None:
    samples = sweep(2)
    mel, slices = mel_spectrogram(samples), stream(samples, 999, CENTRED)
    for frame in range(5, 45):
        start = CENTRED.start(frame)
        np.testing.assert_array_equal(slices[frame, 0], mel[:, start : start + MEL_WINDOW])


def test_ave_slices_are_the_familys_with_the_first_and_last_repeated() -> None:
    samples = sweep(4.03)
    mel, slices = mel_spectrogram(samples), stream(samples, 999, AVE)
    columns = mel.shape[1]
    count = int((columns - 16) / 80 * 25) + 2
    starts = [min(int(80 * (j / 25)), columns - 16) for j in range(count)]
    raw = [mel[:, s : s + 16] for s in starts]
    padded = [raw[0], *raw, raw[-1]]
    for frame, ours in enumerate(slices[:, 0]):
        np.testing.assert_array_equal(ours, padded[min(frame, len(padded) - 1)])


@BOTH
def test_a_slice_comes_as_soon_as_its_look_ahead_is_there(alignment: Alignment) -> None:
    source, samples = MelStream(alignment), sweep(1)
    needed = int((alignment.start(10) + MEL_WINDOW - 1) * 200 + 400)
    assert len(source.push(samples[: needed - 1])) == 10
    assert len(source.push(samples[needed - 1 : needed])) == 1
