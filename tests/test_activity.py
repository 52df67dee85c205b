"""Voice activity: silence and noise rest, speech does not, whatever the level and however the samples arrive."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lipwright.audio.activity import FADE_FRAMES, FUTURE_FRAMES, HANGOVER_FRAMES, VoiceActivity
from lipwright.audio.decode import hear
from lipwright.contract import SAMPLE_RATE, SAMPLES_PER_FRAME, FloatArray, frame_count, lookahead_ms

logger = logging.getLogger(__name__)


def gains_of(sound: FloatArray) -> FloatArray:
    activity = VoiceActivity()
    return np.concatenate([activity.push(sound), activity.flush()])


def scaled(sound: np.ndarray, decibel: float) -> FloatArray:
    """``sound`` with this RMS level in dBFS."""
    return np.asarray(sound * (10 ** (decibel / 20) / np.sqrt(np.mean(np.square(sound)))), np.float32)


def noise(seconds: float, decibel: float, colour: float = 0.0) -> FloatArray:
    """Noise whose power falls with frequency ** colour: 0 white, 1 pink."""
    n = round(seconds * SAMPLE_RATE)
    spectrum = np.fft.rfft(np.random.default_rng(5).standard_normal(n))
    hertz = np.maximum(np.fft.rfftfreq(n, 1 / SAMPLE_RATE), 20)
    return scaled(np.fft.irfft(spectrum / hertz ** (colour / 2), n), decibel)


def hum(seconds: float, decibel: float) -> FloatArray:
    """Mains hum: 50 Hz with ten falling harmonics."""
    t = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return scaled(np.sum([np.sin(2 * np.pi * 50 * k * t + k) / k for k in range(1, 12)], axis=0), decibel)


def vowel(seconds: float, decibel: float, pitch: float = 120.0) -> FloatArray:
    """A pulse train through three resonances, roughly an open vowel."""
    t = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    harmonics = np.arange(1, 40) * pitch
    formants = np.array([[700], [1200], [2600]])
    weights = np.sum(1 / (1 + ((harmonics - formants) / 120) ** 2), axis=0)
    return scaled(np.sum(weights[:, None] * np.sin(2 * np.pi * harmonics[:, None] * t), axis=0), decibel)


def silence(seconds: float) -> FloatArray:
    return np.zeros(round(seconds * SAMPLE_RATE), np.float32)


@pytest.mark.parametrize(
    "quiet",
    [silence(10), noise(10, -50), noise(10, -50, colour=1), noise(10, -50, colour=2), hum(10, -50)],
    ids=["digital silence", "white", "pink", "brown", "hum"],
)
def test_ten_seconds_without_a_voice_rest(quiet: FloatArray) -> None:
    gains = gains_of(quiet)
    assert len(gains) == 250
    assert not gains.any()


def test_noise_after_digital_silence_rests() -> None:
    assert not gains_of(np.concatenate([silence(3), noise(5, -50), silence(2), noise(5, -50)])).any()


@pytest.mark.parametrize("loud", [noise(6, -35), noise(6, -35, colour=1), hum(6, -30)], ids=["white", "pink", "hum"])
def test_steady_noise_rests_once_it_is_known(loud: FloatArray) -> None:
    assert not gains_of(loud)[SAMPLE_RATE // SAMPLES_PER_FRAME :].any()


@pytest.mark.parametrize("level", [-40.0, -26.0, -12.0])
def test_a_voice_is_there_when_it_begins_and_held_after_its_end(level: float) -> None:
    begin, length = 20, 10
    frames = [silence(begin / 25), vowel(length / 25, level), silence(1)]
    gains = gains_of(np.concatenate(frames))
    end = begin + length
    fade = np.arange(1, FADE_FRAMES) / FADE_FRAMES
    assert gains[begin - FUTURE_FRAMES : begin] == pytest.approx(fade)
    assert np.all(gains[begin : end + HANGOVER_FRAMES] == 1)
    assert gains[end + HANGOVER_FRAMES : end + HANGOVER_FRAMES + FADE_FRAMES] == pytest.approx([*fade[::-1], 0])
    assert not gains[: begin - FUTURE_FRAMES].any()
    assert not gains[end + HANGOVER_FRAMES + FADE_FRAMES :].any()


@pytest.mark.parametrize("gap", [0.16, 0.28], ids=["closure", "between words"])
def test_gaps_in_speech_do_not_interrupt(gap: float) -> None:
    word = np.concatenate([vowel(0.12, -20), silence(gap)])
    gains = gains_of(np.concatenate([silence(1), *[word] * 6, vowel(0.12, -20)]))
    assert np.all(gains[25:] == 1)


def test_a_click_is_no_voice() -> None:
    sound = silence(2)
    sound[16_000] = 0.05
    assert not gains_of(sound).any()


def test_sound_that_begins_in_the_middle_of_speech_begins_with_full_gain() -> None:
    assert np.all(gains_of(vowel(0.4, -20)) == 1)


def test_a_voice_over_steady_noise_stands_out() -> None:
    background = noise(6, -35)
    background[3 * SAMPLE_RATE : 4 * SAMPLE_RATE] += vowel(1, -20)
    gains = gains_of(background)
    assert np.all(gains[75:100] == 1)
    assert not gains[25:72].any()
    assert not gains[100 + HANGOVER_FRAMES + FADE_FRAMES :].any()


def chunks(sound: FloatArray, sizes: Iterator[int]) -> Iterator[FloatArray]:
    while len(sound):
        size = next(sizes)
        yield sound[:size]
        sound = sound[size:]


@pytest.mark.parametrize("size", [1, 160, 640, 5000, None])
def test_chunks_change_no_bit(size: int | None) -> None:
    sound = np.concatenate([noise(0.3, -45), vowel(0.2, -25), silence(0.3), noise(0.21, -30)])
    rng = np.random.default_rng(size)
    activity = VoiceActivity()
    sizes = iter(lambda: size or int(rng.integers(0, 3000)), -1)
    pieces = [activity.push(chunk) for chunk in chunks(sound, sizes)]
    assert np.array_equal(np.concatenate([*pieces, activity.flush()]), gains_of(sound))


@pytest.mark.parametrize("samples", [0, 1, 639, 640, 641, 12_345])
def test_one_gain_a_frame(samples: int) -> None:
    assert len(gains_of(np.zeros(samples, np.float32))) == frame_count(samples)


def test_costs_no_latency() -> None:
    activity = VoiceActivity()
    needed = int(lookahead_ms(0) * SAMPLE_RATE / 1000)
    assert len(activity.push(np.zeros(needed, np.float32))) == 1
    assert len(activity.push(np.zeros(SAMPLES_PER_FRAME, np.float32))) == 1


# --- human speech -----------------------------------------------------------------------------------------------------


def spoken_frames(sound: FloatArray) -> np.ndarray:
    """Frames that hold speech, by level alone: within 25 dB of the loud ones and 6 dB above the quiet ones."""
    frames = sound[: len(sound) // SAMPLES_PER_FRAME * SAMPLES_PER_FRAME].reshape(-1, SAMPLES_PER_FRAME)
    level = 10 * np.log10(np.mean(np.square(frames), axis=1) + 1e-12)
    quiet, loud = np.percentile(level, [5, 95])
    return np.asarray(level > max(loud - 25, quiet + 6))


@pytest.mark.dev_data
@pytest.mark.parametrize(
    ("level", "background", "least"),
    [(None, None, 0.995), (None, -50, 0.995), (-20, -35, 0.985), (-40, None, 0.98), (-40, -50, 0.975)],
    ids=["as recorded", "as recorded + noise", "noisy", "quiet", "quiet + noise"],
)
def test_human_speech_is_kept(dev_data: Path, level: float | None, background: float | None, least: float) -> None:
    kept = total = 0
    for path in sorted((dev_data / "speech").glob("*.[fw]*")):
        clean = hear(path)
        sound = clean if level is None else scaled(clean, level)
        if background is not None:
            sound = sound + noise(len(sound) / SAMPLE_RATE + 1, background)[: len(sound)]
        spoken = spoken_frames(clean)
        full = int(np.sum(gains_of(sound)[: len(spoken)][spoken] == 1))
        logger.info("%s: %.1f %% of %d spoken frames at full gain", path.name, 100 * full / spoken.sum(), spoken.sum())
        kept, total = kept + full, total + int(spoken.sum())
    logger.info("all: %.2f %% of %d", 100 * kept / total, total)
    assert total > 2000
    assert kept / total >= least


@pytest.mark.dev_data
def test_pauses_between_sentences_rest(dev_data: Path) -> None:
    sound = hear(dev_data / "speech" / "librispeech_2609-156975-0007.flac")
    speech = sound[: 4 * SAMPLE_RATE]
    pause = noise(2, -50)
    gains = gains_of(np.concatenate([speech, pause, speech]))
    resting = gains[100 + HANGOVER_FRAMES + FADE_FRAMES : 150 - FUTURE_FRAMES]
    assert not resting.any()
