"""A room far behind the person, out of focus: shapes drawn in linear light and blurred by the lens's round opening."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from lipwright.contract import FloatArray
from tools.presenter.colour import linear

Colour = tuple[float, float, float]
#: The room is drawn at this height; what is out of focus needs no more.
_HEIGHT = 360


@dataclass(frozen=True)
class Backdrop:
    """What stands behind the person."""

    wall: Colour = (0.66, 0.64, 0.60)
    low_wall: Colour = (0.52, 0.50, 0.47)
    """Where it meets the floor."""
    blur: float = 0.040
    """Radius, share of the picture's height."""
    window: bool = True
    shelf: bool = True
    """Also what stands beside it."""
    plant: bool = True
    mirrored: bool = False
    """The window is to the right."""
    brightness: float = 1.0
    """Factor on all its light."""

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Backdrop:
        """From ``dataclasses.asdict``, as a script stores it."""
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**plain)


def _box(room: FloatArray, box: tuple[float, float, float, float], colour: Colour, light: float = 1.0) -> None:
    """Fill x1, y1, x2, y2 (shares of the height) with a colour; light above 1 shines."""
    x1, y1, x2, y2 = (round(v * _HEIGHT) for v in box)
    cv2.rectangle(room, (x1, y1), (x2, y2), tuple(map(float, linear(colour) * light)), -1)


def _shelf(room: FloatArray, rng: np.random.Generator, box: tuple[float, float, float, float]) -> None:
    """A bookcase: boards, and books of muted colours."""
    x1, y1, x2, y2 = box
    _box(room, box, (0.30, 0.24, 0.19), 0.7)
    rows = 4
    for row in range(rows):
        top, bottom = y1 + (y2 - y1) * row / rows + 0.02, y1 + (y2 - y1) * (row + 1) / rows - 0.01
        x = x1 + 0.01
        while x < x2 - 0.03:
            width = float(rng.uniform(0.010, 0.030))
            grey, warm = rng.uniform(0.22, 0.72), rng.normal(0, 0.05)
            brown = np.array([grey + warm + 0.03, grey, grey - warm - 0.03])
            tint = np.clip(brown + rng.normal(0, 0.035, 3), 0.08, 0.9)
            height = float(rng.uniform(0.55, 0.95)) * (bottom - top)
            if rng.random() < 0.82:
                _box(room, (x, bottom - height, min(x + width, x2 - 0.01), bottom), (tint[0], tint[1], tint[2]), 0.6)
            x += width + 0.003


def _window(room: FloatArray, box: tuple[float, float, float, float]) -> None:
    """Daylight behind a frame with a crossbar."""
    x1, y1, x2, y2 = box
    _box(room, (x1 - 0.02, y1 - 0.02, x2 + 0.02, y2 + 0.02), (0.80, 0.79, 0.76))
    _box(room, (x1, y1, x2, y1 + 0.62 * (y2 - y1)), (0.84, 0.90, 0.97), 2.1)
    _box(room, (x1, y1 + 0.55 * (y2 - y1), x2, y2), (0.62, 0.68, 0.64), 1.1)
    _box(room, (x1, y1 + 0.72 * (y2 - y1), x2, y2), (0.42, 0.48, 0.38), 1.0)
    middle = (x1 + x2) / 2
    _box(room, (middle - 0.008, y1, middle + 0.008, y2), (0.80, 0.79, 0.76))


def _plant(room: FloatArray, rng: np.random.Generator, x: float, y: float) -> None:
    """Leaves that hang from a point."""
    for _ in range(46):
        angle, length = rng.uniform(-1.4, 1.4), rng.uniform(0.06, 0.19)
        end = (x + np.sin(angle) * length, y - np.cos(angle) * length * rng.uniform(0.4, 1.1))
        tint = linear((0.24, 0.31, 0.21)) * rng.uniform(0.5, 1.9)
        a, b = ((round(p[0] * _HEIGHT), round(p[1] * _HEIGHT)) for p in ((x, y), end))
        cv2.line(room, a, b, tuple(map(float, tint)), 5, cv2.LINE_AA)
    _box(room, (x - 0.045, y, x + 0.045, y + 0.10), (0.72, 0.62, 0.52))


def _aperture(radius: float) -> FloatArray:
    """Kernel of a round opening, brighter at its rim as real lenses are."""
    size = 2 * int(np.ceil(radius)) + 1
    y, x = np.mgrid[:size, :size] - size // 2
    r = np.hypot(x, y)
    disc = np.clip(radius + 0.5 - r, 0, 1) * (0.8 + 0.35 * (r / radius) ** 4)
    return np.asarray(disc / disc.sum(), dtype=np.float32)


def room(width: int, height: int, seed: int, backdrop: Backdrop | None = None) -> FloatArray:
    """[height, width, 3] RGB, linear light: what the camera sees behind the person; None: the usual room."""
    backdrop = backdrop or Backdrop()
    rng = np.random.default_rng(seed)
    wide = width / height
    down = np.linspace(0, 1, _HEIGHT, dtype=np.float32)[:, None, None]
    wall = linear(backdrop.wall) * (1 - down) + linear(backdrop.low_wall) * down
    picture = np.ascontiguousarray(np.repeat(wall, round(_HEIGHT * wide), axis=1), dtype=np.float32)
    across = np.linspace(0, 1, picture.shape[1], dtype=np.float32)[None, :, None]
    # the window lights the wall beside it, a lamp the other end
    picture *= 0.36 + 0.50 * (1 - across) ** 1.5 + 0.20 * np.exp(-(((across - 0.85) / 0.25) ** 2))
    picture *= 1 - 0.25 * down**2
    _furnish(picture, rng, backdrop, wide)
    if backdrop.mirrored:
        picture = np.ascontiguousarray(picture[:, ::-1])
    blurred = cv2.filter2D(picture, -1, _aperture(backdrop.blur * _HEIGHT), borderType=cv2.BORDER_REPLICATE)
    whole = cv2.resize(blurred, (width, height), interpolation=cv2.INTER_CUBIC).clip(0) * backdrop.brightness
    return np.asarray(whole, dtype=np.float32)


def _furnish(picture: FloatArray, rng: np.random.Generator, backdrop: Backdrop, wide: float) -> None:
    """Draw what stands in a room that is ``wide`` times as wide as high."""
    if backdrop.window:
        _window(picture, (0.05, -0.05, 0.40, 0.62))
    if backdrop.shelf:
        _shelf(picture, rng, (wide - 0.46, 0.12, wide - 0.04, 1.02))
        _box(picture, (wide - 0.70, 0.16, wide - 0.52, 0.40), (0.35, 0.34, 0.32))
        _box(picture, (wide - 0.685, 0.18, wide - 0.535, 0.38), (0.62, 0.55, 0.45), 0.7)
    if backdrop.plant:
        _box(picture, (0.0, 0.80, 0.55, 1.0), (0.36, 0.29, 0.23), 0.7)
        _plant(picture, rng, 0.50, 0.72)
    x, y, light = wide - 0.20, 0.06, 2.6
    cv2.circle(picture, (round(x * _HEIGHT), round(y * _HEIGHT)), 5, (light, 0.8 * light, 0.55 * light), -1)
