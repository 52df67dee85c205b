"""A session as a ``for`` loop: no socket, no thread, time is a number."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from avatars import Parts, make_avatar
from lipwright import Avatar
from lipwright.audio.activity import FADE_FRAMES, HANGOVER_FRAMES
from lipwright.contract import CENTRED, FPS, SAMPLE_RATE, FloatArray, lookahead_ms
from lipwright.errors import ContractError
from lipwright.picture import BgrPicture
from lipwright.render import Networks
from lipwright.render.voice import Voice
from lipwright.serve.jitter import FILL_SECONDS, HARD_SECONDS, MOST_SECONDS, JitterBuffer
from lipwright.serve.session import (
    PATIENCE_TICKS,
    WAITING_FRAMES,
    WAITING_PICTURES,
    LiveFrame,
    Session,
    SessionOptions,
    Speech,
    Take,
    TooFarAheadError,
)

pytestmark = pytest.mark.alone

TICK = 1 / FPS
PACKET = 0.02
#: Cutting from speech to rest is a step of 1; a window that moves on by one feature makes one of about 1 / 16.
SMOOTH = 0.3
PICTURE = BgrPicture(np.zeros((2, 2, 3), np.uint8))


@pytest.fixture(scope="module")
def avatar(tmp_path_factory: pytest.TempPathFactory) -> Avatar:
    return make_avatar(tmp_path_factory.mktemp("session"), Parts(3, 160, 144))


@pytest.fixture(scope="module")
def networks(avatar: Avatar) -> Networks:
    return Networks.open(avatar, runtime="onnxruntime")


class Bench:
    """A session with its clock: packets go in when they are due, ticks are drawn at once."""

    def __init__(self, networks: Networks, lookahead: int = 7, **options: Any) -> None:
        self.options = SessionOptions(**options)
        rate, channels = self.options.frame_rate, self.options.channels

        def new_voice() -> Voice:
            return Voice(rate, channels, networks, CENTRED, lookahead=lookahead)

        self.rest = new_voice().rest
        self.session = Session(
            self.options, new_voice, self.rest, 0.0, lookahead=lookahead_ms(lookahead), pushed_seconds=10
        )
        self.now = 0.0
        self.takes: list[Take] = []
        self.frames: list[LiveFrame] = []

    def push(self, seconds: float, level: float = 0.1) -> FloatArray:
        """Push noise all at once."""
        sound = noise(seconds, self.options.rate, self.options.channels, level)
        self.session.push(sound, self.now)
        return sound

    def run(self, seconds: float, level: float | None = None, packet: float = PACKET) -> None:
        """Let time go on; with a level, a microphone sends packets of noise of that level."""
        start = self.now
        events = [(start + k * TICK / 8, "tick") for k in range(round(seconds / TICK * 8))]
        if level is not None:
            events += [(start + (k + 1) * packet, "packet") for k in range(round(seconds / packet))]
        for self.now, kind in sorted(events):
            if kind == "packet":
                self.push(packet, level or 0.0)
            else:
                self.draw()
        self.now = start + seconds

    def draw(self) -> None:
        for take in self.session.due(self.now):
            self.takes.append(take)
            self.session.deliver(take, PICTURE)
        while (frame := self.session.next()) is not None:
            self.frames.append(frame)
            self.session.sent(frame, self.now)

    def windows(self) -> FloatArray:
        return np.stack([take.window for take in self.takes])

    def sound(self) -> FloatArray:
        return np.concatenate([frame.samples for frame in self.frames])


def noise(seconds: float, rate: int, channels: int = 1, level: float = 0.1) -> FloatArray:
    count = round(seconds * rate)
    return (np.random.default_rng(count).uniform(-1, 1, (count, channels)) * level).astype(np.float32)


def where(haystack: FloatArray, needle: FloatArray) -> int:
    """At which sample one sound lies in another, to the bit."""
    first = np.flatnonzero((haystack[: len(haystack) - len(needle) + 1] == needle[0]).all(axis=1))
    return next(int(k) for k in first if np.array_equal(haystack[k : k + len(needle)], needle))


def steps(windows: FloatArray) -> FloatArray:
    """How far the windows move from tick to tick, of the way between rest and the farthest of them."""
    way = np.abs(windows - windows[-1]).mean(axis=(1, 2, 3)).max()
    return np.asarray(np.abs(np.diff(windows, axis=0)).mean(axis=(1, 2, 3)) / way)


# --- frames ---------------------------------------------------------------------------------------------------------


def test_every_tick_gives_one_frame_whether_somebody_speaks_or_not(networks: Networks) -> None:
    bench = Bench(networks, mode="live")
    bench.run(1)
    bench.run(2, level=0.1)
    bench.run(1)
    assert [frame.sequence for frame in bench.frames] == list(range(100))
    assert [frame.pts_ms for frame in bench.frames[:3]] == [0, 40, 80]
    assert {frame.samples.shape for frame in bench.frames} == {(640, 1)}
    assert all(frame.picture is PICTURE for frame in bench.frames)


@pytest.mark.parametrize(("rate", "out"), [(8000, 8000), (11_025, 11_025), (44_100, 44_100), (44_101, 48_000)])
@pytest.mark.parametrize("mode", ["live", "pushed"])
def test_any_rate_stereo_too(networks: Networks, mode: Any, rate: int, out: int) -> None:
    bench = Bench(networks, mode=mode, rate=rate, channels=2)
    assert bench.options.frame_rate == out
    for _ in range(40):
        bench.push(0.04)
        bench.run(0.04)
    bench.session.end()
    bench.run(1)
    assert {frame.samples.shape for frame in bench.frames} == {(out // FPS, 2)}
    assert 1.5 * out < np.count_nonzero(bench.sound()[:, 0]) < 1.7 * out


@pytest.mark.parametrize(
    "wrong",
    [{"rate": 7999}, {"rate": 48_001}, {"channels": 3}, {"lookahead": 8}, {"mode": "file"}],
)
def test_impossible_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ContractError):
        SessionOptions(**wrong)


@pytest.mark.parametrize("mode", ["live", "pushed"])
def test_unusable_sound_is_refused_and_nothing_is_taken(networks: Networks, mode: Any) -> None:
    bench = Bench(networks, mode=mode)
    bad = noise(0.1, SAMPLE_RATE)
    bad[7] = np.nan
    unusable: list[Any] = [bad, np.zeros(5, np.float32), np.zeros((5, 2), np.float32), np.zeros((5, 1))]
    for wrong in unusable:
        with pytest.raises(ContractError):
            bench.session.push(wrong, 0.0)
    assert bench.session.stats()["sound_waiting_seconds"] == 0


# --- idle and speech ------------------------------------------------------------------------------------------------


def test_lips_rest_where_nobody_speaks_though_packets_come(networks: Networks) -> None:
    bench = Bench(networks, mode="live")
    bench.run(2, level=10**-3)
    assert not any(take.speaking for take in bench.takes)
    assert all(take.window is bench.rest for take in bench.takes)
    assert np.abs(bench.sound()).max() > 0  # the room is heard all the same


@pytest.mark.parametrize("mode", ["live", "pushed"])
def test_speech_starts_and_ends_without_a_jump(networks: Networks, mode: Any) -> None:
    bench = Bench(networks, mode=mode)
    bench.run(1)
    if mode == "live":
        bench.run(1, level=0.1)
    else:
        bench.push(1)
        bench.session.end()
    bench.run(2)
    windows = bench.windows()
    assert np.array_equal(windows[0], bench.rest)
    assert np.array_equal(windows[-1], bench.rest)
    assert steps(windows).max() < SMOOTH


def test_lips_go_to_rest_after_the_last_sound(networks: Networks) -> None:
    bench = Bench(networks, mode="pushed")
    bench.push(1)
    bench.session.end()
    bench.run(3)
    (last,) = [frame.sequence for frame in bench.frames if frame.last]
    speaking = [frame.sequence for frame in bench.frames if frame.speaking]
    assert speaking == list(range(speaking[0], speaking[-1] + 1))
    assert last < speaking[-1] <= last + HANGOVER_FRAMES + FADE_FRAMES + 10


# --- pushed speech --------------------------------------------------------------------------------------------------


def test_pushed_speech_is_played_whole_at_its_own_pace(networks: Networks) -> None:
    bench = Bench(networks, mode="pushed")
    bench.run(0.5)
    sound = bench.push(3)
    bench.session.end()
    bench.run(4.5)
    begin = where(bench.sound(), sound)
    assert 0.5 <= begin / SAMPLE_RATE < 0.5 + 0.2
    (last,) = [frame for frame in bench.frames if frame.last]
    assert (last.sequence + 1) / FPS - (begin + len(sound)) / SAMPLE_RATE < 2 * TICK


def test_time_waits_for_pushed_speech_and_then_goes_on(networks: Networks) -> None:
    bench = Bench(networks, mode="pushed")
    sound = bench.push(1)
    bench.run(0.6 + PATIENCE_TICKS * TICK)  # stands before its last 0.4 s, whose look-ahead is not there yet
    rest = bench.push(0.5)
    bench.session.end()
    bench.run(2.5)
    heard = bench.sound()
    assert np.array_equal(heard[np.abs(heard[:, 0]) > 0], np.concatenate([sound, rest]))


def test_speech_without_an_end_is_spoken_to_its_end(networks: Networks) -> None:
    bench = Bench(networks, mode="pushed")
    sound = bench.push(1)
    bench.run(2)
    heard = bench.sound()
    assert np.array_equal(heard[np.abs(heard[:, 0]) > 0], sound)
    assert sum(frame.last for frame in bench.frames) == 1
    assert not bench.frames[-1].speaking


def test_the_next_sentence_begins_without_waiting_for_the_silence_after_the_last(networks: Networks) -> None:
    bench = Bench(networks, mode="pushed")
    bench.push(0.5)
    bench.session.end()
    while not any(frame.last for frame in bench.frames):
        bench.run(TICK)
    at = bench.now
    sound = bench.push(1)
    bench.session.end()
    bench.run(2.5)
    assert where(bench.sound(), sound) / SAMPLE_RATE - at < 0.25
    assert np.array_equal(bench.windows()[-1], bench.rest)
    assert steps(bench.windows()).max() < SMOOTH


def test_sound_too_far_ahead_is_refused_whole(networks: Networks) -> None:
    bench = Bench(networks, mode="pushed")
    sound = bench.push(9)
    with pytest.raises(TooFarAheadError, match="over the limit of 10 s"):
        bench.push(2)
    bench.session.end()
    bench.run(11)
    heard = bench.sound()
    assert np.array_equal(heard[np.abs(heard[:, 0]) > 0], sound)


# --- live -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lookahead", [0, 3, 7])
@pytest.mark.parametrize("rate", [8000, 16_000, 44_100])
def test_latency_is_lookahead_and_jitter_buffer(networks: Networks, lookahead: int, rate: int) -> None:
    bench = Bench(networks, lookahead, mode="live", rate=rate)
    bench.run(4, level=0.1)
    bench.session._latencies.clear()  # after the first second the buffer stands where it shall
    bench.run(2, level=0.1)
    stats = bench.session.stats()
    most = lookahead_ms(lookahead) + (FILL_SECONDS + PACKET) * 1000 + 5
    assert lookahead_ms(lookahead) - PACKET * 1000 < stats["latency_ms_p50"] <= stats["latency_ms_p99"] < most


def test_live_sound_comes_out_as_it_went_in(networks: Networks) -> None:
    bench = Bench(networks, mode="live")
    sound = np.concatenate([bench_packet(bench) for _ in range(100)])
    heard = bench.sound()
    begin = where(heard, sound[:640])
    length = len(heard) - begin
    assert length > 0.5 * len(sound)
    assert np.array_equal(heard[begin : begin + length], sound[:length])


def bench_packet(bench: Bench) -> FloatArray:
    rng = np.random.default_rng(round(bench.now * 1000))
    sound = rng.uniform(-0.1, 0.1, (320, 1)).astype(np.float32)
    bench.now += PACKET
    bench.session.push(sound, bench.now)
    bench.draw()
    return sound


def test_a_gap_becomes_silence_and_time_runs_on(networks: Networks) -> None:
    bench = Bench(networks, mode="live")
    bench.run(2, level=0.1)
    bench.run(0.5)
    bench.run(2, level=0.1)
    heard = bench.sound()[:, 0]
    quiet = [k for k in range(40, 100) if not heard[640 * k : 640 * (k + 1)].any()]
    assert 11 <= len(quiet) <= 15
    assert [frame.sequence for frame in bench.frames] == list(range(113))


def test_a_burst_after_a_stall_does_not_make_everything_late(networks: Networks) -> None:
    bench = Bench(networks, mode="live")
    bench.run(2, level=0.1)
    bench.run(0.8)
    bench.push(0.8)  # what the stall held back comes at once
    bench.run(3, level=0.1)
    bench.session._latencies.clear()
    bench.run(1, level=0.1)
    assert bench.session.stats()["latency_ms_p99"] < lookahead_ms() + (MOST_SECONDS + PACKET) * 1000
    assert bench.session.stats()["sound_dropped_seconds"] > 0.5


# --- the jitter buffer ----------------------------------------------------------------------------------------------


def arrivals(seconds: float, ppm: float, jitter: Callable[[int], float]) -> Iterator[float]:
    """When packets of 20 ms of a source with a wrong clock arrive."""
    for k in itertools.count(1):
        nominal = k * PACKET / (1 + ppm * 1e-6)
        if nominal > seconds:
            return
        yield nominal + jitter(k)


def delays(seconds: float, ppm: float, jitter: Callable[[int], float]) -> list[float]:
    """How long the sound of every tick was under way, by what the source had sent and the ticks have played."""
    buffer = JitterBuffer(8000, 1)
    packet = np.zeros((round(8000 * PACKET), 1), np.float32)
    coming = arrivals(seconds, ppm, jitter)
    following = next(coming)
    sent, found = 0, []
    for tick in range(round(seconds * FPS)):
        now = tick * TICK
        while following <= now:
            buffer.push(packet, following)
            sent += len(packet)
            following = next(coming, np.inf)
        buffer.take(now)
        played = sent - buffer.dropped - round(buffer.seconds * 8000)
        # The source captured sample n at n / its true rate.
        found.append(now - (played + buffer.dropped) / 8000 / (1 + ppm * 1e-6))
    return found


@pytest.mark.parametrize("ppm", [-100, 0, 100])
def test_a_wrong_clock_stays_within_40_ms_for_10_minutes(ppm: float) -> None:
    jitter = np.random.default_rng(5).uniform(0, 0.015, 32_000)
    found = delays(600, 10 * ppm, lambda k: float(jitter[k]))[10 * FPS :]
    assert max(found) - min(found) < 0.04


@pytest.mark.slow
@pytest.mark.parametrize("ppm", [-100, 100])
def test_a_wrong_clock_stays_within_40_ms_for_3_hours(ppm: float) -> None:
    jitter = np.random.default_rng(6).uniform(0, 0.015, 600_000)
    found = delays(3 * 3600, ppm, lambda k: float(jitter[k]))[10 * FPS :]
    assert max(found) - min(found) < 0.04
    assert max(found) < FILL_SECONDS + 0.04


@pytest.mark.parametrize("packet", [0.005, 0.02, 0.1, 0.5])
def test_packets_of_any_size_play_without_gaps_once_the_buffer_knows_them(packet: float) -> None:
    buffer = JitterBuffer(8000, 1)
    sound = np.ones((round(8000 * packet), 1), np.float32)
    silent, sent = [], 0
    for tick in range(20 * FPS):
        while (sent + 1) * packet <= tick * TICK + 1e-9:
            sent += 1
            buffer.push(sound, sent * packet)
        silent.append(not buffer.take(tick * TICK).samples.all())
    assert not any(silent[5 * FPS :])
    assert buffer.dropped == 0


def test_positions_place_what_was_lost_or_came_twice() -> None:
    buffer = JitterBuffer(8000, 1)
    ones = np.ones((160, 1), np.float32)
    for position in (0, 160, 480, 480, 560, 720 + 9 * 8000):  # a loss, a double, an overlap, a new count
        buffer.push(ones, 0.0, position)
    played = np.concatenate([buffer.take(tick * TICK).samples for tick in range(2)])[:, 0]
    assert played.tolist() == [1.0] * 320 + [0.0] * 160 + [1.0] * 160
    assert buffer.dropped == 160 + 80
    assert buffer.seconds == (80 + 160) / 8000


def test_a_flood_of_live_sound_takes_no_memory() -> None:
    buffer = JitterBuffer(8000, 1)
    for _ in range(100):
        buffer.push(np.ones((8000, 1), np.float32), 0.0)
        assert buffer.seconds <= HARD_SECONDS


# --- interrupts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["live", "pushed"])
def test_nothing_of_an_older_generation_comes_after_an_interrupt(networks: Networks, mode: Any) -> None:
    bench = Bench(networks, mode=mode)
    if mode == "pushed":
        bench.push(5)
    bench.run(2, level=0.1 if mode == "live" else None)
    (drawing,) = bench.session.due(bench.now)  # one frame is being drawn
    held = bench.frames[-1]
    assert bench.session.interrupt(bench.now) == 1
    assert bench.session.stale(held)
    bench.session.deliver(drawing, PICTURE)
    frame = bench.session.next()
    assert frame is not None
    assert (frame.generation, frame.image, frame.speaking, bool(frame.samples.any())) == (1, None, False, False)
    bench.run(1)
    after = [take for take in bench.takes if take.due >= bench.now - 1]
    assert {take.generation for take in after} == {1}
    assert all(not take.samples.any() for take in after)
    assert after[FADE_FRAMES + 1].window is bench.rest
    assert steps(np.stack([drawing.window, *(take.window for take in after)])).max() < SMOOTH


def test_what_is_said_while_the_interrupted_is_heard_is_said_whole(
    networks: Networks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An utterance's first tick encodes its whole look-ahead, long enough for an interrupt and new sound to come."""
    bench = Bench(networks, mode="pushed")
    bench.push(2)
    sound, fed = noise(1, SAMPLE_RATE), Speech.feed

    def interrupted(speech: Speech, samples: FloatArray, heard_at: float | None) -> None:
        monkeypatch.setattr(Speech, "feed", fed)
        speech.feed(samples, heard_at)
        bench.session.interrupt(bench.now)
        bench.session.push(sound, bench.now)
        bench.session.end()

    monkeypatch.setattr(Speech, "feed", interrupted)
    bench.run(3)
    assert where(bench.sound(), sound) / SAMPLE_RATE < 1


