"""How much of a long bench is done, and about how long the rest takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from lipwright.bench.measures import Task

#: What starting a process, opening the networks and warming up cost, in frames end to end.
_START = 150
#: What a frame of each kind costs, in frames end to end; the baseline works on one thing after the other.
_FRAME = {"inference": 0.7, "render": 1.0, "baseline": 2.5, "jobs": 1.0}


def cost(task: Task, pixels: float = 1.0) -> float:
    """About how long a task takes, in frames end to end; ``pixels``: of its picture, as a share of the avatar's own."""
    each = _FRAME[task.kind] * (0.5 + 0.5 * pixels)
    return _START + each * task.frames * task.jobs


class Schedule:
    """Where a row of tasks stands.

    Args:
        costs: of each task, in any unit; times are guessed from what the first of them took.
        clock: seconds.
    """

    def __init__(self, costs: Sequence[float], clock: Callable[[], float] = time.monotonic) -> None:
        self._costs = list(costs)
        self._clock = clock
        self._began = clock()

    def words(self, number: int, part: float) -> str:
        """For people; ``part`` (0..1) of task ``number`` (0-based) is done, and all before it."""
        place = f"{number + 1} of {len(self._costs)}"
        done = sum(self._costs[:number]) + part * self._costs[number]
        if done < _START:
            return place
        left = (self._clock() - self._began) * (sum(self._costs) - done) / done
        return f"{place}, {_about(left)} left"


def _about(seconds: float) -> str:
    return f"about {seconds / 60:.0f} min" if seconds > 90 else f"about {max(round(seconds, -1), 10):.0f} s"
