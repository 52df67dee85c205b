"""What moves in a clip, frame by frame: the rows a script keeps and the painter reads."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from lipwright.contract import FloatArray
from tools.presenter.figure import Pose


@dataclass(frozen=True)
class Motion:
    """Everything that moves in N frames: the fields of ``Pose`` and the camera's, one row a frame."""

    weights: FloatArray
    """[N, channels]."""
    gaze: FloatArray
    """[N, 2] radians."""
    turn: FloatArray
    """[N, 3] radians."""
    shift: FloatArray
    """[N, 3] cm."""
    breath: FloatArray
    """[N] 0..1."""
    exposure: FloatArray
    """[N] about 1: the camera's automatic exposure."""

    @property
    def frames(self) -> int:
        """N."""
        return len(self.weights)

    def pose(self, k: int) -> Pose:
        """Frame ``k``."""
        return Pose(self.weights[k], self.gaze[k], self.turn[k], self.shift[k], float(self.breath[k]))

    def tracks(self, frames: slice = slice(None)) -> dict[str, Any]:
        """The rows of a stretch, arrays by the name of their field."""
        return {track.name: getattr(self, track.name)[frames] for track in fields(Motion)}
