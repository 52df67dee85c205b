"""The engine: one thread that draws for all sessions, in the order of their deadlines, and knows how many it can hold.

All sessions tick on one grid of 40 ms, and all sessions of one avatar show the same template frame at once: what does
not depend on the sound is made once a tick, resting avatars share one drawing, and mouths are drawn in batches where
the measurement at the start says that this is faster. A second thread puts the mouths into the pictures.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from queue import Queue
from threading import Condition, Thread
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np

from lipwright.contract import FPS, WINDOW_FUTURE, FloatArray, UInt8Array
from lipwright.errors import LipwrightError
from lipwright.picture import Picture
from lipwright.render import Still
from lipwright.runtimes import Redrawn
from lipwright.serve.capacity import Costs, capacity, fits
from lipwright.serve.faces import Face
from lipwright.serve.metrics import Gauge, Metrics
from lipwright.serve.session import PUSHED_SECONDS, LiveFrame, Session, SessionOptions, Take

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")
#: Seconds after which a client that was refused may ask again.
RETRY_AFTER = 5
#: A frame this late, in ticks, goes out without a new picture, so that the next ones are in time.
LATE_TICKS = 2
#: Failed drawings in a row after which a session is given up.
PATIENT_ERRORS = 25
#: Finished drawings that may wait for the second thread.
FINISHING = 4
#: Work that is not live gets a call of the generator at least so often, seconds.
BACKGROUND_EVERY = 1.0
#: The drawing thread counts as alive if it was round its loop within so many seconds.
ALIVE_SECONDS = 5.0
#: Longest wait of the drawing thread, so that lost clients are noticed without sessions ticking.
IDLE_SECONDS = 0.25

Clock = Callable[[], float]


class NoSuchAvatarError(LipwrightError):
    """An avatar was asked for that this server does not hold."""


class EngineFullError(LipwrightError):
    """All sessions that this machine can draw at 25 fps are taken."""

    def __init__(self, capacity: int) -> None:
        held = f"{capacity} session{'s' if capacity > 1 else ''}"
        super().__init__(f"the server is full ({held} at {FPS} frames a second): try again in {RETRY_AFTER} s")
        self.retry_after = RETRY_AFTER


class EngineStoppedError(LipwrightError):
    """The server is being shut down."""


class Bell:
    """Wakes whoever waits for a frame: a thread, or a coroutine on its own loop."""

    def __init__(self) -> None:
        self._condition = Condition()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._event = asyncio.Event()

    def ring(self) -> None:
        """Something has changed; any thread may say so."""
        with self._condition:
            self._condition.notify_all()
            loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # the loop is closed, and nobody waits on it
                loop.call_soon_threadsafe(self._event.set)

    def wait(self, ready: Callable[[], bool], timeout: float) -> None:
        """Until ``ready``, at most ``timeout`` seconds."""
        with self._condition:
            self._condition.wait_for(ready, timeout)

    async def wait_async(self, ready: Callable[[], bool]) -> None:
        """Until ``ready``."""
        with self._condition:
            self._loop = asyncio.get_running_loop()
        while not ready():
            self._event.clear()
            if not ready():
                await self._event.wait()


class Seat:
    """One client's place in the engine. Any thread may use it; frames are for one reader.

    A context manager that closes it.
    """

    def __init__(self, engine: Engine, face: Face, session: Session, door: str, first_tick: int) -> None:
        self.id = secrets.token_hex(8)
        self.face = face
        self.options = session.options
        self.session = session
        self.door = door
        self.first_tick = first_tick
        """The engine's tick at which the session began."""
        self.errors = 0
        """Drawings that failed, in a row."""
        self.drawn_at = 0.0
        """When its last picture was drawn."""
        self.closed: str | None = None
        """Why it was closed; None while it is open."""
        self._engine = engine
        self._bell = Bell()
        self._peek: LiveFrame | None = None
        self.touched = engine.clock()
        """The client's last sign of life."""

    @property
    def name(self) -> str:
        """The avatar's."""
        return self.face.name

    @property
    def width(self) -> int:
        return self.face.width

    @property
    def height(self) -> int:
        return self.face.height

    @property
    def rate(self) -> int:
        """Samples a second of the sound in the frames."""
        return self.options.frame_rate

    @property
    def channels(self) -> int:
        return self.options.channels

    @property
    def lookahead(self) -> int:
        """Future features that a frame waits for."""
        return self._engine.lookahead if self.options.lookahead is None else self.options.lookahead

    @property
    def lookahead_ms(self) -> float:
        return self.face.lookahead_ms(self.lookahead)

    def push(self, samples: FloatArray, position: int | None = None) -> None:
        """Sound [n, channels] float32 at the client's rate; see ``Session.push``. Never waits.

        Raises:
            ContractError: another shape or type, or values that are not finite.
            TooFarAheadError: more pushed sound waits than is allowed.
        """
        self.touch()
        self.session.push(samples, self._engine.clock(), position)

    def end(self) -> None:
        """Nothing follows for now: what was pushed is spoken to its end without waiting."""
        self.touch()
        self.session.end()

    def interrupt(self) -> int:
        """Forget all sound and all frames that have not left; the new generation."""
        self.touch()
        return self.session.interrupt(self._engine.clock())

    def touch(self) -> None:
        """The client has given a sign of life."""
        self.touched = self._engine.clock()

    async def frame(self) -> LiveFrame | None:
        """The next frame; None when the seat was closed."""
        await self._bell.wait_async(self._ready)
        return self._next()

    def take(self, timeout: float) -> LiveFrame | None:
        """The next frame, waited for in this thread; None after ``timeout`` seconds, or when the seat was closed."""
        self._bell.wait(self._ready, timeout)
        return self._next() if self._ready() else None

    def stale(self, frame: LiveFrame) -> bool:
        """Whether an interrupt came since: such a frame must not leave."""
        return self.session.stale(frame)

    def sent(self, frame: LiveFrame) -> None:
        """``frame`` was handed to the transport."""
        latency = self.session.sent(frame, self._engine.clock())
        if latency is not None:
            self._engine.metrics.observe("lipwright_latency_seconds", latency)

    @property
    def idle_from(self) -> int | None:
        """Pushed speech: the sequence from which on nothing remains to be said; None while something does."""
        return self.session.idle_from

    def stats(self) -> dict[str, float | int]:
        """See ``Session.stats``."""
        return self.session.stats()

    def close(self, reason: str = "bye") -> None:
        """Give the place back; harmless the second time."""
        self._engine.release(self, reason)

    def ring(self) -> None:
        """Wake the reader."""
        self._bell.ring()

    def _ready(self) -> bool:
        if self._peek is not None and self.session.stale(self._peek):
            self._peek = None
        if self._peek is None and self.closed is None:
            self._peek = self.session.next()
        return self._peek is not None or self.closed is not None

    def _next(self) -> LiveFrame | None:
        frame, self._peek = self._peek, None
        return None if self.closed is not None else frame

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close("bye" if error is None else "error")


