"""The engine with networks of known cost: capacity, batches, deadlines, faults that nobody else notices."""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

from avatars import Parts, make_avatar
from lipwright import Avatar, LipwrightError, patch
from lipwright.contract import FRAME_MS, FloatArray, UInt8Array
from lipwright.errors import ContractError
from lipwright.render import Networks
from lipwright.runtimes import Redrawn, redraw
from lipwright.serve import faces
from lipwright.serve.capacity import BATCHES, SHARE, Costs, capacity, fits, measure_batches, quicker
from lipwright.serve.engine import (
    PATIENT_ERRORS,
    Engine,
    EngineFullError,
    EngineStoppedError,
    NoSuchAvatarError,
    Seat,
)
from lipwright.serve.faces import Face
from lipwright.serve.jobs import Behind
from lipwright.serve.lanes import SideBySide
from lipwright.serve.session import LiveFrame, SessionOptions
from live import PATIENCE, CostlyGenerator, LevelEncoder, costly_face, noise, running, small_avatar, until
from networks import pictures, rois, windows

pytestmark = pytest.mark.alone

PUSHED = SessionOptions("pushed", lost_after=None)


@pytest.fixture(scope="module")
def avatar(tmp_path_factory: pytest.TempPathFactory) -> Avatar:
    return small_avatar(tmp_path_factory.mktemp("engine"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Avatar:
    return small_avatar(tmp_path_factory.mktemp("engine"), "other")


def read(seat: Seat, frames: int) -> list[LiveFrame]:
    """The next so many frames; fewer if the seat is closed."""
    found: list[LiveFrame] = []
    while len(found) < frames and seat.closed is None:
        frame = seat.take(PATIENCE)
        if frame is not None:
            found.append(frame)
            seat.sent(frame)
    return found


def read_all(seats: Iterable[Seat], frames: int) -> list[list[LiveFrame]]:
    """The next so many frames of each, read side by side."""
    listed = list(seats)
    found: list[list[LiveFrame]] = [[] for _ in listed]

    def work(k: int) -> None:
        found[k] = read(listed[k], frames)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(len(listed))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def contiguous(frames: list[LiveFrame]) -> bool:
    return [frame.sequence for frame in frames] == list(range(frames[0].sequence, frames[0].sequence + len(frames)))


def heard(frames: list[LiveFrame]) -> FloatArray:
    sound = np.concatenate([frame.samples for frame in frames])
    return np.asarray(sound[np.abs(sound[:, 0]) > 0])


# --- capacity -------------------------------------------------------------------------------------------------------


def test_capacity_is_what_fits_into_a_tick() -> None:
    alone = Costs(shared_ms=2, own_ms=3, draw_ms=((1, 8),))
    assert alone.tick_ms(3) == 2 + 3 * 3 + 3 * 8
    assert capacity([alone]) == int((SHARE * FRAME_MS - 2) / 11) == 3
    batched = Costs(shared_ms=2, own_ms=3, draw_ms=((1, 8), (2, 10), (4, 14)))
    assert batched.tick_ms(7) == pytest.approx(2 + 21 + 14 * 2)
    assert batched.tick_ms(5) == pytest.approx(2 + 15 + 14 + 8)
    assert capacity([batched]) == 4
    assert capacity([batched, alone]) == 3
    assert [batched.batch(n) for n in (1, 2, 3, 4, 9)] == [1, 2, 2, 4, 4]


def test_sessions_of_several_avatars_share_the_tick() -> None:
    light, heavy = Costs(0, 1, ((1, 4),)), Costs(0, 1, ((1, 19),))
    assert fits([(light, 3), (heavy, 1)])
    assert not fits([(light, 4), (heavy, 1)])
    assert fits([(light, 7)])
    assert not fits([(light, 8)])


def test_a_machine_that_is_too_slow_still_serves_one() -> None:
    slow = Costs(1, 1, ((1, 200),))
    assert capacity([slow]) == 1
    assert fits([(slow, 1)])
    assert not fits([(slow, 2)])


def test_batches_are_used_where_they_are_faster() -> None:
    cheap = dict(measure_batches(lambda size: time.sleep(0.02 + 0.002 * size)))
    assert tuple(cheap) == BATCHES
    assert 22 <= cheap[1] < 60
    dear = measure_batches(lambda size: time.sleep(0.01 * size**1.5))
    assert [size for size, _ in dear] == [1]


# --- several frames side by side ------------------------------------------------------------------------------------


class Lanes(CostlyGenerator):
    """As many calls as there are lanes must be under way before any of them is answered."""

    lanes = 3

    def __init__(self, together: int) -> None:
        super().__init__()
        self._meeting = threading.Barrier(together)

    def run(self, *arrays: FloatArray) -> FloatArray:
        self._meeting.wait(PATIENCE)
        return super().run(*arrays)


def test_of_two_ways_to_draw_the_quicker_is_taken_for_every_size() -> None:
    assert quicker([(1, 20), (2, 36)], [(2, 30), (3, 33)]) == ((1, 20), (2, 30), (3, 33))
    assert quicker([(1, 20), (2, 30)], [(2, 36), (3, 66)]) == ((1, 20), (2, 30)), "three at once are no gain"


def test_lanes_answer_in_order_and_all_at_once() -> None:
    alone, wide = CostlyGenerator(), Lanes(3)
    asked, heard = rois(3), windows(3)
    generator = SideBySide(alone)
    assert np.array_equal(redraw(generator, asked, heard).rois, asked)
    assert alone.batches == [3]
    generator.spread(wide, [3])
    assert np.array_equal(redraw(generator, asked, heard).rois, asked)
    assert wide.batches == [1, 1, 1]
    redraw(generator, asked[:2], heard[:2])
    assert alone.batches == [3, 2], "two are not drawn side by side"
    assert generator.detail.endswith("up to 3 frames side by side")
    generator.close()
    assert generator.detail == alone.detail
    redraw(generator, asked, heard)
    assert alone.batches == [3, 2, 3]


def test_a_lane_that_fails_is_raised_when_all_have_ended() -> None:
    wide = CostlyGenerator(frame_ms=50)
    wide.lanes, wide.broken = 2, True
    generator = SideBySide(CostlyGenerator())
    generator.spread(wide, [2])
    heard = windows(2)
    heard[0] = 1.0
    heard[1] = 0.0
    with pytest.raises(LipwrightError, match="fallen out"):
        redraw(generator, rois(2), heard)
    assert wide.batches == [1, 1]
    generator.close()


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """What two and three frames side by side cost; one alone costs 20 ms, everything else 1 ms."""
    spread: list[float] = []

    def found(work: Callable[[], object]) -> float:
        work()
        values.append(0.0)
        return 1.0 if len(values) <= 2 else spread[len(values) - 3]

    values: list[float] = []
    monkeypatch.setattr(faces, "measured_ms", found)
    monkeypatch.setattr(faces, "measure_batches", lambda _draw: ((1, 20.0),))
    yield spread


def test_lanes_are_used_where_more_sessions_fit(avatar: Avatar, measured: list[float]) -> None:
    measured += [22.0, 24.0]
    wide = CostlyGenerator()
    wide.lanes = 3
    face = Face(avatar, Networks(CostlyGenerator(), LevelEncoder()), open_wide=lambda: wide)
    with running(face) as engine:
        assert engine.costs["tiny"].draw_ms == ((1, 20.0), (2, 22.0), (3, 24.0))
        assert engine.capacity == 3
        wide.batches.clear()
        assert np.array_equal(face.networks.redraw(rois(3), windows(3)).rois, rois(3))
        assert wide.batches == [1, 1, 1]
        assert np.array_equal(engine.infer("tiny", pictures(3), windows(3)), pictures(3)[:, :3])
        assert wide.batches == [1, 1, 1] * 2
        with engine.open("tiny", PUSHED, "test") as seat:
            assert contiguous(read(seat, 5))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("lipwright-lane")]


class Redrawer(CostlyGenerator):
    """Draws between ROIs by itself, in negative."""

    def redraw(self, asked: UInt8Array, heard: FloatArray) -> Redrawn:
        self.batches.append(-len(heard))
        return Redrawn(255 - asked, np.ones(len(asked), np.bool_))


def test_what_draws_between_rois_by_itself_does_so_for_films_too(avatar: Avatar) -> None:
    generator = Redrawer()
    face = Face(avatar, Networks(generator, LevelEncoder()))
    with running(face) as engine:
        generator.batches.clear()
        assert np.array_equal(redraw(Behind(engine, face), rois(2), windows(2)).rois, 255 - rois(2))
        assert generator.batches
        assert max(generator.batches) < 0, "the float network was asked"


def test_lanes_are_given_up_where_no_more_sessions_fit(avatar: Avatar, measured: list[float]) -> None:
    measured += [39.0, 60.0]
    wide = CostlyGenerator()
    wide.lanes = 3
    face = Face(avatar, Networks(CostlyGenerator(), LevelEncoder()), open_wide=lambda: wide)
    with running(face) as engine:
        assert engine.capacity == 1
        assert face.networks.generator.detail == "a generator of known cost"
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("lipwright-lane")]


