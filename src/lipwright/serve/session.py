"""One live speaker or listener: sound goes in as it comes, 25 frames a second come out, whatever happens.

No socket, no event loop and no wall clock: time is an argument, so a test is a ``for`` loop. Every tick of 40 ms gives
exactly one frame. A microphone (``live``) plays through a jitter buffer, time runs and gaps become silence; pushed
speech (``pushed``) may come faster than time, which waits for it. When there is nothing to say the lips rest while the
template goes on. Three sides use a session, each from a thread of its own if it likes: the client (``push``, ``end``,
``interrupt``), the engine (``due``, ``deliver``), the reader (``next``, ``sent``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from threading import Lock
from typing import Literal

import numpy as np

from lipwright.audio.activity import FADE_FRAMES
from lipwright.contract import FPS, FRAME_MS, WINDOW_FUTURE, FloatArray, UInt8Array, lookahead_ms
from lipwright.errors import ContractError, LipwrightError
from lipwright.libav import Resampler, check_samples
from lipwright.picture import Picture
from lipwright.render.voice import Moment, Voice
from lipwright.serve.jitter import JitterBuffer

Mode = Literal["live", "pushed"]

#: Rates that a client may send, samples a second.
RATES = (8_000, 48_000)
#: Rates that do not divide into 25 frames are changed into this one.
EVEN_RATE = 48_000
#: Finished frames that wait for a slow reader (1 s), and pictures among them; beyond that it loses the oldest.
WAITING_FRAMES = FPS
WAITING_PICTURES = 8
#: Ticks without new sound after which pushed speech that was not ended is taken for finished.
PATIENCE_TICKS = 3
#: Pushed sound that may be ahead of time, seconds.
PUSHED_SECONDS = 60.0
#: After a standstill of the process longer than this the frames of that time are not made up for, seconds.
STANDSTILL_SECONDS = 5.0
#: What libswresample holds back at most, milliseconds.
_RESAMPLER_MS = 2.5
PERCENTILES = (50, 95, 99)
#: Latencies that are remembered for the percentiles: one minute.
_REMEMBERED = 60 * FPS


class TooFarAheadError(LipwrightError):
    """Pushed sound was refused because too much of it waits already; nothing of it was taken."""


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """What a client asks for.

    Raises:
        ContractError: rate, channels or look-ahead are outside their ranges.
    """

    mode: Mode = "live"
    """``live``: a microphone, time runs. ``pushed``: a TTS, time waits for its sound."""
    rate: int = 16_000
    """Samples a second of the client's sound, 8000..48000."""
    channels: int = 1
    """1 or 2."""
    lookahead: int | None = None
    """Future features that a frame waits for, 0..7; None: the server's default."""
    lost_after: float | None = 5.0
    """Seconds without a sign of life after which the client counts as lost; None: the door watches by itself."""

    def __post_init__(self) -> None:
        if self.mode not in ("live", "pushed"):
            raise ContractError(f"mode must be live or pushed, not {self.mode!r}")
        if not RATES[0] <= self.rate <= RATES[1]:
            raise ContractError(f"the sound's rate must be {RATES[0]}..{RATES[1]} Hz, not {self.rate}")
        if self.channels not in (1, 2):
            raise ContractError(f"the sound must have 1 or 2 channels, not {self.channels}")
        lookahead_ms(WINDOW_FUTURE if self.lookahead is None else self.lookahead)

    @property
    def frame_rate(self) -> int:
        """Samples a second of the sound in the frames: the client's own rate where it divides into frames."""
        return EVEN_RATE if self.rate % FPS else self.rate


