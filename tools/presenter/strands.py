"""Hairs: thin ribbons rooted in the skin, and the lashes, which follow the model's own lash cards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lipwright.contract import FloatArray
from tools.presenter.arrays import BoolArray, IntArray, Reals
from tools.presenter.figure import Figure
from tools.presenter.head import SIDES

#: Points of every strand.
POINTS = 8
_LASH_COLOUR = 0.006
#: Sparse triangles are still drawn this often, and so many times new places are drawn until there are enough.
_LEAST_DENSITY, _SCATTER_ROUNDS = 0.02, 12
#: Lashes of each card, their length as shares of the card, their width in cm: of the upper and of the lower lid.
_UPPER_LASHES = (54, 0.55, 0.95, 0.0080)
_LOWER_LASHES = (18, 0.30, 0.60, 0.0050)


@dataclass(frozen=True)
class Roots:
    """n places on the skin."""

    triangles: IntArray
    """[n, 3] positions."""
    weights: FloatArray
    """[n, 3] barycentric."""

    def of(self, values: Reals) -> FloatArray:
        """Values [V, c] of positions, interpolated: [n, c]."""
        return np.asarray(np.einsum("nk,nkc->nc", self.weights, values[self.triangles]), dtype=np.float32)

    def chosen(self, which: BoolArray) -> Roots:
        """A part of them."""
        return Roots(self.triangles[which], self.weights[which])


@dataclass(frozen=True)
class Strands:
    """n hairs of the person at rest."""

    roots: Roots
    points: FloatArray
    """[n, POINTS, 3] cm."""
    width: FloatArray
    """[n] half a hair's width at its root, cm."""
    colour: FloatArray
    """[n, 3] linear."""

    @classmethod
    def join(cls, parts: list[Strands]) -> Strands:
        """All of them in one."""
        roots = Roots(
            np.concatenate([p.roots.triangles for p in parts]), np.concatenate([p.roots.weights for p in parts])
        )
        return cls(
            roots,
            np.concatenate([p.points for p in parts]).astype(np.float32),
            np.concatenate([p.width for p in parts]).astype(np.float32),
            np.concatenate([p.colour for p in parts]).astype(np.float32),
        )


@dataclass(frozen=True)
class Lashes:
    """n lashes whose every point lies on a triangle of the lash cards, so that they close with the lids."""

    triangles: IntArray
    """[n, POINTS, 3] positions."""
    weights: FloatArray
    """[n, POINTS, 3] barycentric."""
    width: FloatArray
    """[n] cm."""

    def of(self, positions: FloatArray) -> FloatArray:
        """[n, POINTS, 3] in space."""
        return np.asarray(np.einsum("nkj,nkjd->nkd", self.weights, positions[self.triangles]), dtype=np.float32)

    @property
    def colour(self) -> FloatArray:
        """[n, 3] linear."""
        return np.full((len(self.width), 3), _LASH_COLOUR, np.float32)


Density = Callable[[FloatArray], FloatArray]


def scatter(rng: np.random.Generator, figure: Figure, triangles: BoolArray, count: int, density: Density) -> Roots:
    """``count`` roots on the chosen triangles [T]; ``density`` of positions on the mean head [n, 3] -> 0..1."""
    chosen = figure.head.triangles[triangles]
    a, b, c = (figure.rest[chosen[:, k]] for k in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    # drawn by the density in the middle of each triangle, then kept by what it is at the very place
    guess = density(figure.head.neutral[chosen].mean(axis=1)).clip(_LEAST_DENSITY)
    share = area * guess / (area * guess).sum()
    kept: list[Roots] = []
    for _ in range(_SCATTER_ROUNDS):
        drawn = rng.choice(len(chosen), count, p=share)
        roots = Roots(chosen[drawn], rng.dirichlet([1, 1, 1], count).astype(np.float32))
        kept.append(roots.chosen(rng.random(count) * guess[drawn] < density(roots.of(figure.head.neutral))))
        if sum(len(r.triangles) for r in kept) >= count:
            break
    both = (np.concatenate([getattr(r, name) for r in kept])[:count] for name in ("triangles", "weights"))
    return Roots(*both)


def lashes(rng: np.random.Generator, figure: Figure) -> Lashes:
    """The lashes of both eyes."""
    parts = [
        _card(rng, figure, side, card)
        for side in SIDES
        for card in _cards(figure.head.corners[figure.head.triangles_of(f"lashes_{side}")])
    ]
    if not parts:
        return Lashes(np.zeros((0, POINTS, 3), np.int32), np.zeros((0, POINTS, 3), np.float32), np.zeros(0, np.float32))
    triangles, weights, width = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Lashes(triangles, weights, width)


def _cards(corners: IntArray) -> list[IntArray]:
    """Triangles [T, 3] taken apart into connected pieces."""
    label = corners.min(axis=1)
    lowest = np.arange(int(corners.max(initial=-1)) + 1)
    while True:
        np.minimum.at(lowest, corners.ravel(), np.repeat(label, 3))
        spread = lowest[corners].min(axis=1)
        if np.array_equal(spread, label):
            return [corners[label == k] for k in np.unique(label)]
        label = spread


def _card(
    rng: np.random.Generator, figure: Figure, side: str, card: IntArray
) -> tuple[IntArray, FloatArray, FloatArray]:
    """Lashes across one card: along v of its texture coordinates from the end that is at the eyeball."""
    head = figure.head
    used = np.unique(card)
    low, high = head.uv[used].min(axis=0), head.uv[used].max(axis=0)
    where = figure.rest[head.position_of[used]]
    eye = figure.eyes[side].centre
    v = (head.uv[used, 1] - low[1]) / (high[1] - low[1])
    distance = np.linalg.norm(where - eye, axis=1)
    turned = distance[v < 0.1].mean() > distance[v > 0.9].mean()
    count, shortest, longest, width = _UPPER_LASHES if where[:, 1].mean() > eye[1] - 0.05 else _LOWER_LASHES
    length = rng.uniform(shortest, longest, count) * min(figure.person.hair.lash_length, 1 / longest)
    along = np.linspace(0, 1, POINTS)[None] * length[:, None]
    across = (np.arange(count) + rng.random(count)) / count
    across = (across[:, None] + rng.normal(0, 0.02, count)[:, None] * np.linspace(0, 1, POINTS)).clip(0.003, 0.997)
    uv = np.stack([across, (1 - along if turned else along) * 0.994 + 0.003], axis=-1) * (high - low) + low
    found, weights = locate(head.uv[card], uv.reshape(-1, 2))
    triangles = head.position_of[card[found]].reshape(count, POINTS, 3)
    return triangles, weights.reshape(count, POINTS, 3), np.full(count, width, np.float32)


def locate(triangles: FloatArray, points: FloatArray) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """In which of the plane triangles [t, 3, 2] each point [n, 2] lies (or is nearest to lying), and its weights."""
    a, b, c = triangles[:, 0], triangles[:, 1], triangles[:, 2]
    edges = np.stack([b - a, c - a], axis=-1).astype(np.float64)
    inverse = np.linalg.pinv(edges)
    st = np.einsum("tij,ntj->nti", inverse, points[:, None] - a[None])
    weights = np.concatenate([1 - st.sum(axis=-1, keepdims=True), st], axis=-1)
    found = np.clip(-weights, 0, None).sum(axis=-1).argmin(axis=1)
    return found, weights[np.arange(len(points)), found].astype(np.float32)
