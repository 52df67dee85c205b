"""Scalp hair and brows: where they grow, and how they lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from lipwright.contract import FloatArray
from tools.presenter.arrays import f32
from tools.presenter.colour import linear
from tools.presenter.figure import Figure
from tools.presenter.head import SIDES
from tools.presenter.mesh import normalised, smoothstep
from tools.presenter.noise import Noise
from tools.presenter.strands import POINTS, Roots, Strands, scatter

#: Height of the hairline (cm, on the mean head) by the angle from the front, in degrees.
_ANGLES = (0, 12, 24, 34, 42, 50, 58, 66, 76, 88, 100, 112, 125, 140, 180)
_HEIGHTS = (10.1, 10.2, 10.35, 10.0, 8.5, 7.3, 6.2, 4.8, 2.4, 4.2, 5.2, 2.4, -2.2, -4.4, -5.0)
#: The middle of the skull on the mean head.
_SKULL = np.array([0, 3.5, -1.0], np.float32)
_TABLE = (48, 96)
#: Brow landmarks of the left and the right eye, from the temple to the nose.
_BROWS = {"R": tuple(range(17, 22)), "L": tuple(range(26, 21, -1))}
#: Where the hair of the tied style meets.
_KNOT = np.array([0, 5.0, -13.0], np.float32)
_CLUMP = 0.55
"""cm."""

Steer = Callable[[FloatArray, FloatArray], FloatArray]
"""Positions and the way run so far (0..1) -> wanted direction."""


@dataclass(frozen=True)
class Start:
    """Where n hairs leave the skin."""

    root: FloatArray
    """[n, 3] cm."""
    normal: FloatArray
    """[n, 3] of the skin."""
    place: FloatArray
    """[n, 3] the root on the mean head."""
    inside: FloatArray
    """[n] cm past the hairline."""


def past_hairline(figure: Figure, noise: Noise, points: FloatArray) -> FloatArray:
    """[n] cm by which points on the mean head [n, 3] lie inside the hair; negative: on bare skin."""
    x, y, z = np.abs(points[:, 0]), points[:, 1], points[:, 2]
    angle = np.degrees(np.arctan2(x, z + 0.5))
    ragged = 0.9 * (noise.at(points, 0.9) - 0.5) + 0.6 * (noise.at(points, 2.7) - 0.5)
    line = np.interp(angle, _ANGLES, _HEIGHTS) - figure.person.hair.hairline * (angle < 60)
    found = y + 0.6 * ragged - line
    ear = (x > 8.0) & (y < 4.8) & (z > -3.5)
    return np.where(ear, -9.0, found).astype(np.float32)


class Skull:
    """The head as a distance from its middle for every direction: keeps hairs outside."""

    def __init__(self, positions: FloatArray) -> None:
        self.middle = _SKULL
        v, u, r = self._polar(positions)
        table = np.zeros(_TABLE, np.float32)
        np.maximum.at(table, (v.astype(int).clip(0, _TABLE[0] - 1), u.astype(int) % _TABLE[1]), r)
        holes = (table == 0).astype(np.uint8)
        whole = cv2.inpaint((table * 10).astype(np.uint8), holes, 3, cv2.INPAINT_TELEA).astype(np.float32) / 10
        self._table = cv2.GaussianBlur(whole, (0, 0), 1.0, borderType=cv2.BORDER_REPLICATE)

    def _polar(self, points: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        q = points - self.middle
        r = np.linalg.norm(q, axis=-1)
        v = np.arccos((q[..., 1] / np.maximum(r, 1e-6)).clip(-1, 1)) / np.pi * _TABLE[0]
        u = (np.arctan2(q[..., 0], q[..., 2]) / (2 * np.pi) + 0.5) * _TABLE[1]
        return v, u, r

    def outside(self, points: FloatArray, margin: FloatArray) -> FloatArray:
        """Points [n, 3] pushed out until they stand ``margin`` [n] cm off."""
        v, u, r = self._polar(points)
        row, column = (v - 0.5).clip(0, _TABLE[0] - 1.001), (u - 0.5) % _TABLE[1]
        i, j = row.astype(int), column.astype(int)
        f, g = row - i, column - j
        beside = (j + 1) % _TABLE[1]
        near = self._table[i, j] * (1 - g) + self._table[i, beside] * g
        far = self._table[i + 1, j] * (1 - g) + self._table[i + 1, beside] * g
        surface = near * (1 - f) + far * f
        factor = np.maximum((surface + margin) / np.maximum(r, 1e-6), 1)
        return np.asarray(self.middle + (points - self.middle) * factor[:, None], dtype=np.float32)


def grown(root: FloatArray, first: FloatArray, length: FloatArray, steer: Steer, stiffness: float) -> FloatArray:
    """[n, POINTS, 3] strands that leave ``root`` along ``first`` and turn to where ``steer`` wants them."""
    points, direction = [root], first
    for k in range(1, POINTS):
        wanted = steer(points[-1], np.full(len(root), k / (POINTS - 1), np.float32))
        direction = normalised(stiffness * direction + (1 - stiffness) * wanted)
        points.append(f32(points[-1] + direction * (length / (POINTS - 1))[:, None]))
    return np.stack(points, axis=1)


def clumped(points: FloatArray, places: FloatArray, noise: Noise, strength: float) -> FloatArray:
    """Tips drawn together with those that grow beside them, as washed hair does."""
    cells = np.floor(places / _CLUMP + 2.0 * noise.vectors(places, 0.8)).astype(np.int64)
    group = np.unique(cells, axis=0, return_inverse=True)[1].ravel()
    counts = np.bincount(group).astype(np.float32)[:, None]
    tips = points[:, -1]
    mean = np.stack([np.bincount(group, tips[:, k]) for k in range(3)], axis=1) / counts
    pull = strength * np.linspace(0, 1, POINTS, dtype=np.float32) ** 1.5
    return np.asarray(points + pull[None, :, None] * (mean[group] - tips)[:, None], dtype=np.float32)


def scalp_hair(rng: np.random.Generator, figure: Figure, noise: Noise) -> Strands:
    """The hair of the head."""
    style = _STYLES[figure.person.hair.style]

    def density(points: FloatArray) -> FloatArray:
        return smoothstep(-0.55, 0.9, past_hairline(figure, noise, points)) ** 1.5

    triangles = figure.head.triangles_of("face", "head_neck")
    roots = scatter(rng, figure, triangles, figure.person.hair.strands, density)
    normals = normalised(roots.of(figure.surface.normals(figure.rest)))
    seen = normals[:, 2] + 0.12 * normals[:, 1] > -0.45
    roots, normals = roots.chosen(seen), normals[seen]
    places = roots.of(figure.head.neutral)
    inside = past_hairline(figure, noise, places)
    points = style(rng, figure, noise, Start(roots.of(figure.rest), normals, places, inside))
    thin = 0.45 + 0.55 * smoothstep(-0.4, 1.2, inside)
    width = 0.0125 * thin * rng.uniform(0.7, 1.25, len(thin))
    tuft = 0.5 * (noise.at(places, 0.7) - 0.5) + 0.9 * (noise.at(places, 2.6) - 0.5)
    shade = np.exp(rng.normal(0, 0.30, (len(thin), 1)) + tuft[:, None])
    colour = linear(figure.person.hair.colour) * shade * np.array([1, 0.98, 0.96]) ** rng.normal(0, 2, (len(thin), 1))
    return Strands(roots, points, f32(width), f32(colour))


def _short(rng: np.random.Generator, figure: Figure, noise: Noise, start: Start) -> FloatArray:
    """Combed back and to the side on top, down at the sides."""
    n, place = len(start.root), start.place
    x, y, z = place.T
    side = smoothstep(4.2, 7.5, np.abs(x)) * smoothstep(12.6, 10.0, y)
    down = np.clip(side + smoothstep(0, -6, z), 0, 1)[:, None]
    wave = noise.vectors(place, 0.22) * 1.1 + noise.vectors(place, 0.8) * 0.9
    top = np.array([0.42, 0.16, -0.88], np.float32) + wave
    low = np.stack([0.12 * np.sign(x), np.full(n, -1.0), np.full(n, -0.55)], axis=1) + 0.35 * wave
    comb = normalised(top * (1 - down) + low * down + rng.normal(0, 0.13, (n, 3)).astype(np.float32))
    length = np.interp(y, [-5, 2, 6, 9.5, 12], [0.5, 0.8, 1.3, 3.0, 3.7]) * rng.uniform(0.65, 1.15, n)
    length = (length * smoothstep(-0.7, 1.6, start.inside)).clip(0.35)
    stand = np.interp(y, [2, 7, 10.5, 13], [0.12, 0.3, 1.05, 0.85]) * (1 - 0.6 * down[:, 0])
    first = normalised(start.normal * stand[:, None] + comb * 0.5)

    def steer(points: FloatArray, way: FloatArray) -> FloatArray:
        return comb - 0.22 * way[:, None] * np.array([0, 1, 0], np.float32)

    points = clumped(grown(start.root, first, length, steer, 0.62), start.root, noise, 0.35)
    return _off_the_skin(points, figure, length, 0.10)


def _tied(rng: np.random.Generator, figure: Figure, noise: Noise, start: Start) -> FloatArray:
    """Combed to a knot behind the head, with a parting in the middle and a few hairs that got loose."""
    n, place = len(start.root), start.place
    parting = np.exp(-((place[:, 0] / 0.35) ** 2)) * smoothstep(7, 10, place[:, 1])
    wave = 0.10 * noise.vectors(place, 0.5) + 0.10 * noise.vectors(place, 1.6)
    length = (7.0 * smoothstep(-0.8, 0.8, start.inside)).clip(0.6) * rng.uniform(0.8, 1.1, n)
    sides = np.stack([np.sign(place[:, 0]) * 0.55, np.zeros(n), np.zeros(n)], axis=1)
    loose = (rng.random(n) < 0.012)[:, None] * rng.normal(0, 0.5, (n, 3))

    def steer(points: FloatArray, way: FloatArray) -> FloatArray:
        aside = sides * (1 - way)[:, None] * (points[:, 1:2] > 8)
        return f32(normalised(_KNOT - points) + aside + wave + loose)

    first = normalised(start.normal * (0.75 - 0.5 * parting)[:, None] + steer(start.root, np.zeros(n, np.float32)))
    points = grown(start.root, first, f32(length), steer, 0.45)
    return _off_the_skin(clumped(points, start.root, noise, 0.30), figure, f32(length), 0.32)


def _off_the_skin(points: FloatArray, figure: Figure, length: FloatArray, height: float) -> FloatArray:
    """Every point but the root held above the skull, longer hairs higher."""
    skull = Skull(figure.rest)
    for k in range(1, POINTS):
        margin = (height * k / (POINTS - 1) * np.minimum(length, 2)).astype(np.float32)
        points[:, k] = skull.outside(points[:, k], margin)
    return points


_STYLES = {"short": _short, "tied": _tied}


def curve(knots: FloatArray, count: int) -> FloatArray:
    """[count, d] points of a Catmull-Rom spline through the knots [k, d]."""
    padded = np.concatenate([2 * knots[:1] - knots[1:2], knots, 2 * knots[-1:] - knots[-2:-1]])
    t = np.linspace(0, len(knots) - 1, count)
    i = np.minimum(t.astype(int), len(knots) - 2)
    f = (t - i)[:, None]
    p0, p1, p2, p3 = (padded[i + k] for k in range(4))
    bend = 2 * p0 - 5 * p1 + 4 * p2 - p3
    swing = -p0 + 3 * p1 - 3 * p2 + p3
    return np.asarray(0.5 * (2 * p1 + (p2 - p0) * f + bend * f**2 + swing * f**3), dtype=np.float32)


def brow_place(figure: Figure, side: str, points: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Where points [n, 3] of the mean head lie in the brow: along it 0 temple .. 1 nose, and cm above its middle."""
    line = curve(figure.head.neutral[figure.head.landmarks[list(_BROWS[side])]], 60)[:, :2]
    line[:, 1] -= 0.36  # the landmarks run along the upper edge
    apart = points[:, None, :2] - line[None]
    nearest = np.linalg.norm(apart, axis=2).argmin(axis=1)
    here = apart[np.arange(len(points)), nearest]
    distance = np.linalg.norm(here, axis=1)
    along = (
        nearest / (len(line) - 1)
        + np.where(nearest == 59, distance * 0.3, 0)
        - np.where(nearest == 0, distance * 0.3, 0)
    )
    return along.astype(np.float32), (np.sign(here[:, 1]) * distance).astype(np.float32)


