"""How many sessions a machine holds at 25 fps: what a frame costs, measured at the start, and sums over it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import median

from lipwright.contract import FRAME_MS

#: Sizes of a call of the generator that are tried, in this order.
BATCHES = (1, 2, 4, 8)
#: A larger batch is tried further only if a frame in it costs at most this share of one in the batch before.
WORTH = 0.95
#: Runs of which the median counts.
RUNS = 5
#: Sessions that are counted at most.
MOST = 256
#: Share of the 40 ms that sessions may fill: the rest is for the doors and for what a measurement does not see.
SHARE = 0.9


@dataclass(frozen=True)
class Costs:
    """Milliseconds that the frames of one avatar cost."""

    shared_ms: float
    """Once a tick for all sessions of the avatar: the template frame, decoded and cut."""
    own_ms: float
    """For every session: listening, putting the mouth into the picture, compressing it."""
    draw_ms: tuple[tuple[int, float], ...]
    """Batch size and what a call of the generator on it costs, from the smallest on."""

    def tick_ms(self, sessions: int) -> float:
        """What one tick of so many speaking sessions costs at best."""
        if not sessions:
            return 0.0
        return self.shared_ms + sessions * self.own_ms + _draw_ms(self.draw_ms, sessions)

    def batch(self, waiting: int) -> int:
        """How many of ``waiting`` frames (1 or more) the next call of the generator shall draw."""
        fitting = [(ms / size, -size) for size, ms in self.draw_ms if size <= waiting]
        return -min(fitting)[1]

    @property
    def single_ms(self) -> float:
        """A call of the generator on one frame."""
        return self.draw_ms[0][1]


@cache
def _draw_ms(draw_ms: tuple[tuple[int, float], ...], frames: int) -> float:
    """The cheapest way to draw so many frames with calls of the measured sizes."""
    best = [0.0]
    for count in range(1, frames + 1):
        best.append(min(ms + best[max(count - size, 0)] for size, ms in draw_ms))
    return best[frames]


def capacity(costs: Sequence[Costs]) -> int:
    """Speaking sessions that fit into a tick if they are all of the avatar that costs most; at least 1.

    A machine that is too slow for one session still serves one, at fewer pictures a second.
    """
    sessions = 1
    while sessions < MOST and all(cost.tick_ms(sessions + 1) <= SHARE * FRAME_MS for cost in costs):
        sessions += 1
    return sessions


def fits(load: Sequence[tuple[Costs, int]]) -> bool:
    """Whether so many sessions of each avatar fit into a tick together; one alone always does."""
    if sum(sessions for _, sessions in load) <= 1:
        return True
    return sum(costs.tick_ms(sessions) for costs, sessions in load) <= SHARE * FRAME_MS


def measured_ms(work: Callable[[], object]) -> float:
    """Median time of ``work`` in milliseconds, after one run that warms it up."""
    work()
    return median(_once(work) for _ in range(RUNS))


def _once(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def quicker(one: Sequence[tuple[int, float]], other: Sequence[tuple[int, float]]) -> tuple[tuple[int, float], ...]:
    """Of two ways to call the generator the quicker one for every size; sizes that are no gain are left out."""
    best: list[tuple[int, float]] = []
    for size, ms in sorted([*one, *other]):
        if not best or ms / size < best[-1][1] / best[-1][0]:
            best.append((size, ms))
    return tuple(best)


def measure_batches(draw: Callable[[int], object]) -> tuple[tuple[int, float], ...]:
    """Cost of ``draw(batch)`` for the batch sizes that are worth it."""
    found = [(BATCHES[0], measured_ms(lambda: draw(BATCHES[0])))]
    for size in BATCHES[1:]:
        cost = measured_ms(lambda size=size: draw(size))  # type: ignore[misc]
        if cost / size > WORTH * found[-1][1] / found[-1][0]:
            break
        found.append((size, cost))
    return tuple(found)