def test_lanes_are_not_tried_for_one_session(avatar: Avatar) -> None:
    def never() -> CostlyGenerator:
        raise AssertionError("opened for nothing")

    face = Face(avatar, Networks(CostlyGenerator(), LevelEncoder()), open_wide=never)
    with running(face, sessions=1) as engine:
        assert engine.ready


# --- admission ------------------------------------------------------------------------------------------------------


def test_the_next_client_is_refused_and_admitted_when_one_has_left(avatar: Avatar) -> None:
    with running(costly_face(avatar)[0], sessions=2) as engine:
        seats = [engine.open("tiny", PUSHED, "test") for _ in range(2)]
        with pytest.raises(EngineFullError, match="full \\(2 sessions at 25 frames a second\\)") as refused:
            engine.open("tiny", PUSHED, "test")
        assert refused.value.retry_after > 0
        assert (engine.capacity, engine.active) == (2, 2)
        seats[0].close()
        seats[0].close()
        engine.open("tiny", PUSHED, "test")
        assert engine.active == 2
        assert engine.metrics.value("lipwright_sessions_refused_total") == 1


def test_capacity_comes_from_the_measurement(avatar: Avatar) -> None:
    with running(costly_face(avatar, frame_ms=30)[0]) as engine:
        assert engine.costs["tiny"].single_ms >= 30
        assert engine.capacity == 1
        engine.open("tiny", PUSHED, "test")
        with pytest.raises(EngineFullError):
            engine.open("tiny", PUSHED, "test")


