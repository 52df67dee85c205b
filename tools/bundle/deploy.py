"""How long it takes until a number of servers serve: a bundle beside pip, from measured sizes and times.

All copies leave one source over one link; each server starts its own work when its copy is there, and all work at the
same time. So the last one serves after ``servers x bytes / link + work``. With pip the server needs its Python already.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Way:
    """One way to bring lipwright to a server."""

    name: str
    bytes: int
    """Sent to each."""
    work_seconds: float
    """On each, from the arrival until ``serve`` is ready."""

    def seconds(self, servers: int, gigabits: float) -> float:
        """Until the last of ``servers`` is ready, with a source that sends so many Gbit/s."""
        return servers * self.bytes * 8 / (gigabits * 1e9) + self.work_seconds


def ways(tried: Mapping[str, Any]) -> list[Way]:
    """The ways, from what ``python -m tools.bundle --try`` wrote."""
    build = tried["build"]
    forms = {one["form"]: one for one in tried["attempts"]}
    return [
        Way("bundle, one file", build["file_bytes"], _from_nothing(forms["file"])),
        Way("bundle, folder as it is", build["folder_bytes"], _from_nothing(forms["folder"])),
        Way("pip, Python being there", build["wheel_bytes"], build["install_seconds"] + _installed(tried)),
    ]


def _from_nothing(form: Mapping[str, Any]) -> float:
    """The first start: what it took longer than the second, and until the server was ready."""
    return float(max(form["first_frame_seconds"] - form["next_frame_seconds"], 0.0) + form["ready_seconds"])


def _installed(tried: Mapping[str, Any]) -> float:
    return float(tried["installed_ready_seconds"])


def table(found: Sequence[Way], servers: int, links: Sequence[float]) -> list[list[str]]:
    """Head and rows."""
    head = ["way", "MB a server", "work on each, s", *(f"{servers} servers, {link:g} Gbit/s" for link in links)]
    rows = [
        [way.name, f"{way.bytes / 1e6:.0f}", f"{way.work_seconds:.1f}"]
        + [f"{way.seconds(servers, link):.0f} s" for link in links]
        for way in found
    ]
    return [head, *rows]