def test_rest_bridges_until_the_new_lookahead_is_full(networks: Networks) -> None:
    bench = Bench(networks, mode="pushed")
    bench.push(5)
    bench.run(1)
    bench.session.interrupt(bench.now)
    bench.run(0.4)
    at = bench.now
    sound = noise(2, SAMPLE_RATE)
    for k in range(50):  # a TTS that is no faster than time
        bench.session.push(sound[k * 640 : (k + 1) * 640], bench.now)
        bench.run(TICK)
    bench.session.end()
    bench.run(2)
    assert [frame.sequence for frame in bench.frames] == list(range(len(bench.frames)))
    begin = where(bench.sound(), sound) / SAMPLE_RATE
    assert at + 0.25 < begin < at + 0.55
    between = [frame for frame in bench.frames if at <= frame.pts_ms / 1000 < begin - 4 * TICK]
    assert between
    assert not any(frame.speaking for frame in between)
    assert {frame.generation for frame in bench.frames if frame.pts_ms / 1000 > at} == {1}


# --- readers and clocks ---------------------------------------------------------------------------------------------


def test_a_slow_reader_loses_its_oldest_frames(networks: Networks) -> None:
    bench = Bench(networks, mode="pushed")
    for take in bench.session.due(3.0):
        bench.session.deliver(take, PICTURE)
    kept = list(iter(bench.session.next, None))
    assert [frame.sequence for frame in kept] == list(range(76 - WAITING_FRAMES, 76))
    assert bench.session.dropped == 76 - WAITING_FRAMES
    shown = [frame.sequence for frame in kept if frame.picture is not None]
    assert shown == list(range(76 - WAITING_PICTURES, 76))


def test_frames_of_a_standstill_are_not_made_up_for(networks: Networks) -> None:
    bench = Bench(networks, mode="live")
    bench.run(1)
    takes = bench.session.due(3600.0)
    assert len(takes) <= 1
    assert [take.sequence for take in bench.session.due(3600.0 + TICK)] == [25 + len(takes)]


def test_pictures_that_are_missing_are_counted(networks: Networks) -> None:
    bench = Bench(networks, mode="pushed")
    (first, second) = bench.session.due(TICK)
    bench.session.deliver(first, PICTURE)
    bench.session.deliver(second, None)
    assert [frame.image is None for frame in iter(bench.session.next, None)] == [False, True]
    assert bench.session.undrawn == 1