def test_unknown_avatars_and_twins_are_refused(avatar: Avatar) -> None:
    face, _ = costly_face(avatar)
    with running(face) as engine, pytest.raises(NoSuchAvatarError, match=r"no avatar '\.\./tiny' here: tiny"):
        engine.open("../tiny", PUSHED, "test")
    with pytest.raises(LipwrightError, match="the same name"):
        Engine([face, face])


# --- frames ---------------------------------------------------------------------------------------------------------


def test_speech_comes_back_whole_with_its_pictures(avatar: Avatar) -> None:
    sound = noise(1.5)
    with running(costly_face(avatar)[0], sessions=1) as engine, engine.open("tiny", PUSHED, "test") as seat:
        seat.push(sound)
        seat.end()
        frames = read(seat, 70)
    assert contiguous(frames)
    assert np.array_equal(heard(frames), sound)
    assert {frame.image.shape for frame in frames if frame.image is not None} == {(144, 160, 3)}


def test_mouths_of_several_sessions_are_drawn_together(avatar: Avatar) -> None:
    face, generator = costly_face(avatar, call_ms=6, frame_ms=1)
    with running(face, sessions=4) as engine:
        engine.costs["tiny"] = Costs(0.1, 0.1, ((1, 7), (2, 8), (4, 10)))
        seats = [engine.open("tiny", PUSHED, "test") for _ in range(4)]
        generator.batches.clear()
        for k, seat in enumerate(seats):
            seat.push(noise(2, level=0.1 + 0.1 * k))
        found = read_all(seats, 40)
    assert all(contiguous(frames) for frames in found)
    assert generator.batches.count(4) > 5


