"""Films as cameras and telephones make them, through `prepare`: every rate, turned, interlaced, HDR, 4K, odd sound."""

from __future__ import annotations

import errno
import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from av.filter import Graph
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from avatars import tiny_encoder
from lipwright.avatar import Avatar
from lipwright.contract import FPS, FloatArray, UInt8Array
from lipwright.errors import AvatarError, LipwrightError
from lipwright.face import rect_box, rect_box68
from lipwright.prepare import Kind, prepare, work_folder
from lipwright.prepare.film import write_atomically
from lipwright.prepare.footage import FilmReader, square_size
from lipwright.prepare.sound import listen
from lipwright.quality import psnr
from lipwright.video import VideoReader
from media import write_film, write_sound
from talking import SIDE, at, face, openings, speech

FRAMES = 24
SECONDS = Fraction(FRAMES, FPS)


def talking(time: Fraction) -> UInt8Array:
    """The talking head at a moment: it sways, so that a picture from another moment is another picture."""
    opening = openings(speech(FRAMES + 1))[min(int(time * FPS), FRAMES)]
    return at(face(float(opening)), 30 * np.sin(3 * float(time)), 12 * float(time))


# --- films that a common encoder does not make by itself --------------------------------------------------------------
def woven(first: UInt8Array, second: UInt8Array, top_first: bool) -> UInt8Array:
    """Rows in turn from two pictures 20 ms apart."""
    mixed = np.empty_like(first)
    top, bottom = (first, second) if top_first else (second, first)
    mixed[0::2], mixed[1::2] = top[0::2], bottom[1::2]
    return mixed


def interlaced_film(path: Path, picture: Callable[[Fraction], UInt8Array], frames: int, top_first: bool) -> Path:
    """H.264 of half pictures: 50 moments a second, two in a frame."""
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("libx264", rate=FPS)
        video.height, video.width = picture(Fraction(0)).shape[:2]
        video.pix_fmt = "yuv420p"
        video.options = {"crf": "10", "g": "10", "preset": "veryfast", "x264-params": "interlaced=1"}
        mark = Graph()
        source = mark.add_buffer(
            width=video.width, height=video.height, format=av.VideoFormat("yuv420p"), time_base=Fraction(1, FPS)
        )
        mark.link_nodes(source, mark.add("setfield", "tff" if top_first else "bff"), mark.add("buffersink")).configure()
        for k in range(frames):
            mixed = woven(picture(Fraction(k, FPS)), picture(Fraction(2 * k + 1, 2 * FPS)), top_first)
            frame = av.VideoFrame.from_ndarray(mixed, format="bgr24").reformat(format="yuv420p")
            frame.pts, frame.time_base = k, Fraction(1, FPS)
            mark.vpush(frame)
            container.mux(video.encode(mark.vpull()))
        container.mux(video.encode(None))
    return path