def brow_density(figure: Figure, noise: Noise, side: str, points: FloatArray) -> FloatArray:
    """[n] 0..1 how many hairs grow at points of the mean head: dense in the middle, ragged at the edges."""
    along, above = brow_place(figure, side, points)
    half = np.interp(along, [0, 0.12, 0.5, 0.85, 1.0], [0.07, 0.14, 0.27, 0.34, 0.30]) * figure.person.hair.brow_height
    ragged = above + 0.16 * (noise.at(points, 3.0) - 0.5) + 0.10 * (noise.at(points, 7.0) - 0.5)
    body = smoothstep(1.25, 0.45, np.abs(ragged) / half)
    ends = smoothstep(-0.03, 0.10, along) * smoothstep(1.10, 0.86, along)
    own_side = points[:, 0] > 0 if side == "L" else points[:, 0] < 0
    return np.asarray((0.035 * smoothstep(2.2, 1.0, np.abs(above) / half) + body) * ends * own_side, dtype=np.float32)


def brows(rng: np.random.Generator, figure: Figure, noise: Noise) -> list[Strands]:
    """Each brow in three layers: down below, the hairs that one sees, and strays."""
    layers = ((0.45, 0.6, 0.0050, 1.4), (0.50, 1.0, 0.0075, 0.9), (0.05, 1.1, 0.0060, 1.1))
    return [_brow_layer(rng, figure, noise, side, layer) for side in SIDES for layer in layers]


