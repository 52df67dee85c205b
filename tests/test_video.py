"""Films in, by time; films and folders of pictures out, to the tick."""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
import tempfile
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import takewhile
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from lipwright.contract import FloatArray
from lipwright.errors import ContractError, MediaError
from lipwright.video import AAC_RATES, FrameSink, PngWriter, VideoReader, VideoWriter, nearest_in_time
from media import (
    click,
    colour_bars,
    counter_picture,
    cut_short,
    read_counter,
    speech_like,
    tone,
    write_film,
    write_sound,
)


def numbers(path: Path) -> list[int]:
    with VideoReader(path) as reader:
        return [read_counter(image) for image in reader]


# --- reading --------------------------------------------------------------------------------------------------------
def by_time(fps: Fraction, count: int) -> list[int]:
    """Which of ``count`` pictures at ``fps`` is nearest to each 25th of a second, found the slow way."""
    seconds = count / fps
    frames = max(int(seconds * 25 + Fraction(1, 2)), 1)
    return [min(range(count), key=lambda j: (abs(j / fps - Fraction(i, 25)), j)) for i in range(frames)]


@pytest.mark.parametrize(
    "fps", [Fraction(f) for f in ("25", "24000/1001", "30000/1001", "50", "60", "24", "15", "10", "120", "1")]
)
def test_every_rate_becomes_25_by_nearest_time(tmp_path: Path, fps: Fraction) -> None:
    count = max(int(fps * 2), 2)
    path = write_film(tmp_path / "a.mp4", count, fps)
    reader = VideoReader(path)
    expected = by_time(fps, count)
    assert reader.fps == fps
    assert [read_counter(image) for image in reader] == expected
    assert reader.frames == len(expected)


def test_variable_rate_by_nearest_time(tmp_path: Path) -> None:
    times = [Fraction(t, 1000) for t in (0, 33, 50, 120, 500, 510, 521, 900, 1000, 1040)]
    shown = numbers(write_film(tmp_path / "a.mp4", len(times), 30, times))
    nearest = [min(range(10), key=lambda j: (abs(times[j] - Fraction(i, 25)), j)) for i in range(len(shown))]
    assert shown == nearest
    assert len(shown) in (26, 27)


def test_nearest_in_time_is_exact_at_ties_and_over_time() -> None:
    tie = [(Fraction(0), Fraction(2, 25), "a"), (Fraction(2, 25), Fraction(1, 25), "b")]
    assert list(nearest_in_time(tie)) == ["a", "a", "b"]
    ntsc = Fraction(1001, 30_000)
    half_an_hour = ((j * ntsc, ntsc, j) for j in range(1800 * 30))
    chosen = list(nearest_in_time(half_an_hour))
    assert len(chosen) == 45_045 and chosen[-1] == 1800 * 30 - 1


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.webm", "a.ts", "a.avi"])
def test_containers(tmp_path: Path, name: str) -> None:
    codec = {"a.webm": "libvpx-vp9", "a.avi": "mpeg4"}.get(name, "libx264")
    assert numbers(write_film(tmp_path / name, 30, codec=codec)) == list(range(30))


@pytest.mark.parametrize("rotation", [90, 180, 270, "mirror"])
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_display_matrix_is_applied(tmp_path: Path, rotation: int | str, codec: str) -> None:
    path = write_film(tmp_path / "a.mp4", 10, rotation=rotation, codec=codec)
    plain = write_film(tmp_path / "b.mp4", 10, codec=codec)
    reader = VideoReader(path)
    assert (reader.width, reader.height) == (128, 96)
    for image, upright in zip(reader, VideoReader(plain), strict=True):
        assert np.abs(image.astype(int) - upright).mean() < 4
    assert numbers(path) == list(range(10))