def squeezed_film(path: Path, picture: Callable[[Fraction], UInt8Array], frames: int, rotation: int = 0) -> Path:
    """Every picture stored three quarters as wide as it is shown, as HDV and AVCHD do, on its side with 90."""

    def narrow(k: int) -> UInt8Array:
        whole = picture(Fraction(k, FPS))
        height, width = whole.shape[:2]
        size = (width, height * 3 // 4) if rotation else (width * 3 // 4, height)
        return np.asarray(cv2.resize(whole, size, interpolation=cv2.INTER_AREA), np.uint8)

    sound = speech(frames)[:, None]
    return write_film(path, map(narrow, range(frames)), rotation=rotation, aspect=Fraction(4, 3), samples=sound)


def hdr_film(path: Path, levels: tuple[float, ...], transfer: ColorTrc) -> Path:
    """10-bit HEVC in BT.2020: grey bars of these levels, 0..1 of the signal's range."""
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("libx265", rate=FPS, options={"x265-params": "log-level=none"})
        video.width, video.height, video.pix_fmt = 64 * len(levels), 64, "yuv420p10le"
        context = video.codec_context
        context.color_trc, context.color_primaries = transfer, ColorPrimaries.BT2020
        context.colorspace, context.color_range = Colorspace.BT2020, ColorRange.MPEG
        for k in range(3):
            frame = av.VideoFrame(video.width, video.height, video.pix_fmt)
            bars = np.repeat([round(64 + 876 * level) for level in levels], 64).astype("<u2")
            grey = np.full(len(bars) // 2, 512, "<u2")
            for plane, row in zip(frame.planes, (bars, grey, grey), strict=True):
                fill(plane, row)
            frame.pts, frame.time_base = k, Fraction(1, FPS)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return path


def fill(plane: Any, row: np.ndarray[Any, Any]) -> None:
    """Every row of a 16-bit plane alike."""
    line = np.zeros(plane.line_size // 2, "<u2")
    line[: len(row)] = row
    plane.update(np.tile(line, plane.height).tobytes())


# --- half pictures ----------------------------------------------------------------------------------------------------
def moving(time: Fraction) -> UInt8Array:
    """A round blob that moves to the right, 6 pixels from half picture to half picture."""
    picture = np.full((96, 256, 3), 60, np.uint8)
    cv2.circle(picture, (40 + round(300 * float(time)), 48), 24, (200, 190, 180), -1, cv2.LINE_AA)
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), 1.5), np.uint8)


def combs(picture: UInt8Array) -> float:
    """Mean step between neighbouring rows that the rows beside them do not have."""
    grey = picture.astype(np.float32).mean(2)
    return float(np.abs(grey[1:-1] - (grey[:-2] + grey[2:]) / 2).mean())


@pytest.mark.parametrize("top_first", [True, False])
def test_an_interlaced_film_has_no_combs(tmp_path: Path, top_first: bool) -> None:
    film = interlaced_film(tmp_path / "i.mp4", moving, 16, top_first)
    raw, whole = list(VideoReader(film)), list(FilmReader(film))
    assert len(whole) == len(raw) == 16
    for k in range(2, 14):
        true = moving(Fraction(k, FPS))
        assert combs(raw[k]) > 3 * combs(true)
        assert combs(whole[k]) < 1.5 * combs(true)
        assert psnr(whole[k], true) > psnr(raw[k], true) + 6


def test_reading_from_anywhere_gives_the_same_whole_pictures(tmp_path: Path) -> None:
    film = FilmReader(interlaced_film(tmp_path / "i.mp4", moving, 32, True))
    straight = list(film)
    for start in (1, 9, 10, 11, 29):
        for picture, same in zip(film.read(start, start + 3), straight[start:], strict=False):
            np.testing.assert_array_equal(picture, same)


def test_whole_pictures_pass_as_they_are(tmp_path: Path) -> None:
    film = write_film(tmp_path / "p.mp4", (moving(Fraction(k, FPS)) for k in range(5)))
    for ours, theirs in zip(FilmReader(film), VideoReader(film), strict=True):
        np.testing.assert_array_equal(ours, theirs)


# --- pixels that are not square ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("stored", "aspect", "shown"),
    [
        ((1440, 1080), Fraction(4, 3), (1920, 1080)),  # HDV, AVCHD
        ((720, 576), Fraction(64, 45), (1024, 576)),  # DV of 16:9
        ((720, 480), Fraction(8, 9), (720, 540)),  # DV of 4:3, NTSC
        ((1280, 720), Fraction(1), (1280, 720)),
        ((1279, 719), None, (1279, 719)),
        ((640, 480), Fraction(0), (640, 480)),
    ],
)
def test_no_pixel_is_lost_when_they_become_square(
    stored: tuple[int, int], aspect: Fraction | None, shown: tuple[int, int]
) -> None:
    assert square_size(*stored, aspect) == shown


@pytest.mark.parametrize("rotation", [0, 90])
def test_a_film_in_narrow_pixels_is_as_wide_as_it_was(tmp_path: Path, rotation: int) -> None:
    film = squeezed_film(tmp_path / "s.mp4", moving, 12, rotation)
    with FilmReader(film) as whole, VideoReader(film) as raw:
        assert (raw.width, raw.height) == ((256, 72) if rotation else (192, 96))
        assert (whole.width, whole.height) == (256, 96)
        for k, picture in enumerate(whole):
            assert picture.shape == (96, 256, 3) and psnr(picture, moving(Fraction(k, FPS))) > 34, k
        np.testing.assert_array_equal(next(whole.read(7, 8)), list(whole)[7])


