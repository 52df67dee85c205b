"""What a mouth does, in eight numbers read from the face mesh: the mouth code of a person whose phones nobody knows.

The mesh is first turned, in three dimensions, into the film's own mean pose by the points that speech does not move,
so that a nod is not taken for an opening jaw.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lipwright.contract import FloatArray
from lipwright.face import CHIN, INNER_LIP_PAIRS, POSE_POINTS, moved

DoubleArray = npt.NDArray[np.float64]

#: The channels of the code, in order. All are lengths as a share of the face's own size.
CHANNELS = (
    "gap between the inner lips",
    "width from corner to corner",
    "width of the opening",
    "chin below the nose",
    "upper lip below the nose",
    "lower lip above the chin",
    "thickness of the lips",
    "lips pushed forward",
)
#: A value further from the median than this many times the range that holds 95 % of the frames is a slip of the mesh.
_LIMIT = 1.5

_CORNERS = (61, 291)
_INNER_CORNERS = (78, 308)
_BELOW_NOSE = 2
_UPPER_OUTER, _UPPER_INNER, _LOWER_INNER, _LOWER_OUTER = 0, 13, 14, 17
#: The lips' own middle, where pushing them forward shows most.
_FRONT = (0, 13, 14, 17, 37, 267, 84, 314)


def mouth_code(landmarks: FloatArray) -> FloatArray:
    """[N, 468, 3] landmarks in pixels to [N, 8] channels with mean 0 and spread 1 over the frames that are not NaN.

    Frames of NaN give NaN. A channel that never changes is 0.
    """
    raw = _lengths(_in_one_pose(np.asarray(landmarks, np.float64)))
    known = np.isfinite(raw).all(axis=1)
    if not known.any():
        return raw.astype(np.float32)
    low, centre, high = np.percentile(raw[known], (2.5, 50, 97.5), axis=0)
    clipped = np.clip(raw, centre - _LIMIT * (high - low), centre + _LIMIT * (high - low))
    spread = clipped[known].std(axis=0)
    return np.asarray((clipped - clipped[known].mean(axis=0)) / np.where(spread > 1e-9, spread, 1), np.float32)


def _in_one_pose(points: DoubleArray) -> DoubleArray:
    """All meshes turned, moved and scaled so that their pose points lie on the mean ones; unit: the mean's size."""
    still = points[:, POSE_POINTS]
    known = np.isfinite(still).all(axis=(1, 2))
    turned = np.full_like(points, np.nan)
    if not known.any():
        return turned
    reference = still[known][0]
    for _ in range(2):  # the first frame's pose, then the mean of all in that pose
        placed = np.stack([moved(mesh, mesh[list(POSE_POINTS)], reference) for mesh in points[known]])
        reference = placed[:, POSE_POINTS].mean(axis=0)
    size = np.sqrt(np.square(reference - reference.mean(axis=0)).sum(axis=1).mean())
    turned[known] = placed / size
    return turned


def _lengths(mesh: DoubleArray) -> DoubleArray:
    """[N, 8] the channels in the mesh's unit; in the mean pose y points down and z away from the camera."""

    def apart(a: int, b: int) -> DoubleArray:
        return np.asarray(np.linalg.norm(mesh[:, a] - mesh[:, b], axis=1))

    gap = np.mean([apart(upper, lower) for upper, lower in INNER_LIP_PAIRS], axis=0)
    thick = apart(_UPPER_OUTER, _UPPER_INNER) + apart(_LOWER_INNER, _LOWER_OUTER)
    forward = mesh[:, POSE_POINTS, 2].mean(axis=1) - mesh[:, _FRONT, 2].mean(axis=1)
    return np.stack(
        [
            gap,
            apart(*_CORNERS),
            apart(*_INNER_CORNERS),
            apart(_BELOW_NOSE, CHIN),
            apart(_BELOW_NOSE, _UPPER_OUTER),
            apart(_LOWER_OUTER, CHIN),
            thick,
            forward,
        ],
        axis=1,
    )
