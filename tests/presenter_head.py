"""A small head that tests make themselves: an egg with eyes, teeth and a tongue, in the format of the real model."""

from __future__ import annotations

import numpy as np

from lipwright.contract import FloatArray
from tools.presenter.arrays import IntArray, f32
from tools.presenter.head import PARTS, HeadModel

_ROWS, _COLUMNS = 42, 48
_MIDDLE = np.array([0, 0, 0.0])
_RADII = np.array([7.5, 14.0, 11.0])
_EYE = np.array([3.1, 3.5, 8.0])
_MOUTH = -3.4
#: The inner lips are two rows of vertices this far above and below the mouth.
_LIP = 0.02
#: Where the 68 landmarks lie on the front, cm: jaw, brows, nose, eyes, lips.
_JAW = [(7.3 * np.sin(a), 3.5 - 11 * np.cos(a)) for a in np.linspace(-np.pi / 2, np.pi / 2, 17)]
_BROW = [(x, 6.2 - 0.05 * (x - 3) ** 2) for x in (5.8, 4.9, 3.8, 2.4, 1.2)]
_NOSE = [*((0, y) for y in (3.7, 2.6, 1.6, 0.4)), *((x, -1.1) for x in (-1.2, -0.6, 0, 0.6, 1.2))]
_EYES = [(4.4, 3.4), (3.8, 3.9), (2.7, 3.9), (1.8, 3.3), (2.7, 3.0), (3.8, 3.0)]
_OUTER = [(-2.5, 0), (-1.7, 0.6), (-0.7, 1), (0, 0.9), (0.7, 1), (1.7, 0.6), (2.5, 0), (1.7, -0.6), (1, -0.9)]
_OUTER += [(0, -1), (-1, -0.9), (-1.7, -0.6)]
_INNER = [(-2.2, 0), *((x, _LIP) for x in (-1, 0, 1)), (2.2, 0), *((x, -_LIP) for x in (1, 0, -1))]


def _grid(rows: int, columns: int) -> IntArray:
    """[T, 3] triangles of a sheet of rows x columns vertices."""
    i = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)[None]).ravel()
    both = np.concatenate([[i, i + 1, i + columns], [i + 1, i + columns + 1, i + columns]], axis=1).T
    return np.asarray(both, dtype=np.int32)


def _egg(front: bool) -> FloatArray:
    """Front or back half of the head as a sheet [_ROWS * _COLUMNS, 3]."""
    lips = np.arccos(np.array([_MOUTH + _LIP, _MOUTH - _LIP]) / _RADII[1])
    height = np.sort(np.concatenate([np.linspace(0.02, 0.98, _ROWS - 2) * np.pi, lips]))[:, None]
    angle = np.linspace(-np.pi / 2, np.pi / 2, _COLUMNS)[None] + (0 if front else np.pi)
    x, y, z = np.sin(height) * np.sin(angle), np.cos(height) + 0 * angle, np.sin(height) * np.cos(angle)
    return f32(np.stack([x, y, z], -1).reshape(-1, 3) * _RADII + _MIDDLE)


def _patch(middle: FloatArray, radius: float, bulge: float = 0.0) -> FloatArray:
    """A half sphere [81, 3] that looks forwards, with a cornea if ``bulge``."""
    a = np.linspace(-1.3, 1.3, 9)
    v, u = np.meshgrid(a, a, indexing="ij")
    out = np.stack([np.sin(u) * np.cos(v), -np.sin(v), np.cos(u) * np.cos(v)], -1).reshape(-1, 3)
    far = radius + bulge * np.exp(-((np.arccos(out[:, 2].clip(-1, 1)) / 0.3) ** 2))
    return f32(middle + out * far[:, None])


def _sheets() -> list[tuple[FloatArray, tuple[int, int]]]:
    """Vertices and grid size of each of PARTS."""
    small = (9, 9)
    left, right = f32(_EYE), f32(_EYE * (-1, 1, 1))
    mouth = f32([0, _MOUTH, 7.5])
    rim = {"L": left, "R": right}
    sheets = [(_egg(True), (_ROWS, _COLUMNS)), (_egg(False), (_ROWS, _COLUMNS))]
    sheets += [(_patch(mouth, 2.0) * f32([1, 1, -1]) + f32([0, 0, 14]), small)]
    sheets += [(_patch(rim[s], 1.2), small) for s in "LR"]
    sheets += [(_patch(mouth, 1.5), small), (_patch(mouth + f32([0, 0.4, 1.2]), 1.2), small)]
    sheets += [(_patch(rim[s], r, b), small) for s in "LR" for r, b in ((1.5, 0.15), (1.3, 0.0))]
    for radius in (1.52, 1.53, 1.54):
        sheets += [(_patch(rim[s], radius), small) for s in "LR"]
    sheets += [(_patch(rim[s] + f32([0, 0.4, 0.4]), 1.6), small) for s in "LR"]
    return sheets