# --- HDR --------------------------------------------------------------------------------------------------------------
#: BT.2408: signal level in HDR and what BT.709 shows for the same light: mid grey, white, and what is brighter.
HDR = {
    ColorTrc.ARIB_STD_B67: ((0.38, 104), (0.75, 253), (0.95, 255)),
    ColorTrc.SMPTE2084: ((0.38, 106), (0.58, 253), (0.9, 255)),
}


@pytest.mark.parametrize("transfer", HDR)
def test_hdr_is_shown_as_bright_as_it_was(tmp_path: Path, transfer: ColorTrc, caplog: pytest.LogCaptureFixture) -> None:
    levels, shown = zip(*HDR[transfer], strict=True)
    film = hdr_film(tmp_path / "hdr.mp4", levels, transfer)
    picture = next(iter(FilmReader(film)))
    bars = picture[:, 32::64].astype(float).mean(0)
    assert np.abs(bars - np.array(shown)[:, None]).max() < 8
    assert "HDR" not in caplog.text, "nothing is wrong with what is put right"
    VideoReader(film)
    assert "is HDR" in caplog.text


# --- whole films ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Case:
    """A film, and what `prepare` must say of it."""

    make: Callable[[Path], Path]
    problems: frozenset[Kind] = frozenset({Kind.SHORT})
    audio: Callable[[Path], Path] | None = None


def at_rate(fps: Fraction, **how: Any) -> Callable[[Path], Path]:
    """The talking head at so many pictures a second."""
    how.setdefault("samples", speech(FRAMES)[:, None])
    return lambda path: write_film(path, (talking(k / fps) for k in range(int(SECONDS * fps))), fps, **how)


def at_uneven_times(path: Path) -> Path:
    """As a telephone does in the dark: now 40 pictures a second, now 15."""
    times = [Fraction(k, 40) for k in range(20)] + [Fraction(1, 2) + Fraction(k, 15) for k in range(7)]
    return write_film(path, map(talking, times), 30, times=times, samples=speech(FRAMES)[:, None])


def interlaced(path: Path) -> Path:
    return interlaced_film(path, talking, FRAMES, top_first=False)


def squeezed(path: Path) -> Path:
    return squeezed_film(path, talking, FRAMES)


