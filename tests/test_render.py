"""The way of a frame: exact counts, no bit changed by chunks, the template's walk, flat memory, clean ends."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
import wave
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.stream import VideoStream

from avatars import Parts, face_images, face_rects, make_avatar
from lipwright import Avatar, Frame, LipwrightError, Renderer, render
from lipwright.avatar import RECTS, Segment
from lipwright.contract import (
    AUDIO,
    FEATURE,
    INPUT,
    MEL,
    NO_RECT,
    OUTPUT,
    SAMPLE_RATE,
    FloatArray,
    TensorSpec,
    UInt8Array,
    lookahead_ms,
)
from lipwright.errors import AvatarError, ContractError, MediaError
from lipwright.libav import decoded
from lipwright.picture import BgrPicture
from lipwright.render import Networks, Template, Walk
from lipwright.render.ahead import ahead, side_by_side
from lipwright.video import VideoReader

#: Small pictures: the tests are about the way, not about what is on it.
FRAMES, WIDTH, HEIGHT = 12, 160, 144


class FakeGenerator:
    """Answers with the reference ROI; remembers what it was asked; can be told to fail at a call."""

    name = "fake"
    detail = "fake generator"
    lanes = 1
    inputs: tuple[TensorSpec, ...] = (INPUT, AUDIO)
    outputs: tuple[TensorSpec, ...] = (OUTPUT,)

    def __init__(self) -> None:
        self.windows: list[FloatArray] = []
        self.batches: list[int] = []
        self.nan_at: int | None = None
        self.raise_at: int | None = None

    def run(self, *arrays: FloatArray) -> FloatArray:
        image, window = arrays
        call = len(self.batches)
        self.batches.append(len(image))
        self.windows.extend(window)
        if call == self.raise_at:
            raise LipwrightError("the card has fallen out of its slot")
        answer = image[:, :3].copy()
        if call == self.nan_at:
            answer[:, 1, 7, 7] = np.nan
        return answer


class FakeEncoder:
    """The feature is the loudness of each band, repeated."""

    name = "fake"
    detail = "fake encoder"
    lanes = 1
    inputs: tuple[TensorSpec, ...] = (MEL,)
    outputs: tuple[TensorSpec, ...] = (FEATURE,)

    def run(self, *arrays: FloatArray) -> FloatArray:
        return np.resize(arrays[0].mean(axis=(1, 3)), (1, 512)).astype(np.float32)


def fakes() -> tuple[Networks, FakeGenerator]:
    generator = FakeGenerator()
    return Networks(generator, FakeEncoder()), generator


@pytest.fixture(scope="module")
def avatar(tmp_path_factory: pytest.TempPathFactory) -> Avatar:
    return make_avatar(tmp_path_factory.mktemp("render"), Parts(FRAMES, WIDTH, HEIGHT))


@pytest.fixture(scope="module")
def networks(avatar: Avatar) -> Networks:
    """The avatar's own tiny networks, really run."""
    return Networks.open(avatar, runtime="onnxruntime")


def speech(seconds: float, rate: int = SAMPLE_RATE, channels: int = 1) -> FloatArray:
    """Bursts of noise, so that voice and rest take turns."""
    n = round(seconds * rate)
    rng = np.random.default_rng(11)
    loudness = 0.1 * (np.sin(2 * np.pi * 0.7 * np.arange(n) / rate) > -0.3)
    return (rng.standard_normal((n, channels)) * loudness[:, None]).astype(np.float32)


def by_feed(renderer: Renderer, chunks: Iterator[FloatArray]) -> list[Frame]:
    return [*itertools.chain.from_iterable(map(renderer.feed, chunks)), *renderer.flush()]


def same(some: list[Frame], others: list[Frame]) -> bool:
    return len(some) == len(others) and all(
        a.index == b.index and np.array_equal(a.image, b.image) and np.array_equal(a.samples, b.samples)
        for a, b in zip(some, others, strict=True)
    )


