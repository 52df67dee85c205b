"""A knitted crew-neck jumper: rings from the collar over the shoulders down to below the picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lipwright.contract import FloatArray
from tools.presenter.arrays import IntArray, f32
from tools.presenter.colour import linear
from tools.presenter.figure import Figure, Pose
from tools.presenter.mesh import Surface, smoothstep
from tools.presenter.noise import Noise

_AROUND, _DOWN = 128, 56
#: Rings by the way down, 0 collar .. 1 hem: half width, half depth, height at the sides, in front, behind (cm).
_WAY = (0, 0.03, 0.06, 0.09, 0.18, 0.40, 0.62, 0.78, 1)
_WIDTH = (6.45, 6.8, 7.0, 6.95, 9.6, 16.0, 20.2, 22.4, 23.4)
_DEPTH = (6.1, 6.5, 6.75, 6.6, 7.9, 9.6, 10.6, 11.2, 11.8)
_SIDE = (-10.9, -10.5, -10.7, -11.3, -13.0, -15.9, -18.8, -23.0, -45)
_FRONT = (-14.2, -13.7, -13.9, -14.7, -17.4, -23.0, -29.0, -35.0, -48)
_BACK = (-8.4, -8.1, -8.3, -8.9, -11.5, -16.0, -24.0, -32.0, -48)
_MIDDLE = ((0, 0.1, 0.4, 1), (-1.7, -1.7, -1.6, -1.0))
_SQUARENESS = ((0, 0.1, 0.5, 1), (1.0, 1.0, 0.8, 0.7))
#: Down to here the knit is the collar's rib.
_COLLAR = 0.095
#: The collar's upper edge, how far it stands off the neck, and what counts as beside a point of it (cm).
_COLLAR_RING, _EASE, _NEAR_CM = 2, 0.38, 0.9


@dataclass(frozen=True)
class Clothes:
    """N vertices at rest."""

    points: FloatArray
    """[N, 3] cm."""
    normals: FloatArray
    """[N, 3]."""
    triangles: IntArray
    """[T, 3]."""
    colour: FloatArray
    """[N, 3] linear."""
    uv: FloatArray
    """[N, 2] around and down, in stitches."""
    chest: FloatArray
    """[N] how much breath moves each vertex."""

    def posed(self, pose: Pose) -> FloatArray:
        """[N, 3] moved by body and breath: the chest rises and comes forward."""
        rise = np.array([0, 0.22, 0.30], np.float32) * pose.breath
        return np.asarray(self.points + pose.shift + self.chest[:, None] * rise, dtype=np.float32)


def smooth_table(x: FloatArray, at: tuple[float, ...], values: tuple[float, ...]) -> FloatArray:
    """Cubic through the values that never overshoots them (Fritsch & Carlson 1980, harmonic slopes)."""
    a, v = np.asarray(at, np.float64), np.asarray(values, np.float64)
    step, rise = np.diff(a), np.diff(v) / np.diff(a)
    product = rise[:-1] * rise[1:]
    inner = np.where(product > 0, 2 * product / np.where(product > 0, rise[:-1] + rise[1:], 1), 0)
    slope = np.concatenate([rise[:1], inner, rise[-1:]])
    i = np.clip(np.searchsorted(a, x, side="right") - 1, 0, len(step) - 1)
    t = (x - a[i]) / step[i]
    along = (1 + 2 * t) * (1 - t) ** 2 * v[i] + t**2 * (3 - 2 * t) * v[i + 1]
    bend = t * (1 - t) ** 2 * slope[i] - t**2 * (1 - t) * slope[i + 1]
    return np.asarray(along + step[i] * bend, dtype=np.float32)


def _fit(figure: Figure, rings: FloatArray) -> FloatArray:
    """[_AROUND] factor on the collar's radius that brings it _EASE cm off this person's neck."""
    collar = rings[_COLLAR_RING]
    neck = figure.rest[figure.head.vertices_of("face", "head_neck")]
    middle = collar.mean(axis=0)[[0, 2]]
    factor = np.ones(_AROUND)
    for k, point in enumerate(collar):
        outwards = point[[0, 2]] - middle
        reach = float(np.linalg.norm(outwards))
        beside = neck[np.abs(neck[:, 1] - point[1]) < _NEAR_CM][:, [0, 2]] - middle
        along = beside @ outwards / reach
        across = np.abs(beside @ (outwards[::-1] * (1, -1)) / reach)
        here = (across < _NEAR_CM) & (along > 0) & (along < 1.25 * reach)
        if here.any():
            factor[k] = (along[here].max() + _EASE) / reach
    steps = np.arange(-12, 13)
    kernel = np.exp(-0.5 * (steps / 4) ** 2)
    wrapped = np.concatenate([factor[-12:], factor, factor[:12]])
    return np.convolve(wrapped, kernel / kernel.sum(), "valid").astype(np.float32)


def _rings() -> FloatArray:
    """[_DOWN, _AROUND, 3] the cloth before it folds, on a mean neck."""
    way = np.linspace(0, 1, _DOWN, dtype=np.float32)
    angle = np.linspace(0, 2 * np.pi, _AROUND, endpoint=False)
    cosine, sine = np.cos(angle)[None], np.sin(angle)[None]
    table = {n: smooth_table(way, _WAY, v)[:, None] for n, v in (("s", _SIDE), ("f", _FRONT), ("b", _BACK))}
    width, depth = (smooth_table(way, _WAY, values)[:, None] for values in (_WIDTH, _DEPTH))
    middle, square = (smooth_table(way, *pair)[:, None] for pair in (_MIDDLE, _SQUARENESS))
    x = width * np.sign(cosine) * np.abs(cosine) ** square
    z = middle + depth * np.sign(sine) * np.abs(sine) ** square
    beside = np.abs(cosine) ** 1.6
    y = table["s"] * beside + np.where(sine > 0, table["f"], table["b"]) * (1 - beside)
    return np.stack([x, y, z], axis=-1).astype(np.float32)


def _fitted(figure: Figure) -> FloatArray:
    """The rings with the collar at this person's neck."""
    rings = _rings()
    way = np.linspace(0, 1, _DOWN, dtype=np.float32)
    factor = 1 + smoothstep(0.42, 0.08, way)[:, None] * (_fit(figure, rings) - 1)
    middle = rings.mean(axis=1, keepdims=True)[..., [0, 2]]
    rings[..., [0, 2]] = middle + factor[..., None] * (rings[..., [0, 2]] - middle)
    return rings