def test_resting_sessions_share_one_drawing(avatar: Avatar) -> None:
    face, generator = costly_face(avatar)
    with running(face, sessions=5) as engine:
        seats = [engine.open("tiny", PUSHED, "test") for _ in range(5)]
        generator.batches.clear()
        found = read_all(seats, 20)
    assert set(generator.batches) == {1}
    assert len(generator.batches) < 60
    pictures = [{f.sequence + seat.first_tick: f.picture for f in fs} for seat, fs in zip(seats, found, strict=True)]
    tick = max(min(some) for some in pictures)
    shared = [some[tick] for some in pictures if some.get(tick) is not None]
    assert len({id(picture) for picture in shared}) <= 2  # one, or two where a session joined in the middle of a tick


def test_nobody_starves(avatar: Avatar, other: Avatar) -> None:
    faces = [costly_face(avatar, frame_ms=3)[0], costly_face(other, frame_ms=6)[0]]
    with running(*faces, sessions=4) as engine:
        seats = [engine.open(name, PUSHED, "test") for name in ("tiny", "other", "tiny", "other")]
        for seat in seats:
            seat.push(noise(2))
        found = read_all(seats, 40)
    assert all(contiguous(frames) for frames in found)
    drawn = [sum(frame.image is not None for frame in frames) for frames in found]
    assert max(drawn) - min(drawn) <= 15


def test_too_slow_a_generator_costs_pictures_and_never_sound(avatar: Avatar) -> None:
    sound = noise(1.5)
    with running(costly_face(avatar, frame_ms=70)[0]) as engine, engine.open("tiny", PUSHED, "test") as seat:
        seat.push(sound)
        seat.end()
        began = time.monotonic()
        frames = read(seat, 60)
        assert time.monotonic() - began < 5
    assert contiguous(frames)
    assert np.array_equal(heard(frames), sound)
    assert 10 < sum(frame.image is None for frame in frames) < 60


# --- faults ---------------------------------------------------------------------------------------------------------


@pytest.mark.allow_error_log
def test_a_model_that_raises_takes_only_its_own_session_down(avatar: Avatar) -> None:
    face, generator = costly_face(avatar, call_ms=4, frame_ms=0.5)
    with running(face, sessions=3) as engine:
        loud, *quiet = [engine.open("tiny", PUSHED, "test") for _ in range(3)]
        generator.broken = True
        loud.push(noise(5, level=1.0))
        sound = noise(1.5, level=0.05)
        for seat in quiet:
            seat.push(sound)
            seat.end()
        read_loud, *found = read_all([loud, *quiet], 60)
        for frames in found:
            assert contiguous(frames)
            assert np.array_equal(heard(frames), sound)
        until(lambda: loud.closed is not None)
        assert loud.closed == "error: the card has fallen out of its slot"
        assert sum(frame.image is None for frame in read_loud) >= PATIENT_ERRORS - 10
        assert heard(read_loud).size > 0
        assert engine.metrics.value("lipwright_draw_errors_total") >= PATIENT_ERRORS
        assert engine.ready
        assert engine.active == 2


@pytest.mark.allow_error_log
def test_an_encoder_that_raises_takes_only_its_own_session_down(avatar: Avatar, other: Avatar) -> None:
    face, _ = costly_face(avatar)
    broken, _ = costly_face(other)
    with running(face, broken, sessions=2) as engine:
        good, bad = engine.open("tiny", PUSHED, "test"), engine.open("other", PUSHED, "test")

        def fail(*_: object) -> FloatArray:
            raise LipwrightError("deaf")

        broken.networks.encoder.run = fail  # type: ignore[method-assign]
        bad.push(noise(1))
        assert len(read(good, 30)) == 30
        until(lambda: bad.closed == "error: deaf")


def test_a_client_that_gives_no_sign_of_life_is_left(avatar: Avatar) -> None:
    with running(costly_face(avatar)[0], sessions=2) as engine:
        lost = engine.open("tiny", SessionOptions("pushed", lost_after=0.5), "test")
        there = engine.open("tiny", SessionOptions("pushed", lost_after=None), "test")
        began = time.monotonic()
        while lost.closed is None and time.monotonic() - began < PATIENCE:
            lost.take(0.1)
        assert lost.closed == "lost"
        assert 0.4 < time.monotonic() - began < 3
        assert there.closed is None
        session = weakref.ref(lost.session)
        del lost
        until(lambda: gc.collect() >= 0 and session() is None)