@dataclass(frozen=True, slots=True)
class Due:
    """A take of one session that waits to be drawn."""

    seat: Seat
    take: Take

    @property
    def tick(self) -> int:
        """The engine's tick."""
        return self.seat.first_tick + self.take.sequence


@dataclass(slots=True)
class Drawing:
    """One picture, for all takes that show the same."""

    window: FloatArray
    takes: list[Due] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Finishing:
    """Work of the second thread: takes with what the generator answered; ``still`` None: they get no picture."""

    takes: Sequence[Due]
    still: Still | None = None
    answer: UInt8Array | None = None


@dataclass(frozen=True, slots=True)
class Errand:
    """Work that is not live."""

    work: Callable[[], Any]
    cost_ms: float
    result: Future[Any]


class Engine:
    """Draws for all sessions.

    Args:
        faces: the avatars it holds.
        sessions: how many sessions it takes; None: as many as the measurement at the start allows.
        lookahead: future features that a frame waits for where a client does not say, 0..7.
        pushed_seconds: pushed sound that may wait in a session.
        clock: seconds that never go back.

    Raises:
        LipwrightError: two avatars have one name.
    """

    def __init__(
        self,
        faces: Sequence[Face],
        *,
        sessions: int | None = None,
        lookahead: int = WINDOW_FUTURE,
        pushed_seconds: float = PUSHED_SECONDS,
        clock: Clock = time.monotonic,
    ) -> None:
        self.faces = {face.name: face for face in faces}
        if len(self.faces) < len(faces):
            raise LipwrightError("two of the avatars have the same name: serve one of them, or rename it")
        self.lookahead = lookahead
        self.clock = clock
        self.metrics = Metrics()
        self.costs: dict[str, Costs] = {}
        """Of every avatar by name, after ``start``."""
        self._asked = sessions
        self._pushed_seconds = pushed_seconds
        self._wake = Condition()
        self._seats: dict[str, Seat] = {}
        self._errands: deque[Errand] = deque()
        self._pending: deque[Due] = deque()
        self._finishing: Queue[Finishing | None] = Queue(FINISHING)
        self._stopping = False
        self._epoch = self._beat = self._last_errand = clock()
        self._threads: list[Thread] = []

    # --- for doors --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Measure what frames cost, then begin to draw. Takes seconds."""
        self.costs = {name: face.measure(several=self._asked != 1) for name, face in self.faces.items()}
        self._epoch = self._beat = self.clock()
        self._threads = [
            Thread(target=self._draw_all, name="lipwright-draw", daemon=True),
            Thread(target=self._finish_all, name="lipwright-finish", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Close all seats and end the threads."""
        for seat in list(self._seats.values()):
            seat.close("the server is being shut down")
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        for thread in self._threads:
            thread.join()
        self._threads = []
        for face in self.faces.values():
            face.close()

    @property
    def ready(self) -> bool:
        """Whether it draws."""
        return bool(self._threads) and self.clock() - self._beat < ALIVE_SECONDS

    @property
    def capacity(self) -> int:
        """Sessions at 25 fps, if all are of the avatar that costs most."""
        return self._asked or capacity(list(self.costs.values()))

    @property
    def active(self) -> int:
        """Sessions that are open."""
        return len(self._seats)

    def open(self, avatar: str, options: SessionOptions, door: str) -> Seat:
        """A place for a new client, whose first frame is due at the next tick.

        Raises:
            NoSuchAvatarError: there is no avatar of that name here.
            EngineFullError: no more sessions can be drawn at 25 fps.
            EngineStoppedError: the engine does not run.
        """
        face = self.face(avatar)
        lookahead = self.lookahead if options.lookahead is None else options.lookahead
        with self._wake:
            if self._stopping or not self._threads:
                raise EngineStoppedError("the server is being shut down: try again later")
            self._admit(face)
            first_tick = int((self.clock() - self._epoch) * FPS) + 1
            session = Session(
                options,
                face.new_voice(options.frame_rate, options.channels, lookahead),
                face.rest,
                self._epoch + first_tick / FPS,
                lookahead=face.lookahead_ms(lookahead),
                pushed_seconds=self._pushed_seconds,
            )
            seat = Seat(self, face, session, door, first_tick)
            self._seats[seat.id] = seat
            self._wake.notify_all()
        self.metrics.count("lipwright_sessions_opened_total")
        logger.info("session %s: %s by %s, %d open", seat.id, avatar, door, self.active)
        return seat

    def face(self, avatar: str) -> Face:
        """The avatar of that name.

        Raises:
            NoSuchAvatarError: there is none.
        """
        if avatar not in self.faces:
            raise NoSuchAvatarError(f"there is no avatar {avatar!r} here: {', '.join(sorted(self.faces))}")
        return self.faces[avatar]

    def release(self, seat: Seat, reason: str) -> None:
        """Close a seat; harmless the second time."""
        with self._wake:
            if seat.closed is not None:
                return
            seat.closed = reason
            self._seats.pop(seat.id, None)
        self.metrics.count("lipwright_frames_dropped_total", seat.session.dropped)
        logger.info("session %s: closed (%s), %d open", seat.id, reason, self.active)
        seat.ring()

    def infer(self, avatar: str, inputs: FloatArray, windows: FloatArray) -> FloatArray:
        """Run the generator of ``avatar`` when no live frame waits; the caller's thread waits.

        Args:
            avatar: whose.
            inputs: [B, 6, 320, 320] float32, 0..1 BGR.
            windows: [B, 32, 16, 16] float32.

        Returns:
            [B, 3, 320, 320] float32, 0..1 BGR.

        Raises:
            NoSuchAvatarError: there is no avatar of that name here.
            ContractError: another shape or type.
            EngineStoppedError: the engine was stopped.
        """
        face = self.face(avatar)
        face.networks.open_float()  # here, where nobody else waits
        return np.concatenate(self._in_turns(face, face.networks.draw, inputs, windows))

    def redraw(self, avatar: str, rois: UInt8Array, windows: FloatArray) -> Redrawn:
        """As ``infer``, for ROIs [B, 320, 320, 3] uint8 BGR: see ``runtimes.redraw``; raises the same."""
        face = self.face(avatar)
        return Redrawn.joined(self._in_turns(face, face.networks.redraw, rois, windows))

    def gauges(self) -> list[Gauge]:
        """The values of the moment for ``Metrics.text``."""
        return [
            Gauge("lipwright_sessions", "Sessions that are open.", self.active),
            Gauge("lipwright_sessions_capacity", f"Sessions held at {FPS} frames a second.", self.capacity),
            Gauge("lipwright_ready", "Whether the engine draws.", self.ready),
            Gauge("lipwright_errands_waiting", "Calls that wait behind live frames.", len(self._errands)),
        ]

    def _admit(self, face: Face) -> None:
        wanted = [*(seat.face.name for seat in self._seats.values()), face.name]
        if self._asked is not None:
            full = len(wanted) > self._asked
        else:
            full = not fits([(costs, wanted.count(name)) for name, costs in self.costs.items()])
        if full:
            self.metrics.count("lipwright_sessions_refused_total")
            raise EngineFullError(len(wanted) - 1)

    def _in_turns(
        self, face: Face, draw: Callable[[Any, FloatArray], Answer], shown: Any, windows: FloatArray
    ) -> list[Answer]:
        """The answers to pieces that are as large as a call is worth."""
        size = self.costs[face.name].draw_ms[-1][0]
        pieces = [(shown[i : i + size], windows[i : i + size]) for i in range(0, max(len(shown), 1), size)]
        turns = [self._errand(face, partial(draw, *piece), len(piece[0])) for piece in pieces]
        return [turn.result() for turn in turns]

    def _errand(self, face: Face, work: Callable[[], Any], frames: int) -> Future[Any]:
        errand = Errand(work, self.costs[face.name].single_ms * frames, Future())
        with self._wake:
            if self._stopping:
                raise EngineStoppedError("the server is being shut down: try again later")
            self._errands.append(errand)
            self._wake.notify_all()
        return errand.result

    # --- the drawing thread -----------------------------------------------------------------------------------------

    def _draw_all(self) -> None:
        while not self._stopping:
            self._beat = self.clock()
            self._leave_the_lost()
            self._gather()
            if self._pending:
                self._draw_next()
            elif (errand := self._next_errand()) is not None:
                self._run(errand)
            else:
                self._sleep()
        self._finishing.put(None)
        for errand in self._errands:
            errand.result.set_exception(EngineStoppedError("the server is being shut down"))

    def _leave_the_lost(self) -> None:
        now = self.clock()
        for seat in list(self._seats.values()):
            limit = seat.options.lost_after
            if limit is not None and now - seat.touched > limit:
                self.metrics.count("lipwright_sessions_lost_total")
                self.release(seat, "lost")

    def _gather(self) -> None:
        """All ticks that are due, those of the earliest deadline first."""
        now = self.clock()
        new: list[Due] = []
        for seat in list(self._seats.values()):
            try:
                new += [Due(seat, take) for take in seat.session.due(now)]
            except Exception as error:  # whatever a model does, the other sessions go on
                self._give_up(seat, error)
        if new:
            waiting = (due for due in (*self._pending, *new) if due.seat.closed is None)
            # Among those that are due together, who has waited longest for a picture: if time is short, nobody starves.
            self._pending = deque(sorted(waiting, key=lambda due: (due.take.due, due.seat.drawn_at)))

    def _draw_next(self) -> None:
        now = self.clock()
        if now - self._pending[0].take.due > LATE_TICKS / FPS:
            self._finishing.put(Finishing([self._pending.popleft()]))
            return
        drawings = self._next_drawings()
        try:
            self._draw(drawings)
        except Exception as error:  # whatever a model does, the other sessions go on
            self._draw_one_by_one(drawings, error)

    def _next_drawings(self) -> list[Drawing]:
        """What the next call of the generator draws: the first that waits, and others of its avatar and tick."""
        first = self._pending[0]
        face, tick = first.seat.face, first.tick
        alike = [due for due in self._pending if due.seat.face is face and due.tick == tick]
        drawings: dict[int, Drawing] = {}
        for due in alike:
            key = id(due.take.window) if due.take.window is face.rest else id(due)
            drawings.setdefault(key, Drawing(due.take.window)).takes.append(due)
        chosen = list(drawings.values())[: self.costs[face.name].batch(len(drawings))]
        taken = {id(due) for drawing in chosen for due in drawing.takes}
        self._pending = deque(due for due in self._pending if id(due) not in taken)
        return chosen

    def _draw(self, drawings: Sequence[Drawing]) -> None:
        began = self.clock()
        first = drawings[0].takes[0]
        still = first.seat.face.still(first.tick)
        windows = np.stack([drawing.window for drawing in drawings])
        drawn = first.seat.face.painter.draw([still] * len(drawings), windows)
        ended = self.clock()
        self.metrics.observe("lipwright_draw_seconds", ended - began)
        for drawing, answer in zip(drawings, drawn, strict=True):
            for due in drawing.takes:
                due.seat.errors, due.seat.drawn_at = 0, ended
                self.metrics.observe("lipwright_lateness_seconds", ended - due.take.due)
            self._finishing.put(Finishing(drawing.takes, still, answer))

    def _draw_one_by_one(self, drawings: Sequence[Drawing], error: Exception) -> None:
        """After a call has failed: only those that fail alone go without a picture."""
        for drawing in drawings:
            try:
                if len(drawings) == 1:
                    raise error
                self._draw([drawing])
            except Exception as own:
                self._failed(drawing.takes, own)
                self._finishing.put(Finishing(drawing.takes))

    def _failed(self, takes: Sequence[Due], error: Exception) -> None:
        self.metrics.count("lipwright_draw_errors_total")
        for due in takes:
            due.seat.errors += 1
            if due.seat.errors == 1:
                logger.warning("session %s: a picture could not be drawn: %s", due.seat.id, error)
            if due.seat.errors >= PATIENT_ERRORS:
                self._give_up(due.seat, error)

    def _give_up(self, seat: Seat, error: Exception) -> None:
        logger.error("session %s: given up: %s", seat.id, error)
        self.release(seat, f"error: {error}")

    def _next_errand(self) -> Errand | None:
        """The first errand, if it is done before the next tick or has waited long enough."""
        now = self.clock()
        with self._wake:
            if not self._errands:
                return None
            in_time = not self._seats or self._next_tick() - now >= self._errands[0].cost_ms / 1000
            if not in_time and now - self._last_errand < BACKGROUND_EVERY:
                return None
            self._last_errand = now
            return self._errands.popleft()

    def _run(self, errand: Errand) -> None:
        try:
            errand.result.set_result(errand.work())
        except Exception as error:  # it belongs to whoever asked
            errand.result.set_exception(error)

    def _next_tick(self) -> float:
        return self._epoch + (int((self.clock() - self._epoch) * FPS) + 1) / FPS

    def _sleep(self) -> None:
        with self._wake:
            until = self._next_tick() - self.clock() if self._seats else IDLE_SECONDS
            if not self._stopping:
                self._wake.wait(max(until, 0.0))

    # --- the finishing thread ---------------------------------------------------------------------------------------

    def _finish_all(self) -> None:
        while (work := self._finishing.get()) is not None:
            picture = self._finished(work)
            for due in work.takes:
                due.seat.session.deliver(due.take, picture)
                due.seat.ring()
            self.metrics.count("lipwright_frames_total", len(work.takes))
            if picture is None:
                self.metrics.count("lipwright_frames_undrawn_total", len(work.takes))

    def _finished(self, work: Finishing) -> Picture | None:
        """The picture that all takes of ``work`` show."""
        if work.still is None:
            return None
        try:
            return work.takes[0].seat.face.finish(work.still, work.answer)
        except Exception as error:  # the sound goes on, and so do the others
            self._failed(work.takes, error)
            return None