def _grid() -> IntArray:
    """[T, 3] triangles of the rings, each ring closed."""
    row, column = (np.arange(_DOWN - 1) * _AROUND)[:, None], np.arange(_AROUND)[None]
    following = (column + 1) % _AROUND
    a, b, c, d = row + column, row + following, row + _AROUND + column, row + _AROUND + following
    pair = np.stack([a, b, c, b, d, c], axis=-1)
    return np.asarray(pair.reshape(-1, 3), dtype=np.int32)


def jumper(figure: Figure, noise: Noise) -> Clothes:
    """The jumper of a person."""
    rings = _fitted(figure)
    way = np.repeat(np.linspace(0, 1, _DOWN, dtype=np.float32), _AROUND)
    points = rings.reshape(-1, 3)
    # folds run from the arm pits towards the collar
    slant = points * f32([0.10, 0.30, 0.10]) + points[:, :1] * f32([[0, 0.12, 0]]) * np.sign(points[:, :1])
    fold = noise.fractal(slant + 100, 1.0, 3) - 0.5
    loose = smoothstep(0.12, 0.4, way)
    points[:, 2] += 4.2 * fold * loose
    points[:, 1] += 1.2 * fold * loose
    triangles = _grid()
    normals = Surface(triangles, np.arange(len(points), dtype=np.int32)).normals(points)
    if (normals * (points - f32([0, -25, -1.5]))).sum() < 0:
        normals, triangles = -normals, triangles[:, ::-1].copy()
    colour = np.repeat(linear(figure.person.cloth)[None], len(points), axis=0)
    colour[way < _COLLAR] *= 0.9
    uv = np.stack([np.tile(np.linspace(0, 2 * np.pi, _AROUND, endpoint=False), _DOWN) * 20, way * 60], axis=1)
    chest = smoothstep(0.02, 0.30, way) * (0.4 + 0.6 * smoothstep(-6, 4, points[:, 2]))
    return Clothes(points, normals, triangles, colour.astype(np.float32), uv.astype(np.float32), chest)