# --- work that is not live ------------------------------------------------------------------------------------------


def test_errands_are_done_behind_live_frames(avatar: Avatar) -> None:
    face, generator = costly_face(avatar, frame_ms=8)
    inputs = np.random.default_rng(0).random((5, 6, 320, 320), dtype=np.float32)
    windows = np.zeros((5, 32, 16, 16), np.float32)
    with running(face, sessions=1) as engine:
        assert np.array_equal(engine.infer("tiny", inputs, windows), inputs[:, :3])
        assert engine.infer("tiny", inputs[:0], windows[:0]).shape == (0, 3, 320, 320)
        with engine.open("tiny", PUSHED, "test") as seat:
            seat.push(noise(3))
            done = threading.Event()

            def work() -> None:
                for _ in itertools.repeat(None, 2):
                    engine.infer("tiny", inputs, windows)
                done.set()

            threading.Thread(target=work).start()
            frames = read(seat, 60)
            assert contiguous(frames)
            until(done.is_set)
        assert sum(generator.batches) >= 15


def test_an_errand_that_fails_is_its_own_fault(avatar: Avatar) -> None:
    face, generator = costly_face(avatar)
    with running(face) as engine:
        generator.broken = True
        with pytest.raises(LipwrightError, match="fallen out"):
            engine.infer("tiny", np.zeros((1, 6, 320, 320), np.float32), np.ones((1, 32, 16, 16), np.float32))
        with pytest.raises((ContractError, ValueError, IndexError)):
            engine.infer("tiny", np.zeros((1, 6), np.float32), np.ones((2, 3), np.float32))
        assert engine.ready


# --- ends -----------------------------------------------------------------------------------------------------------


def test_stopping_wakes_everybody(avatar: Avatar) -> None:
    engine = Engine([costly_face(avatar)[0]], sessions=2)
    assert not engine.ready
    with pytest.raises(EngineStoppedError):
        engine.open("tiny", PUSHED, "test")
    engine.start()
    waiting = engine.open("tiny", PUSHED, "test")
    ended: list[None] = []

    async def wait() -> None:
        while await waiting.frame() is not None:
            pass
        ended.append(None)

    thread = threading.Thread(target=lambda: asyncio.run(wait()))
    thread.start()
    until(lambda: waiting.session.delivered > 2)
    engine.stop()
    thread.join(PATIENCE)
    assert ended == [None]
    assert waiting.closed == "the server is being shut down"
    with pytest.raises(EngineStoppedError):
        engine.infer("tiny", np.zeros((1, 6, 320, 320), np.float32), np.ones((1, 32, 16, 16), np.float32))
    assert not [thread for thread in threading.enumerate() if thread.name in ("lipwright-draw", "lipwright-finish")]


def test_pictures_of_an_avatar_without_consent_carry_the_mark(avatar: Avatar, tmp_path: Path) -> None:
    unknown = make_avatar(tmp_path, Parts(12, avatar.manifest.sizes.width, avatar.manifest.sizes.height), consent=None)
    face, _ = costly_face(unknown)
    mark, stills = face.disclosure.mark, [face.painter.still(k) for k in range(12)]
    assert mark is not None
    plain = [face.painter.finish(still, patch.roi(still.mouth.crop) if still.mouth else None) for still in stills]
    with running(face) as engine, engine.open("tiny", PUSHED, "test") as seat:
        picture = next(frame.picture for frame in read(seat, 4) if frame.picture is not None)
    assert any(np.array_equal(picture.bgr, mark.draw(drawn).bgr) for drawn in plain)
    assert not any(np.array_equal(picture.bgr, drawn.bgr) for drawn in plain)


def test_an_interrupt_is_heard_at_once(avatar: Avatar) -> None:
    with running(costly_face(avatar)[0], sessions=1) as engine, engine.open("tiny", PUSHED, "test") as seat:
        seat.push(noise(5))
        read(seat, 20)
        assert seat.interrupt() == 1
        frames = read(seat, 20)
    assert {frame.generation for frame in frames} == {1}
    assert not heard(frames).size
    assert seat.session.stale_seconds < 0.12
