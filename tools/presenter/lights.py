"""The light of the room: many small distant lights, so that shadows are as soft as those of windows and lamps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lipwright.contract import FloatArray
from tools.presenter.arrays import IntArray, f32

_GOLDEN = 2.39996
"""Radians between neighbours on a spiral that fills a disc or a sphere evenly."""
#: Key, fill, rim and the room itself.
GROUPS = 4
KEY, FILL, RIM, ROOM = range(GROUPS)


@dataclass(frozen=True)
class Lamp:
    """A window, a bright wall, a lamp: light from a disc far away."""

    towards: tuple[float, float, float]
    """Direction from the head to it, of any length."""
    spread: float
    """Half width of the disc, radians: how soft its shadows are."""
    colour: tuple[float, float, float]
    """Linear."""
    strength: float

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Lamp:
        """From ``dataclasses.asdict``, as a script stores it."""
        (x, y, z), (r, g, b) = values["towards"], values["colour"]
        return cls((x, y, z), values["spread"], (r, g, b), values["strength"])


@dataclass(frozen=True)
class Light:
    """What lights a room; as it is: a large window to the left, a bright wall to the right, a lamp behind."""

    key: Lamp = field(default_factory=lambda: Lamp((-0.62, 0.40, 0.70), 0.46, (1.0, 0.965, 0.92), 2.25))
    fill: Lamp = field(default_factory=lambda: Lamp((0.85, 0.05, 0.60), 0.55, (1.0, 0.93, 0.84), 0.42))
    rim: Lamp = field(default_factory=lambda: Lamp((0.70, 0.50, -0.62), 0.30, (1.0, 0.88, 0.72), 0.65))
    room: float = 0.40
    """Strength of what comes from everywhere."""

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Light:
        """From ``dataclasses.asdict``, as a script stores it."""
        key, fill, rim = (Lamp.from_json(values[name]) for name in ("key", "fill", "rim"))
        return cls(key, fill, rim, values["room"])


@dataclass(frozen=True)
class Lights:
    """n directional lights."""

    direction: FloatArray
    """[n, 3] towards the light, unit."""
    colour: FloatArray
    """[n, 3] linear."""
    group: IntArray
    """[n] KEY, FILL, RIM or ROOM."""

    def lamps(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Key, fill and rim as one lamp each, for highlights: direction [3, 3], colour [3, 3], size [3] radians."""
        rows = []
        for group in (KEY, FILL, RIM):
            mine = self.group == group
            mean = self.direction[mine].mean(axis=0)
            length = float(np.linalg.norm(mean))
            rows.append((mean / length, self.colour[mine].sum(axis=0), 2 * np.sqrt(max(0.0, 1 - length))))
        direction, colour, size = zip(*rows, strict=True)
        return f32(direction), f32(colour), f32(size)


def _spot(lamp: Lamp, count: int) -> list[FloatArray]:
    """``count`` lights in the lamp's disc, as rows of direction and colour."""
    middle, colour = np.asarray(lamp.towards) / np.linalg.norm(lamp.towards), f32(lamp.colour) * lamp.strength
    across = np.cross(middle, [0, 1, 0])
    across /= np.linalg.norm(across)
    up = np.cross(across, middle)
    rows = []
    for k in range(count):
        r, angle = lamp.spread * np.sqrt((k + 0.5) / count), k * _GOLDEN
        d = middle + across * r * np.cos(angle) + up * r * np.sin(angle)
        rows.append(np.concatenate([d / np.linalg.norm(d), colour / count]))
    return rows


def _dome(count: int, strength: float) -> list[FloatArray]:
    """Light from everywhere: bluish ceiling, warm floor, darker behind."""
    rows = []
    for k in range(count):
        y = 1 - 2 * (k + 0.5) / count
        r, angle = np.sqrt(1 - y * y), k * _GOLDEN
        d = np.array([r * np.cos(angle), y, r * np.sin(angle)])
        colour = np.array([0.95, 0.98, 1.02]) * (0.72 + 0.38 * y) + np.array([0.10, 0.05, 0.01]) * (y < 0)
        behind = np.interp(d[2], [-1, 0.2, 1], [0.55, 0.9, 1.1])
        rows.append(np.concatenate([d, colour * behind * strength * 4 / count]))
    return rows


def room_light(light: Light | None = None) -> Lights:
    """The lights of a room; None: of the usual one."""
    light = light or Light()
    groups = (_spot(light.key, 16), _spot(light.fill, 6), _spot(light.rim, 5), _dome(18, light.room))
    rows = np.array([row for group in groups for row in group], np.float32)
    number = np.repeat(np.arange(GROUPS, dtype=np.int32), [len(g) for g in groups])
    return Lights(rows[:, :3], rows[:, 3:], number)