def _landmarks(face: FloatArray) -> IntArray:
    """[68] the vertices of the face nearest to where the landmarks shall be."""
    mirrored = [(-x, y) for x, y in _BROW]
    right_eye = [(-x, y) for x, y in _EYES]
    left_eye = [_EYES[k] for k in (3, 2, 1, 0, 5, 4)]
    lips = [(x, y + _MOUTH) for x, y in (*_OUTER, *_INNER)]
    wanted = f32([*_JAW, *mirrored, *_BROW[::-1], *_NOSE, *right_eye, *left_eye, *lips])
    distance = np.linalg.norm(face[None, :, :2] - wanted[:, None], axis=2)
    return np.asarray(distance.argmin(axis=1), dtype=np.int32)


def _expressions(points: FloatArray) -> dict[str, FloatArray]:
    """Every channel that the animation drives, as a simple displacement of what it is named after."""
    x, y, z = points.T
    front = (z > 5).astype(np.float32)
    # displacements of the lips as large as the real model's: see _GAP_CM of tools/speech/articulation.py
    across = front * np.exp(-((x / 3) ** 4))
    low = across * (y < _MOUTH) * np.exp(-(((y - _MOUTH) / 1.5) ** 2))
    high = across * (y > _MOUTH) * np.exp(-(((y - _MOUTH) / 1.5) ** 2))
    up = f32([0, 1, 0])
    found = {
        "jawOpen": -2.89 * low[:, None] * up,
        "mouthClose": 3.72 * low[:, None] * up,
        "mouthFunnel": 0.54 * (high - low)[:, None] * up,
        "mouthPucker": (high + low)[:, None] * f32([0, 0, 0.7]),
        "mouthRollLower": 0.25 * low[:, None] * up,
        "mouthRollUpper": 0.16 * high[:, None] * up,
        "mouthShrugLower": 0.64 * low[:, None] * up,
    }
    for side, sign in (("L", 1), ("R", -1)):
        half = np.where(np.abs(x) < 0.3, 0.5, x * sign > 0).astype(np.float32)
        lid = half * np.exp(-(((x * sign - 3.1) / 1.6) ** 2)) * (z > 5)
        for name, move in (
            ("mouthLowerDown", -0.58 * low),
            ("mouthUpperUp", 0.70 * high),
            ("mouthStretch", 0.01 * low),
            ("mouthSmile", 0.05 * (low + high)),
            ("mouthPress", -0.22 * high),
            ("cheekSquint", 0.0 * low),
            ("eyeBlink", -0.9 * lid * np.exp(-(((y - 3.9) / 0.4) ** 2))),
            ("eyeSquint", 0.1 * lid * np.exp(-(((y - 3.0) / 0.4) ** 2))),
            ("browInnerUp", 0.5 * lid * np.exp(-(((y - 6.2) / 0.8) ** 2))),
            ("browOuterUp", 0.5 * lid * np.exp(-(((y - 6.2) / 0.8) ** 2))),
            ("browDown", -0.4 * lid * np.exp(-(((y - 6.2) / 0.8) ** 2))),
            *((f"eyeLook{way}", 0.0 * lid) for way in ("Up", "Down", "In", "Out")),
        ):
            found[f"{name}_{side}"] = (half * move)[:, None] * up
    return {name: f32(delta) for name, delta in found.items()}


def _outwards(sheet: FloatArray, grid: IntArray) -> IntArray:
    """The triangles of a bulging sheet, turned so that they look outwards."""
    a, b, c = sheet[grid[len(grid) // 2]]
    outwards = (a + b + c) / 3 - sheet.mean(axis=0)
    turned = float(np.cross(b - a, c - a) @ outwards) < 0
    return np.ascontiguousarray(grid[:, ::-1] if turned else grid, dtype=np.int32)


def make_head(identities: int = 20) -> HeadModel:
    """About 5,000 vertices; the same every time."""
    sheets = _sheets()
    neutral = np.concatenate([sheet for sheet, _ in sheets])
    corners, uv, offset = [], [], 0
    for number, (sheet, (rows, columns)) in enumerate(sheets):
        corners.append(_outwards(sheet, _grid(rows, columns)) + offset)
        offset += len(sheet)
        v, u = np.meshgrid(np.linspace(0.98, 0.02, rows), np.linspace(0.02, 0.98, columns), indexing="ij")
        uv.append(np.stack([u.ravel() + min(number, 1), v.ravel()], axis=1))
    expressions = _expressions(neutral)
    direction = np.random.default_rng(0).normal(0, 0.2, (3, identities))
    return HeadModel(
        neutral=f32(neutral),
        corners=np.concatenate(corners).astype(np.int32),
        triangle_part=np.repeat(np.arange(len(PARTS), dtype=np.uint8), [len(c) for c in corners]),
        position_of=np.arange(len(neutral), dtype=np.int32),
        uv=f32(np.concatenate(uv)),
        vertex_part=np.repeat(np.arange(len(PARTS), dtype=np.uint8), [len(sheet) for sheet, _ in sheets]),
        part_names=PARTS,
        expression_names=tuple(expressions),
        expressions=np.stack(list(expressions.values())),
        identities=f32(0.05 * np.sin(neutral @ direction).T[:, :, None] * np.ones(3)),
        landmarks=_landmarks(sheets[0][0]),
    )
