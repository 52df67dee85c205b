"""Sound from any file, and its way to 16 kHz mono."""

from __future__ import annotations

import logging
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest

from lipwright.audio.decode import LONGEST_GAP, SoundReader, ToNetwork
from lipwright.contract import FloatArray
from lipwright.errors import ContractError, MediaError
from media import click, cut_short, speech_like, tone, write_film, write_sound

SPEECH_RATES = (8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)


def read(path: Path) -> FloatArray:
    with SoundReader(path) as reader:
        return np.concatenate(list(reader))


@pytest.mark.parametrize(
    ("codec", "step"),
    [
        ("pcm_u8", 2**-7),
        ("pcm_s16le", 2**-15),
        ("pcm_s24le", 2**-23),
        ("pcm_s32le", 2**-24),
        ("pcm_f32le", 2**-24),
        ("pcm_f64le", 2**-24),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_wav_of_every_depth_is_exact_to_its_last_bit(tmp_path: Path, codec: str, step: float, channels: int) -> None:
    samples = tone(0.3, 44_100, channels)
    reader = SoundReader(write_sound(tmp_path / "a.wav", samples, 44_100, codec))
    assert (reader.rate, reader.channels) == (44_100, channels)
    assert reader.duration == pytest.approx(0.3)
    back = np.concatenate(list(reader))
    assert back.dtype == np.float32 and back.shape == samples.shape
    assert np.abs(back - samples).max() <= step


@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [
        ("a.flac", None, 48_000),
        ("a.mp3", None, 44_100),
        ("a.mp3", None, 16_000),
        ("a.m4a", None, 44_100),
        ("a.m4a", None, 8_000),
        ("a.mkv", "aac", 48_000),
        ("a.ts", "aac", 48_000),
        ("a.ogg", None, 48_000),
        ("a.webm", None, 48_000),
        ("a.wav", "pcm_alaw", 8_000),
    ],
)
def test_codecs_keep_sound_in_its_place(tmp_path: Path, name: str, codec: str | None, rate: int) -> None:
    samples = speech_like(1.2, rate)
    back = read(write_sound(tmp_path / name, samples, rate, codec))
    assert len(samples) <= len(back) + rate // 100 <= len(samples) + rate // 10
    near = min(len(back), len(samples))
    lag = int(np.argmax(np.correlate(back[:near, 0], samples[:near, 0], "full"))) - (near - 1)
    # MPEG-TS and Matroska do not tell of AAC's 1024 samples of priming when FFmpeg writes them.
    assert abs(lag) <= (1024 if codec == "aac" else 1)
    assert np.corrcoef(back[: near - 1100, 0], np.roll(samples[:, 0], lag)[: near - 1100])[0, 1] > 0.98


def test_aac_in_mp4_ends_where_the_track_says(tmp_path: Path) -> None:
    assert len(read(write_sound(tmp_path / "a.m4a", tone(1.237, 16_000), 16_000))) == round(1.237 * 16_000)


@pytest.mark.parametrize("rate", [*SPEECH_RATES, 96_000, 192_000])
def test_rates_that_divide_into_frames_stay(tmp_path: Path, rate: int) -> None:
    reader = SoundReader(write_sound(tmp_path / "a.wav", tone(0.1, rate), rate))
    assert reader.rate == rate
    assert sum(map(len, reader)) == round(0.1 * rate)


@pytest.mark.parametrize("rate", [11_127, 44_056, 37_801])
def test_other_rates_become_48_khz_in_place(tmp_path: Path, rate: int) -> None:
    reader = SoundReader(write_sound(tmp_path / "a.wav", click(0.5, 1, rate, 2), rate))
    assert (reader.rate, reader.channels) == (48_000, 2)
    back = np.concatenate(list(reader))
    assert len(back) == 48_000
    assert abs(int(np.argmax(back[:, 0])) - 24_000) <= 3


def test_surround_becomes_stereo_without_clipping(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    loud = np.full((4800, 6), 0.99, np.float32)
    reader = SoundReader(write_sound(tmp_path / "a.wav", loud, 48_000, "pcm_s16le"))
    back = np.concatenate(list(reader))
    assert reader.channels == 2 and back.shape == (4800, 2)
    assert 0.9 < back.max() < 1
    assert [r.getMessage() for r in caplog.records if "5.1" in r.getMessage()]


def test_surround_keeps_left_on_the_left_and_speech_in_the_middle(tmp_path: Path) -> None:
    left, centre = np.zeros((2, 4800, 6), np.float32)
    left[:, 0] = centre[:, 2] = 0.5
    of_left = read(write_sound(tmp_path / "l.wav", left, 48_000))
    of_centre = read(write_sound(tmp_path / "c.wav", centre, 48_000))
    assert of_left[0, 0] > 0.1 and of_left[0, 1] == 0
    assert of_centre[0, 0] == of_centre[0, 1] > 0.1


def test_channels_without_positions_count_the_same(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(3)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(np.tile(np.array([3000, 6000, 0], "<i2"), 1600).tobytes())
    back = read(tmp_path / "a.wav")
    assert back.shape == (1600, 2)
    # 3000 counts of 32768; a plain header names no positions, so either the mean or FFmpeg's 2.1 matrix is right.
    assert back[:, 0].std() == 0 and back.max() < 0.2 and back.min() > 0.05


def test_sound_of_a_film_and_its_late_start(tmp_path: Path) -> None:
    samples = click(0.25, 1, 16_000)
    back = read(write_film(tmp_path / "a.mp4", 50, samples=samples, rate=16_000, sound_start=0.5))
    assert abs(int(np.argmax(np.abs(back[:, 0]))) - 12_000) <= 1
    assert len(back) == 24_000


def test_late_start_counts_from_the_first_picture_where_clocks_begin_anywhere(tmp_path: Path) -> None:
    path = write_film(
        tmp_path / "a.ts", 50, samples=click(0.25, 1, 48_000), rate=48_000, sound_start=10.5, picture_start=10
    )
    assert abs(int(np.argmax(np.abs(read(path)[:, 0]))) - 36_000) <= 1024


@pytest.mark.parametrize(("name", "silence"), [("a.m4a", 0.5), ("a.mkv", 0.5), ("a.ts", 0.0)])
def test_sound_alone_starts_late_only_where_clocks_begin_at_zero(tmp_path: Path, name: str, silence: float) -> None:
    path = write_sound(tmp_path / name, click(0.25, 1, 48_000), 48_000, start=0.5)
    # AAC in MPEG-TS does not tell of its 1024 samples of priming.
    assert abs(int(np.argmax(np.abs(read(path)[:, 0]))) - round((0.25 + silence) * 48_000)) <= 1024


def test_gap_becomes_silence(tmp_path: Path) -> None:
    samples = np.full((16_000, 1), 0.5, np.float32)
    reader = SoundReader(write_sound(tmp_path / "a.mkv", samples, 16_000, gap=(0.4, 0.25)))
    back = np.concatenate(list(reader))[:, 0]
    assert len(back) == 20_000
    assert np.abs(np.flatnonzero(back == 0)[[0, -1]] - [6400, 10_399]).max() <= 16  # Matroska counts milliseconds


def test_small_jitter_of_time_stamps_is_no_gap(tmp_path: Path) -> None:
    samples = tone(1, 16_000)
    back = read(write_sound(tmp_path / "a.mkv", samples, 16_000, gap=(0.4, 0.015)))
    assert len(back) == 16_000


def test_broken_clock_is_no_endless_silence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_sound(tmp_path / "a.mkv", tone(1, 16_000), 16_000, gap=(0.4, LONGEST_GAP + 100))
    assert len(read(path)) == 16_000
    assert len([r for r in caplog.records if "clock jumps" in r.getMessage()]) == 1


def test_chunks_are_bounded_and_reading_starts_over(tmp_path: Path) -> None:
    reader = SoundReader(write_sound(tmp_path / "a.wav", tone(1.05, 16_000), 16_000))
    sizes = [len(chunk) for chunk in reader]
    assert sizes == [3200] * 5 + [800]
    assert [len(chunk) for chunk in reader] == sizes
    with reader:
        chunks = iter(reader)
        next(chunks)
    assert list(chunks) == []


def test_hundredth_of_a_second(tmp_path: Path) -> None:
    assert len(read(write_sound(tmp_path / "a.wav", tone(0.01, 16_000), 16_000))) == 160


@pytest.mark.parametrize(("name", "codec"), [("a.wav", None), ("a.flac", None), ("a.mp3", None), ("a.mkv", "aac")])
def test_truncated_sound_is_used_as_far_as_it_goes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, codec: str | None
) -> None:
    samples = speech_like(4, 16_000)
    path = cut_short(write_sound(tmp_path / name, samples, 16_000, codec), 0.6)
    back = read(path)
    assert 0.3 * len(samples) < len(back) < 0.8 * len(samples)
    if name != "a.mkv":  # its packets end where they end, and nothing in the file says that there were more
        warnings = [r for r in caplog.records if r.levelno == logging.WARNING]
        assert len(warnings) == 1 and name in warnings[0].getMessage()


def test_damaged_packets_leave_the_rest_in_its_place(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "lipwright")
    path = write_sound(tmp_path / "a.flac", click(3.5, 4, 16_000) + speech_like(4, 16_000) * 0.2, 16_000)
    data = bytearray(path.read_bytes())
    data[len(data) // 3 : len(data) // 3 + 2000] = bytes(2000)
    path.write_bytes(data)
    back = read(path)
    assert abs(int(np.argmax(np.abs(back[:, 0]))) - 56_000) <= 1
    assert len([r for r in caplog.records if "damaged" in r.getMessage() or "without sound" in r.getMessage()]) == 1


def header_only(path: Path) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
    return path


def with_text(path: Path) -> Path:
    path.write_text("this is no sound at all\n" * 50)
    return path


def empty(path: Path) -> Path:
    path.touch()
    return path


@pytest.mark.parametrize(
    ("make", "name", "says"),
    [
        (lambda p: p, "missing.wav", "no such file"),
        (lambda p: p.parent, "", "is a folder"),
        (empty, "empty.wav", "is empty"),
        (with_text, "text.wav", "cannot be opened|holds no sound"),
        (with_text, "text.mp3", "cannot be opened|holds no sound"),
        (with_text, "text.txt", "cannot be opened|holds no sound"),
        (header_only, "header.wav", "not a single sample"),
        (lambda p: write_film(p, 5), "silent.mp4", "holds no sound"),
        (lambda p: cut_short(write_sound(p, tone(1, 16_000), 16_000), 0.5), "cut.m4a", "cannot be opened"),
    ],
)
def test_wrong_files_are_named_with_a_remedy(tmp_path: Path, make: object, name: str, says: str) -> None:
    assert callable(make)
    path = make(tmp_path / name)
    with pytest.raises(MediaError, match=says) as caught:
        SoundReader(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("codec", "channels"), [("pcm_f32le", 1), ("pcm_f64le", 2)])
def test_nan_is_refused_with_its_time(tmp_path: Path, value: float, codec: str, channels: int) -> None:
    samples = tone(1, 16_000, channels)
    samples[10_000, channels - 1] = value
    path = write_sound(tmp_path / "a.wav", samples, 16_000, codec)
    with pytest.raises(MediaError, match=r"0\.625 s is not a finite number .*export it again"):
        read(path)


def test_values_beyond_full_scale_are_clipped(tmp_path: Path) -> None:
    back = read(write_sound(tmp_path / "a.wav", tone(0.1, 16_000, level=1.5), 16_000, "pcm_f32le"))
    assert back.min() == -1 and back.max() == 1


READ_ALL = """
import sys
from pathlib import Path
from lipwright.audio.decode import SoundReader, ToNetwork
from lipwright.bench.worker import peak_memory_mb
reader = SoundReader(Path(sys.argv[1]))
network = ToNetwork(reader.rate, reader.channels)
total = 0
for number, chunk in enumerate(reader):
    total += len(network.push(chunk))
    if number == 100:
        early = peak_memory_mb()
print(total + len(network.flush()), round(peak_memory_mb() - early))
"""


@pytest.mark.parametrize("minutes", [5, pytest.param(120, marks=pytest.mark.slow)])
def test_long_sound_streams_in_flat_memory(tmp_path: Path, minutes: int) -> None:
    path = header_only(tmp_path / "long.wav")
    n = minutes * 60 * 8000
    header = bytearray(path.read_bytes())
    header[24:28], header[28:32] = (8000).to_bytes(4, "little"), (16_000).to_bytes(4, "little")
    header[4:8], header[40:44] = (36 + 2 * n).to_bytes(4, "little"), (2 * n).to_bytes(4, "little")
    path.write_bytes(header)
    with path.open("r+b") as file:
        file.truncate(len(header) + 2 * n)
    done = subprocess.run([sys.executable, "-c", READ_ALL, path], check=True, capture_output=True, text=True)
    total, growth_mb = map(int, done.stdout.split())
    assert total == 2 * n
    assert growth_mb < 10


def network(samples: FloatArray, rate: int, chunk: int) -> FloatArray:
    converter = ToNetwork(rate, samples.shape[1])
    parts = [converter.push(samples[i : i + chunk]) for i in range(0, len(samples), chunk)]
    return np.concatenate([*parts, converter.flush()])


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [*SPEECH_RATES, 192_000])
def test_to_network_does_not_depend_on_chunks(rate: int, channels: int) -> None:
    rng = np.random.default_rng(rate)
    samples = rng.uniform(-1, 1, (6037, channels)).astype(np.float32)
    whole = network(samples, rate, len(samples))
    assert whole.dtype == np.float32
    for chunk in (1, 160, 640, 5000):
        assert np.array_equal(network(samples, rate, chunk), whole)


@pytest.mark.parametrize("rate", [*SPEECH_RATES, 192_000])
@pytest.mark.parametrize("at", [0.0, 0.01, 0.25, 0.499])
def test_to_network_has_no_delay(rate: int, at: float) -> None:
    heard = network(click(at, 0.5, rate), rate, 1000)
    assert len(heard) == 8000
    assert abs(int(np.argmax(np.abs(heard))) - round(at * 16_000)) <= 1


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 192_000])
@pytest.mark.parametrize("n", [0, 1, 2, 3, 100, 441, 1764, 5001])
def test_to_network_total_is_exact(rate: int, n: int) -> None:
    assert len(network(np.ones((n, 1), np.float32), rate, 64)) == -(-n * 16_000 // rate)


def test_to_network_keeps_the_voice_band_and_averages_channels() -> None:
    samples = tone(1, 48_000, 1, hertz=1000)
    both = np.concatenate([samples, samples * 0], axis=1)
    heard = network(both, 48_000, 960)
    assert np.abs(heard[100:-100] - tone(1, 16_000, 1, hertz=1000)[100:-100, 0] / 2).max() < 1e-3


def test_to_network_removes_what_16_khz_cannot_hold() -> None:
    assert np.abs(network(tone(1, 48_000, 1, hertz=12_000), 48_000, 960)[100:-100]).max() < 1e-3


@pytest.mark.parametrize("wrong", [np.zeros((5, 2), np.float32), np.zeros(5, np.float32), np.zeros((5, 1))])
def test_to_network_refuses_other_shapes_and_types(wrong: FloatArray) -> None:
    with pytest.raises(ContractError, match=r"float32 \[n, 1\]"):
        ToNetwork(16_000, 1).push(wrong)


def test_development_recordings(dev_data: Path) -> None:
    for path in sorted((dev_data / "speech").glob("*.[fw]*")):
        reader = SoundReader(path)
        assert reader.duration == pytest.approx(sum(map(len, reader)) / reader.rate)