@pytest.mark.parametrize(
    ("codec", "pix_fmt"),
    [
        ("libx265", "yuv420p"),
        ("libx265", "yuv420p10le"),
        ("libx264", "yuv420p10le"),
        ("libx264", "yuv444p"),
        ("libx264", "yuvj420p"),
        ("ffv1", "bgr0"),
        ("ffv1", "gray"),
    ],
)
def test_pixel_formats(tmp_path: Path, codec: str, pix_fmt: str) -> None:
    path = write_film(tmp_path / "a.mkv", 10, codec=codec, pix_fmt=pix_fmt)
    assert numbers(path) == list(range(10))
    image = next(iter(VideoReader(path)))
    want = counter_picture(0)
    assert image.dtype == np.uint8 and image.flags.c_contiguous
    if pix_fmt != "gray":
        assert np.abs(image.astype(int) - want).mean() < 5


def test_odd_size_is_read_as_it_is(tmp_path: Path) -> None:
    reader = VideoReader(
        write_film(tmp_path / "a.mkv", [counter_picture(i, 133, 97) for i in range(5)], codec="ffv1", pix_fmt="bgr0")
    )
    assert (reader.width, reader.height) == (133, 97)
    assert np.array_equal(list(reader)[3], counter_picture(3, 133, 97))


