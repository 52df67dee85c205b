"""Where the camera stands, and what it projects where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lipwright.contract import FloatArray
from tools.presenter.arrays import f32

_NEAR, _FAR = 20.0, 300.0


def look_at(eye: FloatArray, target: FloatArray, up: FloatArray) -> FloatArray:
    """[4, 4] world -> view; the camera looks along -z."""
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(forward, up)
    right /= np.linalg.norm(right)
    view = np.eye(4, dtype=np.float32)
    view[:3, :3] = right, np.cross(right, forward), -forward
    view[:3, 3] = -view[:3, :3] @ eye
    return view


@dataclass(frozen=True)
class Camera:
    """A pinhole camera on a tripod; its picture passes a lens and a sensor in ``lens``."""

    width: int = 1280
    """Pixels."""
    height: int = 720
    field: float = 20.5
    """Vertical field of view, degrees."""
    eye: tuple[float, float, float] = (0.0, 1.4, 109.0)
    """cm."""
    target: tuple[float, float, float] = (0.0, -1.2, 3.0)
    """The point in the middle of the picture."""

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Camera:
        """From ``dataclasses.asdict``, as a script stores it."""
        eye, target = (tuple(values[name]) for name in ("eye", "target"))
        return cls(values["width"], values["height"], values["field"], eye, target)

    @property
    def matrix(self) -> FloatArray:
        """[4, 4] world -> clip, as OpenGL wants it (y up)."""
        t = 1 / np.tan(np.radians(self.field) / 2)
        lens = np.zeros((4, 4), np.float32)
        lens[0, 0], lens[1, 1] = t * self.height / self.width, t
        lens[2, 2], lens[2, 3] = (_NEAR + _FAR) / (_NEAR - _FAR), 2 * _NEAR * _FAR / (_NEAR - _FAR)
        lens[3, 2] = -1
        view = look_at(f32(self.eye), f32(self.target), f32([0, 1, 0]))
        return np.asarray(lens @ view, dtype=np.float32)

    @property
    def pixel(self) -> float:
        """Size of one pixel in cm at the distance of the target."""
        distance = float(np.linalg.norm(np.subtract(self.eye, self.target)))
        return float(2 * np.tan(np.radians(self.field) / 2) * distance / self.height)

    def project(self, points: FloatArray) -> FloatArray:
        """[n, 3] cm -> [n, 2] pixels, x to the right and y down from the picture's upper left corner."""
        clip = np.c_[points, np.ones(len(points))] @ self.matrix.T
        x, y = (clip[:, :2] / clip[:, 3:]).T
        return np.stack([(x + 1) / 2 * self.width, (1 - y) / 2 * self.height], axis=1).astype(np.float32)
