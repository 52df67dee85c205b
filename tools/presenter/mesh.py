"""Meshes that move: normals and averages over neighbours, as sums over lists of incidences."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lipwright.contract import FloatArray
from tools.presenter.arrays import BoolArray, IntArray, Reals


@dataclass(frozen=True)
class Incidence:
    """For each of n targets a list of sources whose values are summed."""

    sources: IntArray
    """[m] sources, those of target 0 first."""
    starts: IntArray
    """[k] where the list of each target that has one begins."""
    targets: IntArray
    """[k] the targets that have a list."""
    count: int
    """n."""

    @classmethod
    def of(cls, targets: IntArray, sources: IntArray, count: int) -> Incidence:
        """From pairs [m] of a target and a source, in any order."""
        order = np.argsort(targets, kind="stable")
        named, starts = np.unique(targets[order], return_index=True)
        return cls(sources[order], starts.astype(np.int32), named.astype(np.int32), count)

    def sums(self, values: FloatArray) -> FloatArray:
        """[sources, c] -> [n, c]; a target without sources gets 0."""
        found = np.zeros((self.count, values.shape[1]), np.float32)
        found[self.targets] = np.add.reduceat(values[self.sources], self.starts, axis=0)
        return found


def normalised(vectors: Reals) -> FloatArray:
    """[..., 3] to length 1; what has no length stays 0."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-9), dtype=np.float32)


class Surface:
    """A triangle mesh whose positions change and whose triangles do not.

    Args:
        triangles: [T, 3] positions.
        welded: [V] number of the vertex that each position is part of.
    """

    def __init__(self, triangles: IntArray, welded: IntArray) -> None:
        self.triangles, self.welded = triangles, welded
        count = int(welded.max()) + 1
        corners = welded[triangles]
        faces = np.repeat(np.arange(len(triangles), dtype=np.int32), 3)
        self._faces = Incidence.of(corners.ravel(), faces, count)
        edges = np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [2, 0]]])
        edges = np.unique(np.concatenate([edges, edges[:, ::-1]]), axis=0)
        self._ring = Incidence.of(edges[:, 0], edges[:, 1], count)
        self._degree = np.bincount(edges[:, 0], minlength=count).astype(np.float32)[:, None]
        self.first = np.zeros(count, np.int32)
        self.first[welded[::-1]] = np.arange(len(welded), dtype=np.int32)[::-1]

    def normals(self, positions: FloatArray) -> FloatArray:
        """[V, 3] unit normals, weighted by area."""
        a, b, c = (positions[self.triangles[:, k]] for k in range(3))
        return normalised(self._faces.sums(np.cross(b - a, c - a)))[self.welded]

    def spread(self, values: FloatArray, own: float = 2.0) -> FloatArray:
        """One step of diffusion of values [welded, c]: the mean of ``own`` times itself and its neighbours."""
        return np.asarray((self._ring.sums(values) + own * values) / (self._degree + own), dtype=np.float32)

    def cavity(self, positions: FloatArray, steps: int) -> FloatArray:
        """[V] how deep (cm, positive inwards) each position lies below the mean of its surroundings."""
        here = positions[self.first]
        around = here
        for _ in range(steps):
            around = self.spread(around)
        normals = self.normals(positions)[self.first]
        return np.asarray(((around - here) * normals).sum(axis=1)[self.welded], dtype=np.float32)

    def boundary(self, chosen: BoolArray) -> BoolArray:
        """[V] positions on the rim of the chosen triangles [T]."""
        corners = self.welded[self.triangles[chosen]]
        edges = np.sort(np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [2, 0]]]), axis=1)
        named, counts = np.unique(edges, axis=0, return_counts=True)
        rim = np.zeros(len(self.first), bool)
        rim[named[counts == 1]] = True
        return np.asarray(rim[self.welded])


def smoothstep(low: float, high: float, x: Reals) -> FloatArray:
    """0 at ``low``, 1 at ``high`` (which may be the smaller one), smooth between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), dtype=np.float32)


def rotation(vector: Reals) -> FloatArray:
    """[3, 3] rotation by the length (radians) of ``vector`` [3] about its direction (Rodrigues)."""
    angle = float(np.linalg.norm(vector))
    x, y, z = np.asarray(vector, np.float64) / max(angle, 1e-12)
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k, dtype=np.float32)


def bent(points: FloatArray, weight: FloatArray, vector: FloatArray, pivot: FloatArray) -> FloatArray:
    """Turn points [n, 3] about ``pivot`` [3] by ``weight`` [n] times the rotation ``vector`` [3]: how a neck bends."""
    angle = float(np.linalg.norm(vector))
    axis = np.asarray(vector, np.float32) / max(angle, 1e-12)
    q = points - pivot
    c, s = np.cos(weight * angle)[:, None], np.sin(weight * angle)[:, None]
    turned = q * c + np.cross(axis[None], q) * s + axis * (q @ axis)[:, None] * (1 - c)
    return np.asarray(turned + pivot, dtype=np.float32)