# --- counts and samples -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [8000, 11_025, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.04, 0.5, 1.237])
def test_every_frame_brings_its_own_40_ms(avatar: Avatar, rate: int, seconds: float) -> None:
    sound = speech(seconds, rate, 2)
    frames = by_feed(Renderer(avatar, rate, 2, networks=fakes()[0]), iter([sound]))
    assert [frame.index for frame in frames] == list(range(-(-len(sound) * 25 // rate)))
    assert all(len(frame.samples) == rate // 25 for frame in frames[:-1])
    assert np.array_equal(np.concatenate([np.empty((0, 2), np.float32), *(frame.samples for frame in frames)]), sound)


@pytest.mark.parametrize("batch", [1, 4])
def test_chunks_change_no_bit(avatar: Avatar, networks: Networks, batch: int) -> None:
    rate, rng = 8000, np.random.default_rng(2)
    sound = speech(0.6, rate)

    def frames(sizes: Iterator[int]) -> list[Frame]:
        ends = itertools.takewhile(lambda end: end < len(sound), itertools.accumulate(sizes))
        return by_feed(Renderer(avatar, rate, 1, batch=batch, networks=networks), iter(np.split(sound, [*ends])))

    whole = frames(itertools.repeat(len(sound)))
    assert len(whole) == 15
    for sizes in (itertools.repeat(1), itertools.repeat(320), iter(lambda: int(rng.integers(0, 2000)), -1)):
        assert same(frames(sizes), whole)
    with Renderer(avatar, rate, 1, batch=batch, networks=networks) as renderer:
        assert same(list(renderer.stream([sound])), whole)


def test_the_generator_always_runs_on_whole_batches(avatar: Avatar) -> None:
    networks, generator = fakes()
    frames = by_feed(Renderer(avatar, SAMPLE_RATE, 1, batch=4, networks=networks), iter([speech(0.4)]))
    assert len(frames) == 10
    assert generator.batches == [4, 4, 4]


@pytest.mark.parametrize("lookahead", [0, 3, 7])
def test_a_frame_is_there_as_soon_as_its_lookahead_is(avatar: Avatar, lookahead: int) -> None:
    renderer = Renderer(avatar, SAMPLE_RATE, 1, lookahead=lookahead, networks=fakes()[0])
    sound = speech(2)
    needed = int(lookahead_ms(lookahead) * SAMPLE_RATE / 1000)
    slack = 200  # one mel column: what a feature reads ends between two of them
    assert renderer.feed(sound[: needed - slack - 1]) == []
    assert len(renderer.feed(sound[needed - slack - 1 : needed])) == 1
    for i in range(1, 10):
        assert len(renderer.feed(sound[needed + 640 * (i - 1) : needed + 640 * i])) == 1


# --- the picture ------------------------------------------------------------------------------------------------------


def test_only_the_rect_changes_and_it_follows_the_sound(avatar: Avatar, networks: Networks) -> None:
    film = list(VideoReader(avatar.template))
    frames = by_feed(Renderer(avatar, SAMPLE_RATE, 1, networks=networks), iter([speech(1)]))
    walk = Walk(FRAMES)
    for frame in frames:
        k = walk(frame.index)
        rect = avatar.rect(k)
        outside = np.ones((HEIGHT, WIDTH), bool)
        outside[rect.y1 : rect.y2, rect.x1 : rect.x2] = False
        assert np.array_equal(frame.image[outside], film[k][outside])
    assert frames[0].image is not frames[2 * FRAMES - 2].image
    assert not np.array_equal(frames[0].image, frames[2 * FRAMES - 2].image)  # the same template frame, other sound


def test_silence_and_noise_show_the_rest_feature(avatar: Avatar) -> None:
    networks, generator = fakes()
    quiet = (np.random.default_rng(3).standard_normal((16_000, 1)) * 10**-2.5).astype(np.float32)
    by_feed(Renderer(avatar, SAMPLE_RATE, 1, networks=networks), iter([np.zeros((16_000, 1), np.float32), quiet]))
    rest = networks.hear(np.full((1, 80, 16), -4, np.float32))
    assert len(generator.windows) == 50
    assert all(np.array_equal(window.reshape(16, 512), np.tile(rest, (16, 1))) for window in generator.windows)


def test_a_voice_fades_in_and_out_of_the_rest_feature(avatar: Avatar) -> None:
    networks, generator = fakes()
    sound = np.zeros((3 * SAMPLE_RATE, 1), np.float32)
    sound[SAMPLE_RATE : 2 * SAMPLE_RATE] = speech(5)[:SAMPLE_RATE]
    by_feed(Renderer(avatar, SAMPLE_RATE, 1, networks=networks), iter([sound]))
    own = np.array([window.reshape(16, 512)[8] for window in generator.windows])
    rest = networks.hear(np.full((1, 80, 16), -4, np.float32))
    moved = np.abs(own - rest).max(axis=1) > 0
    assert moved[25:48].all()
    assert not moved[:22].any()
    assert not moved[60:].any()


def with_gaps(avatar: Avatar, folder: Path, unusable: list[int]) -> Avatar:
    rects = face_rects(FRAMES, WIDTH, HEIGHT)
    rects[unusable] = -1
    return avatar.save(folder / "gaps.avatar", contents={RECTS: rects})


@pytest.mark.parametrize("batch", [1, 3])
def test_frames_without_a_face_are_shown_as_they_are(avatar: Avatar, tmp_path: Path, batch: int) -> None:
    patchy = with_gaps(avatar, tmp_path, [0, 2, 3, 8])
    networks, generator = fakes()
    frames = by_feed(Renderer(patchy, SAMPLE_RATE, 1, batch=batch, networks=networks), iter([speech(FRAMES / 25)]))
    film = list(VideoReader(avatar.template))
    assert [frame.index for frame in frames] == list(range(FRAMES))
    assert sum(generator.batches) == -(-(FRAMES - 4) // batch) * batch
    assert patchy.rect(2) == NO_RECT
    for k in (0, 2, 3, 8):
        assert np.array_equal(frames[k].image, film[k])


def test_pictures_belong_to_the_user(avatar: Avatar, tmp_path: Path) -> None:
    patchy = with_gaps(avatar, tmp_path, [0])
    first = by_feed(Renderer(patchy, SAMPLE_RATE, 1, networks=fakes()[0]), iter([speech(1)]))
    renderer = Renderer(patchy, SAMPLE_RATE, 1, networks=fakes()[0])
    second = []
    for frame in [*renderer.feed(speech(1)), *renderer.flush()]:
        second.append(Frame(frame.index, BgrPicture(frame.image.copy()), frame.samples.copy()))
        frame.image[:] = 0
        frame.samples[:] = 0
    assert same(first, second)


# --- the template -----------------------------------------------------------------------------------------------------


def test_walk_goes_forwards_and_backwards() -> None:
    assert [Walk(4)(i) for i in range(10)] == [0, 1, 2, 3, 2, 1, 0, 1, 2, 3]
    assert [Walk(4, start=2)(i) for i in range(6)] == [2, 3, 2, 1, 0, 1]
    assert [Walk(2)(i) for i in range(4)] == [0, 1, 0, 1]
    assert {Walk(1)(i) for i in range(4)} == {0}


def test_walk_stays_inside_its_segment() -> None:
    segments = [(0, 3), (3, 4), (5, 8)]
    assert [Walk(8, 1, segments)(i) for i in range(6)] == [1, 2, 1, 0, 1, 2]
    assert {Walk(8, 3, segments)(i) for i in range(6)} == {3}
    assert [Walk(8, 7, segments)(i) for i in range(5)] == [7, 6, 5, 6, 7]
    with pytest.raises(LipwrightError, match="frame 4 lies in no segment"):
        Walk(8, 4, segments)
    with pytest.raises(LipwrightError, match=r"frames 0\.\.7: it cannot start at 8"):
        Walk(8, 8)


def test_start_and_segments_come_from_the_avatar(avatar: Avatar, tmp_path: Path) -> None:
    manifest = avatar.manifest.changed(segments=[Segment(start=0, stop=4), Segment(start=4, stop=9)], start_frame=5)
    cut = avatar.save(tmp_path / "cut.avatar", manifest=manifest)
    film = list(VideoReader(avatar.template))

    def first_rows(**options: Any) -> list[UInt8Array]:
        renderer = Renderer(cut, SAMPLE_RATE, 1, networks=fakes()[0], **options)
        return [frame.image[:4] for frame in by_feed(renderer, iter([speech(0.24)]))]

    assert np.array_equal(first_rows(), [film[k][:4] for k in (5, 6, 7, 8, 7, 6)])
    assert np.array_equal(first_rows(start=2), [film[k][:4] for k in (2, 3, 2, 1, 0, 1)])
    with pytest.raises(LipwrightError, match="cannot start at 99"):
        first_rows(start=99)


def write_film(path: Path, frames: int, keyframes: int, codec: str = "libx264") -> Path:
    """A film with key frames at intervals and, as ordinary films have them, frames predicted from later ones."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = WIDTH, HEIGHT
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.gop_size = keyframes
        stream.codec_context.max_b_frames = 0 if codec == "mjpeg" else 2
        for image in face_images(frames, WIDTH, HEIGHT):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode())
    return path


PICTURE_BYTES = WIDTH * HEIGHT * 3 // 2


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("keyframes", [1, 7, 250])
@pytest.mark.parametrize("kept", [2, 20, 1000])
def test_template_frames_by_index(tmp_path: Path, suffix: str, keyframes: int, kept: int) -> None:
    path = write_film(tmp_path / f"film.{suffix}", 60, keyframes)
    film = list(VideoReader(path))
    assert len(film) == 60
    walk = Walk(60)
    jumps = np.random.default_rng(1).integers(0, 60, 40).tolist()
    with Template(path, cache_bytes=kept * PICTURE_BYTES) as template:
        assert (len(template), template.width, template.height) == (60, WIDTH, HEIGHT)
        for k in [*map(walk, range(30, 160)), *jumps]:
            assert np.array_equal(template.frame(k).bgr, film[k]), k
            assert sum(map(len, template._chunks.values())) <= max(kept, 2)


@pytest.mark.parametrize(("keyframes", "waits"), [(7, 2), (250, 6)])
def test_no_frame_of_a_walk_waits_for_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keyframes: int, waits: int
) -> None:
    """A live session draws every 40 ms: many frames decoded at once would cost it several pictures."""
    path = write_film(tmp_path / "film.mp4", 60, keyframes)
    count = 0

    def counted(*film: Any) -> Iterator[av.VideoFrame]:
        nonlocal count
        for frame in decoded(*film):
            count += 1
            yield frame

    monkeypatch.setattr(sys.modules[Template.__module__], "decoded", counted)
    most = []
    with Template(path, cache_bytes=40 * PICTURE_BYTES) as template:
        for k in map(Walk(60), range(240)):
            before = count
            template.frame(k)
            most.append(count - before)
    assert max(most) <= waits
    assert count < waits * 240


@pytest.mark.parametrize("keyframes", [1, 7, 250])
def test_a_walk_decodes_nothing_that_its_segment_does_not_show(tmp_path: Path, keyframes: int) -> None:
    """Beyond a cut lie pictures nobody sees: decoding them costs time, and one of them may be damaged."""
    path = write_film(tmp_path / "film.mp4", 60, keyframes)
    film = list(VideoReader(path))
    segments = [(0, 20), (23, 41), (41, 60)]
    walk = Walk(60, 30, segments)
    with Template(path, 16 * PICTURE_BYTES, segments) as template:
        for k in map(walk, range(100)):
            assert np.array_equal(template.frame(k).bgr, film[k]), k
            kept = [(start, start + len(chunk)) for start, chunk in template._chunks.items() if chunk]
            assert all(start >= 23 and stop <= 41 for start, stop in kept), kept


def test_template_lost_frame_is_named(tmp_path: Path) -> None:
    path = write_film(tmp_path / "film.avi", 20, 1, "mjpeg")
    data = bytearray(path.read_bytes())
    starts = [i for i in range(len(data)) if data[i : i + 4] == b"00dc"][:20]
    data[starts[13] + 8 : starts[14]] = bytes(starts[14] - starts[13] - 8)
    path.write_bytes(data)
    with Template(path) as template:
        assert template.frame(5).bgr.shape == (HEIGHT, WIDTH, 3)
        # A decoder with several threads may lose the neighbour as well.
        with pytest.raises(MediaError, match=r"film\.avi: frame 1[23] cannot be decoded"):
            template.frame(13)


def test_another_film_in_the_package_is_refused(avatar: Avatar, tmp_path: Path) -> None:
    copy = avatar.save(tmp_path / "swapped.avatar")
    write_film(copy.template, FRAMES - 1, 5)
    with pytest.raises(AvatarError, match=f"has {FRAMES - 1} frames of 160 x 144, the avatar is made for {FRAMES} of"):
        Renderer(copy, SAMPLE_RATE, 1, networks=fakes()[0])


# --- from a file ------------------------------------------------------------------------------------------------------


def write_wav(path: Path, sound: FloatArray, rate: int) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(sound.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((sound * 32767).astype("<i2").tobytes())
    return path


def test_render_gives_what_feed_gives(avatar: Avatar, networks: Networks, tmp_path: Path) -> None:
    path = write_wav(tmp_path / "speech.wav", speech(1.5, 22_050, 2), 22_050)
    with wave.open(str(path)) as file:
        read = np.frombuffer(file.readframes(10**6), "<i2").reshape(-1, 2).astype(np.float32) / np.float32(32768)
    expected = by_feed(Renderer(avatar, 22_050, 2, start=3, networks=networks), iter([read]))
    assert same(list(render(avatar, path, start=3, networks=networks)), expected)


def test_render_loads_the_networks_itself(avatar: Avatar, tmp_path: Path) -> None:
    path = write_wav(tmp_path / "speech.wav", speech(0.2), SAMPLE_RATE)
    assert len(list(render(avatar, path, runtime="onnxruntime", precision="f32"))) == 5


# --- errors and ends --------------------------------------------------------------------------------------------------


def our_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("lipwright-")]


def test_nan_from_the_generator_names_the_frame_and_the_remedy(avatar: Avatar) -> None:
    networks, generator = fakes()
    generator.nan_at = 5
    renderer = Renderer(avatar, SAMPLE_RATE, 1, networks=networks)
    with pytest.raises(LipwrightError, match=r"frame 5: .*not numbers \(fake generator\): try precision f32"):
        by_feed(renderer, iter([speech(1)]))


def test_unusable_sound_is_refused_and_nothing_is_consumed(avatar: Avatar) -> None:
    renderer = Renderer(avatar, SAMPLE_RATE, 1, networks=fakes()[0])
    sound = speech(0.5)
    bad = sound.copy()
    bad[100] = np.nan
    unusable: list[Any] = [bad, sound[:, 0], np.hstack([sound, sound]), sound.astype(np.float64)]
    for wrong in unusable:
        with pytest.raises(ContractError):
            renderer.feed(wrong)
    expected = by_feed(Renderer(avatar, SAMPLE_RATE, 1, networks=fakes()[0]), iter([sound]))
    assert same(by_feed(renderer, iter([sound])), expected)
    with pytest.raises(ContractError, match="ended with flush"):
        renderer.feed(sound)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 44_101}, "44101 Hz does not divide into 25 frames"),
        ({"lookahead": 8}, "look-ahead must be 0..7"),
        ({"batch": 0}, "at least 1 frame"),
    ],
)
def test_impossible_options_are_refused(avatar: Avatar, options: dict[str, Any], message: str) -> None:
    rate = options.pop("rate", SAMPLE_RATE)
    with pytest.raises(ContractError, match=message):
        Renderer(avatar, rate, 1, networks=fakes()[0], **options)


@pytest.mark.parametrize(("missing", "what"), [("generator", "no generator"), ("encoder", "no audio encoder")])
def test_an_avatar_that_cannot_speak_says_so(tmp_path: Path, missing: str, what: str) -> None:
    parts = Parts(3, WIDTH, HEIGHT, generator=missing != "generator", encoder=missing != "encoder")
    with pytest.raises(AvatarError, match=what):
        Renderer(make_avatar(tmp_path, parts), SAMPLE_RATE, 1)


def test_an_error_in_a_stage_is_raised_once_and_leaves_no_thread(avatar: Avatar) -> None:
    networks, generator = fakes()
    generator.raise_at = 4
    frames = Renderer(avatar, SAMPLE_RATE, 1, networks=networks).stream([speech(2)])
    assert [next(frames).index for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(LipwrightError, match="fallen out"):
        next(frames)
    assert list(frames) == []
    assert not our_threads()


def test_an_error_in_the_sound_reaches_the_caller(avatar: Avatar) -> None:
    def broken() -> Iterator[FloatArray]:
        yield speech(1)
        raise MediaError("the file ends in the middle of a word")

    frames = Renderer(avatar, SAMPLE_RATE, 1, networks=fakes()[0]).stream(broken())
    with pytest.raises(MediaError, match="middle of a word"):
        list(frames)
    assert not our_threads()


def test_leaving_early_leaves_no_thread(avatar: Avatar) -> None:
    endless = itertools.repeat(speech(1))
    with closing(Renderer(avatar, SAMPLE_RATE, 1, networks=fakes()[0]).stream(endless)) as frames:
        assert [frame.index for frame in itertools.islice(frames, 3)] == [0, 1, 2]
        assert our_threads()
    assert not our_threads()


def test_ctrl_c_ends_the_threads(avatar: Avatar) -> None:
    endless = itertools.repeat(speech(1))
    frames = Renderer(avatar, SAMPLE_RATE, 1, networks=fakes()[0]).stream(endless)
    next(frames)
    with pytest.raises(KeyboardInterrupt):
        frames.throw(KeyboardInterrupt())
    assert not our_threads()


def test_ahead_keeps_order_and_stays_within_its_depth() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for i in range(100):
            made.append(i)
            yield i

    seen = []
    with closing(ahead(items(), 3)) as ordered:
        for i in ordered:
            seen.append(i)
            assert len(made) - len(seen) <= 3 + 1
    assert seen == list(range(100))
    assert not our_threads()


def test_side_by_side_really_is_and_keeps_the_order() -> None:
    both_here = threading.Barrier(2, timeout=10)  # passed only by two calls that are under way at once

    def work(i: int) -> int:
        both_here.wait()
        return i * i

    assert list(side_by_side(iter(range(8)), work, 2)) == [i * i for i in range(8)]
    assert not our_threads()


@pytest.mark.parametrize("lanes", [1, 3])
def test_an_error_comes_behind_what_came_before_it(lanes: int) -> None:
    def items() -> Iterator[int]:
        yield from range(5)
        raise MediaError("the tape is torn")

    def work(i: int) -> int:
        if i == 7:
            raise LipwrightError("no seven")
        return i

    answers: list[int] = []
    with pytest.raises(MediaError, match="torn"):
        answers.extend(side_by_side(items(), work, lanes))
    assert answers == [0, 1, 2, 3, 4]
    with pytest.raises(LipwrightError, match="seven"):
        answers.extend(side_by_side(iter(range(5, 20)), work, lanes))
    assert answers == [0, 1, 2, 3, 4, 5, 6]
    assert not our_threads()


@pytest.mark.parametrize("batch", [1, 3])
def test_lanes_change_no_bit(avatar: Avatar, networks: Networks, batch: int) -> None:
    sound = speech(1)
    with Renderer(avatar, SAMPLE_RATE, 1, batch=batch, networks=networks) as renderer:
        expected = list(renderer.stream([sound]))
    lanes = Networks.open(avatar, "onnxruntime", lanes=3)
    assert lanes.generator.lanes == 3
    with Renderer(avatar, SAMPLE_RATE, 1, batch=batch, networks=lanes) as renderer:
        assert same(list(renderer.stream([sound])), expected)
    assert not our_threads()


# --- memory -----------------------------------------------------------------------------------------------------------

PEAKS = """
import json, sys
import numpy as np
from pathlib import Path
from lipwright import Avatar, Renderer
from lipwright.bench.worker import peak_memory_mb

def peak(seconds):
    rng = np.random.default_rng(0)
    chunks = ((rng.standard_normal((3200, 1)) * 0.1).astype(np.float32) for _ in range(seconds * 5))
    with Renderer(Avatar.open(sys.argv[1]), 16000, 1, runtime="onnxruntime") as renderer:
        count = sum(1 for _ in renderer.stream(chunks))
    return count, peak_memory_mb()

print(json.dumps([peak(int(seconds)) for seconds in sys.argv[2:]]))
"""


def peaks(avatar: Avatar, *seconds: int) -> list[tuple[int, float]]:
    """(frames, peak memory of the process in MB) after sounds of these lengths, one after the other."""
    command = [sys.executable, "-c", PEAKS, str(avatar.path), *map(str, seconds)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [(count, megabytes) for count, megabytes in json.loads(done.stdout)]


@pytest.mark.skipif(sys.platform == "win32", reason="peak memory is read as on Unix")
def test_memory_does_not_grow_with_the_sound(avatar: Avatar, tmp_path: Path) -> None:
    # One frame of twelve is drawn, so that two minutes are quick.
    patchy = with_gaps(avatar, tmp_path, list(range(1, FRAMES)))
    (short, before), (long, after) = peaks(patchy, 10, 120)
    assert (short, long) == (250, 3000)
    assert after - before < 16