@dataclass(frozen=True, slots=True)
class Take:
    """A tick that is due: what shall be drawn."""

    generation: int
    """Counted up by every interrupt."""
    sequence: int
    """Tick of this session, 0-based."""
    due: float
    """When it is to be shown at the earliest, seconds on the caller's clock."""
    window: FloatArray
    """[32, 16, 16] what the generator hears."""
    samples: FloatArray
    """[rate / 25, channels] what is played with it."""
    speaking: bool
    """False: the lips are fully at rest, and ``window`` is the same array at every such tick of this avatar."""
    last: bool
    """Whether the sound of an utterance ends with it."""
    heard_at: float | None
    """When its sound began to arrive; None where that is not to be measured."""


@dataclass(frozen=True, slots=True)
class LiveFrame:
    """One finished tick: a picture and its own 40 ms of sound."""

    generation: int
    """Counted up by every interrupt; frames of an older generation are to be thrown away."""
    sequence: int
    """0-based; a reader that is too slow sees holes."""
    picture: Picture | None
    """What is seen, shared with other sessions; None: not drawn in time, or lost by a slow reader;
    the last picture stays."""
    samples: FloatArray
    """[rate / 25, channels] float32, -1..1."""
    speaking: bool
    """False while the lips are fully at rest."""
    last: bool
    """Whether the sound of an utterance ends with this frame."""
    heard_at: float | None
    """When its sound began to arrive at the server."""

    @property
    def image(self) -> UInt8Array | None:
        """The picture as uint8 [H, W, 3] BGR; not to be changed."""
        return None if self.picture is None else self.picture.bgr

    @property
    def pts_ms(self) -> float:
        """Presentation time of picture and sound, milliseconds since the session began."""
        return self.sequence * FRAME_MS


