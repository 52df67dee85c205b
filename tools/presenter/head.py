"""The head model on disk: positions, triangles, texture coordinates, parts, expressions, identities, landmarks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lipwright.contract import FloatArray
from lipwright.errors import LipwrightError
from tools.presenter.arrays import BoolArray, IntArray

PARTS = (
    *("face", "head_neck", "mouth_socket", "eye_socket_L", "eye_socket_R", "gums_tongue", "teeth"),
    *("sclera_L", "iris_L", "sclera_R", "iris_R", "lacrimal_L", "lacrimal_R", "eye_blend_L", "eye_blend_R"),
    *("eye_occl_L", "eye_occl_R", "lashes_L", "lashes_R"),
)
SKIN = ("face", "head_neck", "mouth_socket", "eye_socket_L", "eye_socket_R")
SIDES = ("L", "R")
#: Landmarks (68-point scheme) of the inner upper and lower lip, each above the other; their mean distance is the gap.
UPPER_LIP, LOWER_LIP = (61, 62, 63), (67, 66, 65)
#: The same of the lids.
UPPER_LID, LOWER_LID = {"R": (37, 38), "L": (43, 44)}, {"R": (41, 40), "L": (47, 46)}
#: Vertices of the skin that are nearer than this (cm) are one: parts are modelled apart along their borders.
_WELD = 2e-3
#: What the file calls each field.
_KEYS = {
    "neutral": "neutral",
    "corners": "tri",
    "triangle_part": "tri_part",
    "position_of": "rv2v",
    "uv": "uv",
    "vertex_part": "vert_part",
    "part_names": "part_names",
    "expression_names": "expr_names",
    "expressions": "expr",
    "identities": "identity",
    "landmarks": "landmarks68",
}


@dataclass(frozen=True)
class HeadModel:
    """A head of V positions, R render vertices (a position with one texture coordinate) and T triangles.

    Centimetres; x to the head's left, y up, z to the front.
    """

    neutral: FloatArray
    """[V, 3]."""
    corners: IntArray
    """[T, 3] render vertices."""
    triangle_part: npt.NDArray[np.uint8]
    """[T] index into ``part_names``."""
    position_of: IntArray
    """[R] position of each render vertex."""
    uv: FloatArray
    """[R, 2] u and v (upwards); the whole part of u counts texture tiles."""
    vertex_part: npt.NDArray[np.uint8]
    """[V]."""
    part_names: tuple[str, ...]
    expression_names: tuple[str, ...]
    expressions: FloatArray
    """[E, V, 3] what each expression adds to ``neutral`` at full strength."""
    identities: FloatArray
    """[I, V, 3]."""
    landmarks: IntArray
    """[68] positions."""

    @classmethod
    def load(cls, path: Path) -> HeadModel:
        """Read the file of ``convert_head``.

        Raises:
            LipwrightError: no such file, or not such a file.
        """
        remedy = "make one with `python -m tools.presenter.convert_head FaceXModel head.npz`"
        try:
            with np.load(path) as file:
                fields = {name: file[key] for name, key in _KEYS.items()}
        except FileNotFoundError as error:
            raise LipwrightError(f"{path} is missing: {remedy}") from error
        except (KeyError, ValueError, OSError) as error:
            raise LipwrightError(f"{path} is no head model ({error}): {remedy}") from error
        for name in ("part_names", "expression_names"):
            fields[name] = tuple(str(s) for s in fields[name])
        for name in ("expressions", "identities"):
            fields[name] = fields[name].astype(np.float32)
        return cls(**fields)

    def save(self, path: Path) -> None:
        """Write the file; expressions and identities as float16."""
        fields = {key: np.asarray(getattr(self, name)) for name, key in _KEYS.items()}
        for key in ("expr", "identity"):
            fields[key] = fields[key].astype(np.float16)
        part = path.with_suffix(".part.npz")
        np.savez_compressed(part, allow_pickle=False, **fields)
        part.replace(path)

    @cached_property
    def triangles(self) -> IntArray:
        """[T, 3] positions."""
        return self.position_of[self.corners]

    @cached_property
    def welded(self) -> IntArray:
        """[V] number of the welded vertex, from 0."""
        keys = np.round(self.neutral / _WELD).astype(np.int64)
        apart = ~self.vertices_of(*SKIN)
        keys[apart] += (np.arange(len(keys))[apart] + 10**6)[:, None]
        found = np.unique(keys, axis=0, return_inverse=True)[1]
        return np.asarray(found.ravel(), dtype=np.int32)

    def vertices_of(self, *parts: str) -> BoolArray:
        """[V] which positions belong to the parts."""
        return np.isin(self.vertex_part, self._numbers(parts))

    def triangles_of(self, *parts: str) -> BoolArray:
        """[T] which triangles belong to the parts."""
        return np.isin(self.triangle_part, self._numbers(parts))

    def _numbers(self, parts: tuple[str, ...]) -> list[int]:
        return [self.part_names.index(p) for p in parts]