def _brow_layer(
    rng: np.random.Generator, figure: Figure, noise: Noise, side: str, layer: tuple[float, float, float, float]
) -> Strands:
    share, long, width, light = layer

    def density(points: FloatArray) -> FloatArray:
        return brow_density(figure, noise, side, points)

    count = round(share * figure.person.hair.brow_strands)
    roots: Roots = scatter(rng, figure, figure.head.triangles_of("face"), count, density)
    along, above = brow_place(figure, side, roots.of(figure.head.neutral))
    n = len(along)
    normal = normalised(roots.of(figure.surface.normals(figure.rest)))
    outward = np.interp(along, [0, 0.6, 0.85, 1], [1, 0.95, 0.6, 0.25]) * (1 if side == "L" else -1)
    upward = np.interp(along, [0, 0.3, 0.6, 0.85, 1], [-0.35, -0.1, 0.12, 0.45, 0.85]) - 0.9 * above
    wild = np.stack([outward, upward, np.full(n, -0.15)], axis=1) + rng.normal(0, 0.16, (n, 3))
    lie = normalised(wild - (wild * normal).sum(axis=1, keepdims=True) * normal)
    length = np.interp(along, [0, 0.5, 0.9, 1], [0.36, 0.58, 0.52, 0.40]) * long * rng.uniform(0.65, 1.15, n)
    bow = np.linspace(0, 1, POINTS, dtype=np.float32)[None, :, None]
    lift = normal[:, None] * 0.22 * (bow - 0.75 * bow**2)
    points = f32(roots.of(figure.rest)[:, None] + length[:, None, None] * (lift + lie[:, None] * bow))
    shade = light * np.exp(rng.normal(0, 0.25, (n, 1)))
    colour = linear(figure.person.hair.brow_colour) * shade
    return Strands(roots, points, f32(width * rng.uniform(0.7, 1.2, n)), f32(colour))