class Session:
    """The sound, the state and the finished frames of one client.

    Args:
        options: what the client asked for.
        new_voice: makes a Voice of ``options.frame_rate`` and ``options.channels``; one for every utterance.
        rest: [32, 16, 16] the window of lips at rest.
        start: when the first tick is due, seconds on the caller's clock.
        lookahead: of the voices, milliseconds.
        pushed_seconds: pushed sound that may wait.
    """

    def __init__(
        self,
        options: SessionOptions,
        new_voice: Callable[[], Voice],
        rest: FloatArray,
        start: float,
        *,
        lookahead: float,
        pushed_seconds: float = PUSHED_SECONDS,
    ) -> None:
        self.options = options
        self.start = start
        self._lock = Lock()
        rate, channels = options.frame_rate, options.channels
        self._resampler = Resampler(options.rate, rate, channels)
        self._inbox = Inbox(rate, channels, pushed_seconds)
        self._jitter = JitterBuffer(rate, channels)
        self._new_speech: Callable[[], Speech] = lambda: Speech(new_voice(), rate, channels, lookahead)
        self._speech: Speech | None = None
        self._lips = Lips(rest)
        self._silence = np.zeros((rate // FPS, channels), np.float32)
        self._silence.setflags(write=False)
        self._ticks = 0
        self._idle_from: int | None = 0
        self._generation = 0
        self._heard_generation = 0
        self._waiting: deque[LiveFrame] = deque()
        self._interrupted_at = start
        self._latencies: deque[float] = deque(maxlen=_REMEMBERED)
        self.delivered = 0
        """Frames that were finished."""
        self.undrawn = 0
        """Frames among them whose picture was not there in time."""
        self.dropped = 0
        """Finished frames that a slow reader lost."""
        self.pictures_dropped = 0
        """Pictures that it lost while their sound still waited."""
        self.stale_seconds = 0.0
        """The longest time between an interrupt and the leaving of an older frame."""

    # --- the client's side ------------------------------------------------------------------------------------------

    def push(self, samples: FloatArray, now: float, position: int | None = None) -> None:
        """Sound [n, channels] float32 that arrived at ``now``, of any length; values beyond -1..1 are clipped.

        ``position`` counts samples on the source's own clock, where it has one (live mode only).

        Raises:
            ContractError: another shape or type, or values that are not finite; nothing was taken then.
            TooFarAheadError: more pushed sound waits than is allowed; nothing was taken.
        """
        check_samples(samples, self.options.channels)
        if not np.isfinite(samples).all():
            raise ContractError("the sound holds values that are not numbers (NaN or infinity): replace them by zeros")
        live = self.options.mode == "live"
        with self._lock:
            if not live:
                self._inbox.check_room(len(samples) / self.options.rate)
            ready = self._resampler.push(np.clip(samples, -1, 1))
            if not live:
                self._inbox.push(ready, now)
                self._idle_from = None
            else:
                self._jitter.push(ready, now, None if self._resampler.rate != self._resampler.target else position)

    def end(self) -> None:
        """Nothing follows for now: pushed speech is spoken to its end without waiting; harmless in live mode."""
        with self._lock:
            self._inbox.ended = True

    def interrupt(self, now: float) -> int:
        """Forget all sound and all frames that have not left yet; the new generation."""
        with self._lock:
            self._generation += 1
            self._interrupted_at = now
            self._inbox.clear()
            self._jitter.clear()
            self._waiting.clear()
            return self._generation

    @property
    def generation(self) -> int:
        """Interrupts so far."""
        return self._generation

    @property
    def idle_from(self) -> int | None:
        """Pushed speech: the tick from which on nothing remains to be said; None while something does."""
        return self._idle_from

    # --- the engine's side ------------------------------------------------------------------------------------------

    def due(self, now: float) -> list[Take]:
        """The ticks that have become due, in order; listening to their sound happens here."""
        behind = now - self._due(self._ticks)
        if behind > STANDSTILL_SECONDS:
            self.start += behind
        return list(self._takes(now))

    def deliver(self, take: Take, picture: Picture | None) -> None:
        """A finished tick; those of an older generation become a silent frame without a picture, so none is missing."""
        with self._lock:
            old = take.generation != self._generation
            frame = LiveFrame(
                self._generation,
                take.sequence,
                None if old else picture,
                self._silence if old else take.samples,
                take.speaking and not old,
                take.last and not old,
                None if old else take.heard_at,
            )
            self.delivered += 1
            self.undrawn += frame.picture is None
            self._waiting.append(frame)
            self._make_room()

    def _make_room(self) -> None:
        """Pictures go first: they are what takes memory, and sound with holes is worse than a picture that stands."""
        if len(self._waiting) > WAITING_FRAMES:
            self._waiting.popleft()
            self.dropped += 1
        shown = [k for k, frame in enumerate(self._waiting) if frame.picture is not None]
        if len(shown) > WAITING_PICTURES:
            self._waiting[shown[0]] = replace(self._waiting[shown[0]], picture=None)
            self.pictures_dropped += 1

    # --- the reader's side ------------------------------------------------------------------------------------------

    def next(self) -> LiveFrame | None:
        """The oldest finished frame, which is handed out once; None: there is none yet."""
        with self._lock:
            return self._waiting.popleft() if self._waiting else None

    def stale(self, frame: LiveFrame) -> bool:
        """Whether an interrupt came since: such a frame must not leave."""
        return frame.generation != self._generation

    def sent(self, frame: LiveFrame, now: float) -> float | None:
        """``frame`` has left the server; the time from sound in to frame out, if it is one to be measured."""
        if self.stale(frame):
            self.stale_seconds = max(self.stale_seconds, now - self._interrupted_at)
        if frame.heard_at is None:
            return None
        self._latencies.append(now - frame.heard_at)
        return now - frame.heard_at

    def stats(self) -> dict[str, float | int]:
        """Figures for people: counts, sound that waits (seconds), latencies of the last minute (milliseconds)."""
        with self._lock:
            waiting = self._jitter.seconds + self._inbox.seconds
        known = list(self._latencies)
        latencies = {f"latency_ms_p{p}": round(float(np.percentile(known, p)) * 1000, 1) for p in PERCENTILES if known}
        return {
            "generation": self._generation,
            "frames": self.delivered,
            "undrawn": self.undrawn,
            "dropped": self.dropped,
            "pictures_dropped": self.pictures_dropped,
            "sound_waiting_seconds": round(waiting, 3),
            "sound_dropped_seconds": round(self._jitter.dropped / self.options.frame_rate, 3),
            **latencies,
        }

    # --- the way of a tick ------------------------------------------------------------------------------------------

    def _due(self, tick: int) -> float:
        return self.start + tick / FPS

    def _takes(self, now: float) -> Iterator[Take]:
        while self._due(self._ticks) <= now:
            yield self._tick()
            self._ticks += 1

    def _tick(self) -> Take:
        generation = self._generation
        if generation != self._heard_generation:
            self._speech, self._heard_generation = None, generation
        heard = self._live() if self.options.mode == "live" else self._pushed()
        window = self._lips.show(heard.window, self._speech) if heard else self._lips.show(self._lips.rest, None)
        return Take(
            generation,
            self._ticks,
            self._due(self._ticks),
            window,
            heard.samples if heard else self._silence,
            window is not self._lips.rest,
            heard is not None and heard.last,
            heard.heard_at if heard else None,
        )

    def _live(self) -> Heard | None:
        """Each tick takes 40 ms in and, once the look-ahead is full, gives 40 ms out."""
        with self._lock:
            taken = self._jitter.take(self._due(self._ticks))
        if self._speech is None:
            self._speech = self._new_speech()
        self._speech.feed(taken.samples, taken.heard_at)
        return self._speech.next()

    def _pushed(self) -> Heard | None:
        """As much sound is taken in as the next moment needs; None while time waits for it."""
        with self._lock:
            more = self._inbox.seconds > 0
        if more and (self._speech is None or self._speech.said):
            self._speech = self._new_speech()
        if self._speech is None or (self._speech.said and self._lips.resting):
            self._speech = None
            self._note_idle()
            return None
        return self._fed(self._speech)

    def _note_idle(self) -> None:
        with self._lock:
            if self._idle_from is None and not self._inbox.seconds:
                self._idle_from = self._ticks

    def _fed(self, speech: Speech) -> Heard | None:
        while (heard := speech.next()) is None:
            with self._lock:
                if self._generation != self._heard_generation:  # what waits now belongs to the speech after this one
                    return None
                samples, heard_at = self._inbox.take(len(self._silence))
                ended = self._inbox.ended
            if len(samples):
                # Only the beginning of an utterance has a latency: the rest of it waits for its time.
                speech.feed(samples, heard_at if speech.silent else None)
            elif ended or speech.waited >= PATIENCE_TICKS:
                speech.feed_silence(self._silence)
            else:
                speech.waited += 1
                return None
        return heard


@dataclass(frozen=True, slots=True)
class Heard:
    """A moment as a tick plays it."""

    window: FloatArray
    samples: FloatArray
    """[rate / 25, channels]."""
    last: bool
    """Whether the sound given ends with it."""
    heard_at: float | None


class Speech:
    """One stretch of sound on its way through a Voice, with the silence before it and after it.

    It begins with silence, so that the lips open from rest. Its length makes the 40 ms steps in which sound comes end
    just where the look-ahead of a frame is full: nothing waits for the rest of a step.
    """

    def __init__(self, voice: Voice, rate: int, channels: int, lookahead: float) -> None:
        self._voice = voice
        self._rate = rate
        before = FADE_FRAMES * FRAME_MS + (lookahead + _RESAMPLER_MS) % FRAME_MS
        self._moments: deque[Moment] = deque()
        self._arrivals: deque[tuple[int, float | None]] = deque()
        self._fed = self._shown = 0
        self._end = 0
        self.waited = 0
        """Ticks for which it has waited for sound."""
        self.feed_silence(np.zeros((-(-round(before * rate) // 1000), channels), np.float32))

    @property
    def silent(self) -> bool:
        """Whether no sound was given yet."""
        return not self._end

    @property
    def said(self) -> bool:
        """Whether sound was given and all of it has been handed out."""
        return 0 < self._end <= self._shown

    def feed(self, samples: FloatArray, heard_at: float | None) -> None:
        """Sound [n, channels] that arrived at ``heard_at``."""
        self.waited = 0
        self._arrivals.append((self._fed, heard_at))
        self.feed_silence(samples)
        self._end = self._fed

    def feed_silence(self, samples: FloatArray) -> None:
        """Zeros [n, channels] that are no part of what is to be said."""
        self._fed += len(samples)
        self._moments.extend(self._voice.push(samples))

    def next(self) -> Heard | None:
        """The next 40 ms, if what they need is known."""
        if not self._moments:
            return None
        moment = self._moments.popleft()
        said = self.said
        arrival = self._arrival(self._shown, self._shown + len(moment.samples))
        self._shown += len(moment.samples)
        return Heard(moment.window, moment.samples, self.said and not said, arrival)

    def _arrival(self, start: int, stop: int) -> float | None:
        """When sample ``start`` arrived, by the first piece that begins before ``stop``; such pieces are forgotten."""
        begun = []
        while self._arrivals and self._arrivals[0][0] < stop:
            begun.append(self._arrivals.popleft())
        if not begun or begun[0][1] is None:
            return None
        return begun[0][1] - (begun[0][0] - start) / self._rate


class Lips:
    """What the generator hears from tick to tick, without a jump where one stretch of sound ends and another begins.

    Args:
        rest: [32, 16, 16] the window of lips at rest.
    """

    def __init__(self, rest: FloatArray) -> None:
        self.rest = rest
        self._last = self._from = rest
        self._source: object = None
        self._left = 0

    @property
    def resting(self) -> bool:
        """Whether the lips were fully at rest in the last tick."""
        return self._last is self.rest

    def show(self, window: FloatArray, source: object) -> FloatArray:
        """``window``, or something between it and the last one shown where its ``source`` is not that of the last."""
        if source is not self._source:
            self._source, self._from, self._left = source, self._last, FADE_FRAMES
        if self._left:
            share = np.float32(self._left / (FADE_FRAMES + 1))
            window = share * self._from + (1 - share) * window
            self._left -= 1
        self._last = self.rest if np.array_equal(window, self.rest) else window
        return self._last


class Inbox:
    """Pushed sound that waits for its time.

    Args:
        rate: samples a second.
        channels: of the sound.
        most: seconds that may wait.
    """

    def __init__(self, rate: int, channels: int, most: float) -> None:
        self._rate = rate
        self._most = most
        self._nothing = np.empty((0, channels), np.float32)
        self._pieces: deque[tuple[FloatArray, float]] = deque()
        self._held = 0
        self.ended = False
        """Whether the client said that nothing follows for now."""

    @property
    def seconds(self) -> float:
        """Sound held now."""
        return self._held / self._rate

    def check_room(self, seconds: float) -> None:
        """Raise TooFarAheadError unless so much more may come."""
        if self.seconds + seconds > self._most:
            raise TooFarAheadError(
                f"{self.seconds:.1f} s of sound wait to be spoken and {seconds:.1f} s more would be over the limit of "
                f"{self._most:g} s: send them later (nothing of this message was taken)"
            )

    def push(self, samples: FloatArray, now: float) -> None:
        """[n, channels] that arrived at ``now``."""
        if len(samples):
            self._pieces.append((samples, now))
            self._held += len(samples)
            self.ended = False

    def take(self, count: int) -> tuple[FloatArray, float | None]:
        """At most ``count`` of the oldest samples, and when they arrived."""
        if not self._pieces:
            return self._nothing, None
        samples, arrived = self._pieces.popleft()
        if len(samples) > count:
            self._pieces.appendleft((samples[count:], arrived))
        self._held -= len(samples[:count])
        return samples[:count], arrived

    def clear(self) -> None:
        self._pieces.clear()
        self._held = 0
        self.ended = False