LONG, EARLY = speech(FRAMES + 30)[:, None], speech(FRAMES - 15)[:, None]
CASES = {
    "59.94, on its head, 10-bit HEVC": Case(
        at_rate(Fraction(60_000, 1001), rotation=180, codec="libx265", pix_fmt="yuv420p10le")
    ),
    "23.976, on its side, sound too long": Case(at_rate(Fraction(24_000, 1001), rotation=90, samples=LONG)),
    "15, on its other side, sound too short": Case(
        at_rate(Fraction(15), rotation=270, samples=EARLY), frozenset({Kind.SHORT, Kind.NO_SOUND})
    ),
    "variable": Case(at_uneven_times),
    "in narrow pixels": Case(squeezed),
    "interlaced, without sound": Case(interlaced, frozenset({Kind.SHORT, Kind.NO_SOUND})),
    "interlaced, sound from a file": Case(
        interlaced, audio=lambda path: write_sound(path, np.repeat(speech(FRAMES)[:, None], 3, 0), 48_000)
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_any_film_becomes_an_upright_template_in_time(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    film = case.make(tmp_path / "me.mp4")
    audio = case.audio(tmp_path / "me.wav") if case.audio else None
    prepared = prepare(film, tmp_path / "me.avatar", audio=audio, audio_encoder=tiny_encoder(tmp_path / "e.onnx"))
    assert {problem.kind for problem in prepared.problems} == case.problems
    avatar = prepared.avatar
    assert avatar.verify() == [] and abs(avatar.frame_count - FRAMES) <= 1
    assert (avatar.rects[:, 0] >= 0).all()
    with VideoReader(avatar.template) as template:
        shown = list(template)
    assert shown[0].shape == (SIDE, SIDE, 3)
    # Half a picture of 15 a second is 33 ms: its neighbour in time is as good.
    for k in range(1, FRAMES - 1):
        near = [psnr(shown[k], talking(Fraction(3 * k + shift, 3 * FPS))) for shift in (-2, -1, 0, 1, 2)]
        assert max(near) > 27, k
    if Kind.NO_SOUND not in case.problems:
        heard = listen(avatar.path / "sound.flac", avatar.frame_count)
        assert heard.seconds == avatar.frame_count / FPS
        assert correlation(heard.samples, speech(avatar.frame_count)) > 0.9


def correlation(a: FloatArray, b: FloatArray) -> float:
    return float(np.corrcoef(a, b)[0, 1])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"audio": "film.mp4"}, "holds no sound"),
        ({"audio": "nothing.wav"}, "no such file"),
        ({"audio_encoder": "nothing.onnx"}, "no such audio encoder"),
    ],
)
def test_a_wrong_name_is_told_before_the_long_walk(tmp_path: Path, options: dict[str, str], said: str) -> None:
    film = write_film(tmp_path / "film.mp4", 5)
    files: dict[str, Any] = {option: tmp_path / name for option, name in options.items()}
    with pytest.raises(LipwrightError, match=said):
        prepare(film, tmp_path / "me.avatar", **files)
    assert not work_folder(tmp_path / "me.avatar").exists()


def test_a_full_disk_is_told_with_what_to_do(tmp_path: Path) -> None:
    def write(part: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(AvatarError, match=r"No space left on device.*it goes on where it was"):
        write_atomically(tmp_path / "piece.mp4", write)
    assert not (tmp_path / "piece.mp4").exists()


# --- 4K ---------------------------------------------------------------------------------------------------------------
MEASURED = (
    "import sys; from pathlib import Path; from lipwright.prepare import prepare; prepare(*map(Path, sys.argv[1:]));"
    "print([line for line in open('/proc/self/status') if line.startswith('VmHWM')][0].split()[1])"
)
SHORT_FILM, LONG_FILM = 40, 100


@pytest.mark.slow
@pytest.mark.dev_data
def test_4k_hevc_is_prepared_in_bounded_memory(tmp_path: Path, dev_data: Path) -> None:
    """The same faces as at 720p, three times as large, and no more memory for a longer film."""
    source = dev_data / "video" / "presenter_v0.mp4"
    peaks = []
    for frames in (SHORT_FILM, LONG_FILM):
        film = write_film(tmp_path / f"{frames}.mp4", enlarged(source, frames), codec="libx265", pix_fmt="yuv420p10le")
        command = [sys.executable, "-c", MEASURED, str(film), str(tmp_path / f"{frames}.avatar")]
        peaks.append(int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) / 1024)
    print(f"peak memory at 4K: {SHORT_FILM} frames {peaks[0]:.0f} MiB, {LONG_FILM} frames {peaks[1]:.0f} MiB")  # noqa: T201
    assert peaks[1] < 1.15 * peaks[0] < 3000
    avatar = Avatar.open(tmp_path / f"{SHORT_FILM}.avatar")
    truth = np.load(source.with_name("presenter_v0_truth.npz"))["landmarks68"][:SHORT_FILM]
    assert avatar.landmarks is not None and (avatar.rects[:, 0] >= 0).all()
    ours, theirs = rect_box(avatar.landmarks), 3 * rect_box68(truth)
    assert np.abs(ours - theirs).max() < 0.05 * theirs[:, 2].mean()


def enlarged(source: Path, frames: int) -> Iterator[UInt8Array]:
    """The first frames, three times as large."""
    with VideoReader(source) as film:
        for picture in itertools.islice(film, frames):
            yield np.asarray(cv2.resize(picture, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC), np.uint8)
