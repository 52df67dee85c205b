"""Counts and times of the server, and how Prometheus reads them (text format 0.0.4)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from threading import Lock

import numpy as np

#: Of every series of times so many are remembered for its percentiles.
REMEMBERED = 1500
QUANTILES = (0.5, 0.95, 0.99)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

#: name -> (type, help). Everything that is counted has its line here.
COUNTERS = {
    "lipwright_sessions_opened_total": "Sessions that were opened.",
    "lipwright_sessions_refused_total": "Sessions that were refused because the server was full.",
    "lipwright_sessions_lost_total": "Sessions whose client gave no sign of life any more.",
    "lipwright_frames_total": "Frames that were finished.",
    "lipwright_frames_undrawn_total": "Frames whose picture was not drawn in time: sound alone.",
    "lipwright_frames_dropped_total": "Finished frames that slow readers lost.",
    "lipwright_draw_errors_total": "Calls of the generator that failed.",
    "lipwright_jobs_total": "Render jobs that were accepted.",
    "lipwright_requests_refused_total": "Requests refused by host, origin, token or rate.",
}
TIMES = {
    "lipwright_latency_seconds": "From the arrival of a frame's sound to its leaving, last frames of live sessions.",
    "lipwright_draw_seconds": "One call of the generator.",
    "lipwright_lateness_seconds": "From the moment a frame was due to the end of its drawing.",
}


@dataclass(frozen=True, slots=True)
class Gauge:
    """A value of the moment."""

    name: str
    help: str
    value: float


class Metrics:
    """All figures of one server; every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._counts = dict.fromkeys(COUNTERS, 0.0)
        self._times: dict[str, deque[float]] = {name: deque(maxlen=REMEMBERED) for name in TIMES}
        self._observed: dict[str, tuple[int, float]] = dict.fromkeys(TIMES, (0, 0.0))

    def count(self, name: str, amount: float = 1) -> None:
        """Add to a counter."""
        with self._lock:
            self._counts[name] += amount

    def observe(self, name: str, seconds: float) -> None:
        """Add a time to a series."""
        with self._lock:
            self._times[name].append(seconds)
            number, total = self._observed[name]
            self._observed[name] = (number + 1, total + seconds)

    def value(self, name: str) -> float:
        """A counter's value."""
        with self._lock:
            return self._counts[name]

    def quantiles(self, name: str) -> Mapping[float, float]:
        """Percentiles of the last times of a series, seconds; empty while there is none."""
        with self._lock:
            times = list(self._times[name])
        if not times:
            return {}
        return dict(zip(QUANTILES, np.quantile(times, QUANTILES).tolist(), strict=True))

    def text(self, gauges: Iterable[Gauge]) -> str:
        """Everything in Prometheus' text format; ``gauges`` are asked for by the caller."""
        with self._lock:
            counts, observed = dict(self._counts), dict(self._observed)
        lines = []
        for name, value in counts.items():
            lines += [f"# HELP {name} {COUNTERS[name]}", f"# TYPE {name} counter", f"{name} {value:g}"]
        for gauge in gauges:
            lines += [
                f"# HELP {gauge.name} {gauge.help}",
                f"# TYPE {gauge.name} gauge",
                f"{gauge.name} {gauge.value:g}",
            ]
        for name, (number, total) in observed.items():
            lines += [f"# HELP {name} {TIMES[name]}", f"# TYPE {name} summary"]
            lines += [f'{name}{{quantile="{q:g}"}} {value:.6f}' for q, value in self.quantiles(name).items()]
            lines += [f"{name}_sum {total:.6f}", f"{name}_count {number}"]
        return "\n".join(lines) + "\n"
