"""The jitter buffer of a microphone: sound comes in bursts and by another clock, and leaves 40 ms a tick by ours."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from lipwright.contract import FPS, FloatArray

#: Sound that must be there before the first tick plays, or the first after a gap: a frame, a packet of 20 ms, and
#: what is kept in hand.
FILL_SECONDS = 0.07
#: What is kept in hand beyond a frame and the longest packet, counted from the latest one: seconds.
SPARE_SECONDS = 0.010
#: More than this in hand for a whole second is too late a sound: its oldest part is dropped, seconds.
MOST_SECONDS = 0.2
#: Sound held at most, whatever happens: seconds.
HARD_SECONDS = 2.0
#: What stood in the buffer in the last second counts, and how late packets were in the last five.
SEEN_TICKS = FPS
LATE_TICKS = 5 * FPS
#: Steering begins when this much less, or this much more, is in hand than shall be, seconds.
TOLERANCE_SECONDS = (0.006, 0.011)
#: How much of a frame is stretched or pressed while steering: 0.16 %, 16 times a clock that is wrong by 100 ppm.
STEER = 1 / 640


@dataclass(frozen=True, slots=True)
class Taken:
    """What one tick plays."""

    samples: FloatArray
    """[rate / 25, channels] -1..1."""
    heard_at: float | None
    """When its first sample arrived, seconds on the caller's clock; None where it is silence for want of sound."""


class JitterBuffer:
    """Holds a live source's sound between its arrival and the tick that plays it.

    Ticks take 40 ms each. Where there is not enough, a whole tick of silence is played and the buffer fills up again,
    so it adapts to any packet size up to a second. The source's clock may be wrong: the latest of the packets of the
    last five seconds tell by when a sample has surely come, and frames are stretched or pressed by 0.16 % (linear
    interpolation) until there are a frame, a packet and 10 ms in hand. A burst after a stall would make everything
    later than it need be: its oldest part is dropped.

    Args:
        rate: samples a second; a multiple of 25.
        channels: of the sound.
    """

    def __init__(self, rate: int, channels: int) -> None:
        self._rate = rate
        self._frame = rate // FPS
        self._steer = max(1, round(self._frame * STEER))
        self._pieces: deque[tuple[FloatArray, float]] = deque()
        self._channels = channels
        self._received = 0
        self._gone = 0
        self._levels: deque[int] = deque(maxlen=SEEN_TICKS)
        # The latest and the longest packet of every tick: arrival less the source's time of its end, and length.
        self._latest: deque[float] = deque(maxlen=LATE_TICKS)
        self._longest: deque[float] = deque(maxlen=LATE_TICKS)
        self._new: list[tuple[float, float]] = []
        self._filling = True
        self._expected: int | None = None
        self.dropped = 0
        """Samples thrown away because they came too late or too many."""

    @property
    def seconds(self) -> float:
        """Sound held now."""
        return self._held / self._rate

    def push(self, samples: FloatArray, now: float, position: int | None = None) -> None:
        """[n, channels] that arrived at ``now``; ``position`` counts samples on the source's own clock.

        A gap of up to a second in the positions becomes silence, what was heard already is dropped, and a larger step
        starts a new count. Without positions every piece follows the last.
        """
        samples = self._placed(samples, position)
        if len(samples):
            self._pieces.append((samples, now))
            self._received += len(samples)
            self._new.append((now - self._received / self._rate, len(samples) / self._rate))
        self._drop(self._held - round(HARD_SECONDS * self._rate))

    def take(self, now: float) -> Taken:
        """The 40 ms that are played at ``now``."""
        self._look()
        least = round(FILL_SECONDS * self._rate) if self._filling else self._frame + self._steer
        if self._held < least:
            self._refill()
            return Taken(np.zeros((self._frame, self._channels), np.float32), None)
        self._filling = False
        self._catch_up()
        correction = self._correction(now)
        heard_at = self._pieces[0][1]
        return Taken(_stretched(self._cut(self._frame + correction), self._frame), heard_at)

    def clear(self) -> None:
        """Forget what is held; the next sound fills the buffer anew."""
        self._pieces.clear()
        self._gone = self._received
        self._refill()

    @property
    def _held(self) -> int:
        return self._received - self._gone

    def _refill(self) -> None:
        self._filling = True
        self._levels.clear()

    def _placed(self, samples: FloatArray, position: int | None) -> FloatArray:
        if position is None:
            return samples
        gap = 0 if self._expected is None else position - self._expected
        end = position + len(samples)
        if abs(gap) > self._rate:
            gap = 0
            self._expected = end
        self._expected = end if self._expected is None else max(end, self._expected)
        if gap < 0:
            self.dropped += min(-gap, len(samples))
            return samples[-gap:]
        silence = np.zeros((gap, samples.shape[1]), np.float32)
        return np.concatenate([silence, samples]) if gap else samples

    def _catch_up(self) -> None:
        self._levels.append(self._held)
        surplus = min(self._levels) - round(FILL_SECONDS * self._rate)
        if len(self._levels) == SEEN_TICKS and surplus > (MOST_SECONDS - FILL_SECONDS) * self._rate:
            self._drop(surplus)
            self._levels.clear()

    def _look(self) -> None:
        """Note how the packets since the last tick came."""
        if self._new:
            latest, longest = map(max, zip(*self._new, strict=True))
            self._latest.append(latest)
            self._longest.append(longest)
            self._new = []

    def _correction(self, now: float) -> int:
        """Samples to take beyond a frame (negative: fewer), so that as much as needed is in hand."""
        if len(self._levels) < SEEN_TICKS:
            return 0
        sure = now - max(self._latest) - self._gone / self._rate
        distance = sure - 1 / FPS - max(self._longest) - SPARE_SECONDS
        if -TOLERANCE_SECONDS[0] <= distance <= TOLERANCE_SECONDS[1]:
            return 0
        return self._steer if distance > 0 else -self._steer

    def _drop(self, count: int) -> None:
        if count > 0:
            self.dropped += count
            self._cut(count)

    def _cut(self, count: int) -> FloatArray:
        """The oldest ``count`` samples."""
        self._gone += count
        parts = []
        while count:
            samples, heard_at = self._pieces.popleft()
            parts.append(samples[:count])
            if len(samples) > count:
                self._pieces.appendleft((samples[count:], heard_at))
            count -= len(parts[-1])
        return np.concatenate(parts)


def _stretched(samples: FloatArray, length: int) -> FloatArray:
    """[n, channels] in ``length`` samples, by linear interpolation."""
    if len(samples) == length:
        return samples
    at = np.linspace(0, len(samples) - 1, length)
    columns = [np.interp(at, np.arange(len(samples)), column) for column in samples.T]
    return np.stack(columns, axis=1).astype(np.float32)