def test_read_gives_the_same_pictures_as_iterating(tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.mp4", 75, Fraction(30_000, 1001), keyframes=10)
    with VideoReader(path) as reader:
        everything = list(reader)
        for start, stop in ((0, 5), (1, 4), (30, 41), (60, 1000), (40, 40), (500, 510)):
            part = list(reader.read(start, stop))
            assert len(part) == len(everything[start:stop])
            assert all(np.array_equal(a, b) for a, b in zip(part, everything[start:stop], strict=True))


def test_late_first_picture_is_shown_from_the_beginning(tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.mp4", 25, samples=tone(2, 16_000), picture_start=0.4)
    assert numbers(path) == [0] * 10 + list(range(25))


def test_repeated_picture_is_a_copy(tmp_path: Path) -> None:
    first, second, *_ = VideoReader(write_film(tmp_path / "a.mp4", 5, 5))
    first[:] = 0
    assert second.any()


def test_pictures_are_freed_as_they_are_read(tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.mp4", 100)
    before = resident_kib()
    with VideoReader(path) as reader:
        first_pass = [resident_kib() for _ in reader]
        gc.disable()  # memory that only the collector of cycles gives back would pile up in a long film
        try:
            growth = [resident_kib() for _ in range(5) for _ in reader][-1] - first_pass[-1]
        finally:
            gc.enable()
    assert before and growth < 5_000


def resident_kib() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") // 1024


def test_closing_ends_an_iteration(tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.mp4", 10)
    with VideoReader(path) as reader:
        images = iter(reader)
        next(images)
    assert list(images) == []


def test_colours_without_a_flag_are_taken_as_players_take_them(tmp_path: Path) -> None:
    bars = colour_bars(64, 64)
    path = write_film(tmp_path / "a.mp4", [bars] * 3)  # FFmpeg's default matrix, BT.601, and no flag
    image = next(iter(VideoReader(path)))
    middle = image[8:24:8, 4::8].astype(int) - bars[8:24:8, 4::8]
    assert np.abs(middle).mean() < 4


def test_truncated_film_is_used_as_far_as_it_goes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with VideoWriter(tmp_path / "a.mp4", 128, 96, 16_000, 1) as writer:
        for i in range(100):
            writer.write(counter_picture(i), np.zeros((640, 1), np.float32))
    shown = numbers(cut_short(tmp_path / "a.mp4", 0.6))
    assert 20 < len(shown) < 100 and shown[:20] == list(range(20))
    assert len([r for r in caplog.records if r.levelno == logging.WARNING]) == 1


def touched(path: Path) -> Path:
    path.touch()
    return path


def text(path: Path) -> Path:
    path.write_text("no film\n" * 100)
    return path


@pytest.mark.parametrize(
    ("make", "name", "says"),
    [
        (lambda p: p, "missing.mp4", "no such file"),
        (lambda p: p.parent, "", "is a folder"),
        (touched, "empty.mp4", "is empty"),
        (text, "text.mp4", "cannot be opened|holds no moving picture"),
        (lambda p: write_sound(p, tone(1, 16_000), 16_000), "sound.wav", "holds no moving picture"),
        (lambda p: cut_short(write_film(p, 20), 0.5), "cut.mp4", "cannot be opened"),
    ],
)
def test_wrong_films_are_named_with_a_remedy(
    tmp_path: Path, make: Callable[[Path], Path], name: str, says: str
) -> None:
    path = make(tmp_path / name)
    with pytest.raises(MediaError, match=says) as caught:
        VideoReader(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


# --- writing --------------------------------------------------------------------------------------------------------
def frames_of(samples: FloatArray, rate: int) -> Iterator[FloatArray]:
    piece = rate // 25
    for begin in range(0, len(samples), piece):
        yield samples[begin : begin + piece]


def write_counted(
    path: Path, samples: FloatArray, rate: int, width: int = 64, height: int = 64, **options: Any
) -> Path:
    with VideoWriter(path, width, height, rate, samples.shape[1], **options) as writer:
        for number, piece in enumerate(frames_of(samples, rate)):
            writer.write(counter_picture(number, width, height), piece)
    return path


def stream_times(path: Path) -> dict[str, tuple[Fraction, Fraction]]:
    """(start, duration) in seconds of the picture and of the sound, as the file says."""
    times: dict[str, tuple[Fraction, Fraction]] = {}
    with av.open(str(path)) as film:
        for stream in film.streams:
            assert stream.start_time is not None and stream.duration is not None and stream.time_base is not None
            times[stream.type] = (stream.start_time * stream.time_base, stream.duration * stream.time_base)
    return times


def loudest(path: Path) -> Fraction:
    """Time in seconds of the loudest decoded sample, by the time stamps a player goes by."""
    with av.open(str(path)) as film:
        stream = film.streams.audio[0]
        best = (0.0, Fraction(0))
        for frame in film.decode(stream):
            level = np.abs(frame.to_ndarray()[0])
            at = int(level.argmax())
            assert frame.pts is not None and frame.time_base is not None
            best = max(best, (float(level[at]), frame.pts * frame.time_base + Fraction(at, frame.sample_rate)))
    return best[1]


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", AAC_RATES)
def test_film_has_exact_length_and_sound_in_place(tmp_path: Path, rate: int, channels: int) -> None:
    samples = click(0.7, 1.237, rate, channels)
    path = write_counted(tmp_path / "a.mp4", samples, rate)
    times = stream_times(path)
    assert times["video"] == (Fraction(0), Fraction(31, 25))
    assert times["audio"] == (Fraction(0), Fraction(len(samples), rate))
    assert abs(loudest(path) - Fraction(7, 10)) <= Fraction(1, rate)
    assert numbers(path) == list(range(31))
    with av.open(str(path)) as film:
        assert (film.streams.audio[0].rate, film.streams.audio[0].channels) == (rate, channels)


@pytest.mark.parametrize("n", [1, 160, 640, 641, 16_000, 16_001])
def test_last_picture_may_have_less_sound(tmp_path: Path, n: int) -> None:
    times = stream_times(write_counted(tmp_path / "a.mp4", np.zeros((n, 1), np.float32), 16_000))
    assert times["audio"] == (Fraction(0), Fraction(n, 16_000))
    assert times["video"] == (Fraction(0), Fraction(-(-n // 640), 25))


@pytest.mark.parametrize("rate", [96_000, 192_000])
def test_rates_unknown_to_aac_become_48_khz(tmp_path: Path, rate: int) -> None:
    path = write_counted(tmp_path / "a.mp4", click(0.5, 1, rate), rate)
    assert stream_times(path)["audio"] == (Fraction(0), Fraction(1))
    assert abs(loudest(path) - Fraction(1, 2)) <= Fraction(1, 48_000)
    with av.open(str(path)) as film:
        assert film.streams.audio[0].rate == 48_000


def test_sound_is_heard_as_it_was_written(tmp_path: Path) -> None:
    samples = speech_like(1, 44_100, 2)
    path = write_counted(tmp_path / "a.mp4", samples, 44_100)
    with av.open(str(path)) as film:
        back = np.concatenate([frame.to_ndarray() for frame in film.decode(audio=0)], axis=1).T[: len(samples)]
    error = (back - samples)[2000:-2000]
    assert 20 * np.log10(samples[2000:-2000].std() / error.std()) > 20


@pytest.mark.slow
def test_no_drift_in_ten_minutes(tmp_path: Path) -> None:
    rate = 44_100
    samples = click(599.9, 600, rate)
    path = write_counted(tmp_path / "a.mp4", samples, rate)
    assert stream_times(path) == dict.fromkeys(("video", "audio"), (Fraction(0), Fraction(600)))
    assert abs(loudest(path) - Fraction(5999, 10)) <= Fraction(1, rate)
    assert numbers(path) == list(range(15_000))


@pytest.mark.parametrize("height", [128, 720])
def test_colours_survive(tmp_path: Path, height: int) -> None:
    bars = colour_bars(256, height)
    path = tmp_path / "a.mp4"
    with VideoWriter(path, 256, height, 16_000, 1) as writer:
        for _ in range(5):
            writer.write(bars, np.zeros((640, 1), np.float32))
    for image in VideoReader(path):
        error = image.astype(int) - bars
        assert np.abs(error).mean() <= 3
        inner = error[16 : height // 2 - 16].reshape(-1, 8, 32, 3)[:, :, 8:24]  # away from the smeared chroma of edges
        assert np.abs(inner).mean() <= 1.5 and np.abs(inner.mean(axis=(0, 1, 2))).max() <= 1


def test_colours_are_flagged_as_they_are_stored(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    green = np.zeros((64, 64, 3), np.uint8)
    green[:] = (0, 255, 0)
    with VideoWriter(path, 64, 64, 16_000, 1) as writer:
        writer.write(green, np.zeros((640, 1), np.float32))
    with av.open(str(path)) as film:
        frame = next(film.decode(video=0))
        context = film.streams.video[0].codec_context
        flags = (context.colorspace, context.color_range, context.color_primaries, context.color_trc)
    assert flags == (1, 1, 1, 1) and (frame.colorspace, frame.color_range) == (1, 1)
    # ITU-R BT.709: Y of pure green is 16 + 219 * 0.7152 (BT.601 would say 145).
    assert abs(int(frame.to_ndarray()[:64].mean()) - 173) <= 1


def test_quality_of_a_moving_picture(tmp_path: Path) -> None:
    y, x = np.mgrid[:240, :320]
    pictures = [
        np.stack([128 + 80 * np.sin((x + 2 * i) / 19) * np.cos(y / 23 + c) for c in range(3)], axis=2).astype(np.uint8)
        for i in range(20)
    ]
    path = tmp_path / "a.mp4"
    with VideoWriter(path, 320, 240, 16_000, 1) as writer:
        for picture in pictures:
            writer.write(picture, np.zeros((640, 1), np.float32))
    square = [np.mean((a.astype(float) - b) ** 2) for a, b in zip(VideoReader(path), pictures, strict=True)]
    assert 10 * np.log10(255**2 / np.mean(square)) >= 40


@pytest.mark.parametrize(("width", "height"), [(65, 64), (64, 65), (97, 65)])
def test_odd_sizes_are_made_even_by_repeating_the_edge(tmp_path: Path, width: int, height: int) -> None:
    path = write_counted(tmp_path / "a.mp4", np.zeros((3200, 1), np.float32), 16_000, width, height, crf=10)
    image = next(iter(VideoReader(path)))
    assert image.shape[:2] == (height + height % 2, width + width % 2)
    assert np.abs(image[:height, :width].astype(int) - counter_picture(0, width, height)).mean() < 5


def test_names_that_look_like_something_else(tmp_path: Path) -> None:
    path = tmp_path / "http:%03d 'ü.mp4"
    write_counted(path, np.zeros((3200, 1), np.float32), 16_000)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert numbers(path) == list(range(5))


def test_index_is_at_the_front(tmp_path: Path) -> None:
    data = write_counted(tmp_path / "a.mp4", np.zeros((6400, 1), np.float32), 16_000).read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def silence(channels: int = 1) -> FloatArray:
    return np.zeros((640, channels), np.float32)


def film_sink(folder: Path) -> VideoWriter:
    return VideoWriter(folder / "out.mp4", 64, 64, 16_000, 1)


def png_sink(folder: Path) -> PngWriter:
    return PngWriter(folder / "out", 16_000, 1)


SINKS = pytest.mark.parametrize("make", [film_sink, png_sink])


@SINKS
def test_nothing_under_the_final_name_until_closed(tmp_path: Path, make: Callable[[Path], FrameSink]) -> None:
    sink = make(tmp_path)
    for i in range(3):
        sink.write(counter_picture(i, 64, 64), silence())
    assert [p.name[0] for p in tmp_path.iterdir()] == ["."]
    sink.close()
    sink.close()
    sink.abort()
    assert [p.stem for p in tmp_path.iterdir()] == ["out"]
    with pytest.raises(MediaError, match="closed"):
        sink.write(counter_picture(3, 64, 64), silence())


@SINKS
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_leaves_nothing_behind(
    tmp_path: Path, make: Callable[[Path], FrameSink], error: type[BaseException]
) -> None:
    with pytest.raises(error), make(tmp_path) as sink:
        sink.write(counter_picture(0, 64, 64), silence())
        raise error
    assert list(tmp_path.iterdir()) == []


@SINKS
def test_an_exception_keeps_the_earlier_result(tmp_path: Path, make: Callable[[Path], FrameSink]) -> None:
    with make(tmp_path) as sink:
        sink.write(counter_picture(7, 64, 64), silence())
    before = sorted(p for p in tmp_path.rglob("*"))
    with pytest.raises(KeyboardInterrupt), make(tmp_path) as sink:
        sink.write(counter_picture(8, 64, 64), silence())
        raise KeyboardInterrupt
    assert sorted(p for p in tmp_path.rglob("*")) == before
    with make(tmp_path) as sink:
        sink.write(counter_picture(9, 64, 64), silence())
    assert sorted(p for p in tmp_path.rglob("*")) == before


@SINKS
def test_missing_folder_is_named(tmp_path: Path, make: Callable[[Path], FrameSink]) -> None:
    with pytest.raises(MediaError, match=f"{tmp_path / 'no'} does not exist: create it"):
        make(tmp_path / "no")
    assert list(tmp_path.iterdir()) == []


@contextmanager
def nobody(folder: Path) -> Iterator[None]:
    """Who may read ``folder`` and change nothing: for root nothing is locked, so be somebody else for a moment."""
    user = os.geteuid()
    if user == 0:
        for parent in takewhile(lambda parent: parent != Path(tempfile.gettempdir()), (folder, *folder.parents[:3])):
            parent.chmod(0o755)
        os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(user)


@SINKS
def test_read_only_folder_is_named(tmp_path: Path, make: Callable[[Path], FrameSink]) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    with nobody(tmp_path), pytest.raises(MediaError, match=r"Permission denied .*may write to"):
        make(folder)
    assert list(folder.iterdir()) == []


@SINKS
def test_a_folder_that_may_not_be_entered_is_named(tmp_path: Path, make: Callable[[Path], FrameSink]) -> None:
    (folder := tmp_path / "closed" / "inside").mkdir(parents=True)
    folder.parent.chmod(0)
    try:
        with nobody(tmp_path), pytest.raises(MediaError, match=r"Permission denied .*may write to"):
            make(folder)
    finally:
        folder.parent.chmod(0o755)
    assert list(folder.iterdir()) == []


@SINKS
def test_wrong_arrays_are_refused(tmp_path: Path, make: Callable[[Path], FrameSink]) -> None:
    picture = counter_picture(0, 64, 64)
    wrong: list[tuple[Any, Any]] = [
        (picture.astype(np.float32), silence()),
        (picture[..., 0], silence()),
        (picture, silence(2)),
        (picture, silence().astype(np.float64)),
    ]
    with make(tmp_path) as sink:
        for image, samples in wrong:
            with pytest.raises(ContractError):
                sink.write(image, samples)
        sink.write(picture, silence())


def test_picture_of_another_size_is_refused(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", 64, 64, 16_000, 1) as writer:
        with pytest.raises(ContractError, match=r"\[64, 64, 3\]"):
            writer.write(counter_picture(0, 66, 64), silence())
        writer.write(counter_picture(0, 64, 64), silence())


def test_film_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no picture"), film_sink(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_target_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out.mp4").mkdir()
    with pytest.raises(MediaError, match="is a folder"):
        film_sink(tmp_path)


NOISE_UNTIL_FULL = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from lipwright.errors import MediaError
from lipwright.video import PngWriter, VideoWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder, kind, limit = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
open_sink = {
    "film": lambda: VideoWriter(folder / "a.mp4", 320, 240, 16000, 1),
    "png": lambda: PngWriter(folder / "a", 16000, 1),
}[kind]
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
try:
    with open_sink() as sink:
        for i in range(200):
            sink.write(np.roll(noise, 7 * i, 1), np.zeros((640, 1), np.float32))
except MediaError as error:
    print(error)
    sys.exit(1)
"""


def write_until_full(folder: Path, kind: str, limit: int) -> str:
    """Write noise in a process of its own; returns the one line it printed on failing."""
    command = [sys.executable, "-c", NOISE_UNTIL_FULL, str(folder), kind, str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stdout.count("\n") == 1 and not done.stderr
    return done.stdout


@pytest.mark.parametrize("kind", ["film", "png"])
@pytest.mark.parametrize("limit", [1000, 100_000])
def test_file_too_large(tmp_path: Path, kind: str, limit: int) -> None:
    says = write_until_full(tmp_path, kind, limit)
    assert "cannot be written: File too large" in says and "choose another place" in says
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path | None]:
    """A file system of 1 MB where this user may mount one, else None."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    yield folder if mounted else None
    if mounted:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("kind", ["film", "png"])
def test_disk_full(tmp_path: Path, tiny_disk: Path | None, kind: str) -> None:
    # Without a disk to fill, the limit of a file's size takes the same way through the muxer.
    says = write_until_full(tiny_disk or tmp_path / "tiny", kind, 0 if tiny_disk else 500_000)
    assert ("No space left on device (free some space" if tiny_disk else "File too large") in says
    assert list((tmp_path / "tiny").iterdir()) == []


# --- PNG ------------------------------------------------------------------------------------------------------------
def test_png_folder_is_lossless(tmp_path: Path) -> None:
    samples = (np.arange(-1600, 1600) / 32_768).astype(np.float32)[:, None].repeat(2, axis=1)
    pictures = [counter_picture(i, 67, 33) for i in range(5)]
    with PngWriter(tmp_path / "out", 16_000, 2) as writer:
        for picture, piece in zip(pictures, frames_of(samples, 16_000), strict=True):
            writer.write(picture, piece)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [*(f"{i:06d}.png" for i in range(5)), "sound.wav"]
    for i, picture in enumerate(pictures):
        back = cv2.imread(str(tmp_path / "out" / f"{i:06d}.png"))
        assert back is not None and np.array_equal(back, picture)
    with wave.open(str(tmp_path / "out" / "sound.wav")) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 2, 2)
        levels = np.frombuffer(file.readframes(-1), "<i2").reshape(-1, 2)
    assert np.array_equal(levels, np.arange(-1600, 1600)[:, None].repeat(2, axis=1))


def test_png_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    precious = tmp_path / "out" / "thesis.txt"
    precious.write_text("mine")
    with pytest.raises(MediaError, match=r"holds other files \(thesis.txt\)"):
        png_sink(tmp_path)
    assert precious.read_text() == "mine"


def test_png_target_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(MediaError, match="is a file"):
        png_sink(tmp_path)
