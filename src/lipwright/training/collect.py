"""From an avatar without a generator to a training pack: its pictures, landmarks and sound."""

from __future__ import annotations

import numpy as np

from lipwright import patch
from lipwright.avatar import Avatar
from lipwright.contract import BORDER, CROP_SIZE, ROI_SIZE, FloatArray, UInt8Array
from lipwright.errors import AvatarError
from lipwright.face import LIPS, MESH_POINTS, POSE_POINTS, face_width, lip_gap
from lipwright.training.pack import Pack
from lipwright.video import VideoReader

#: Share of the film, at its end, that no training sees.
HELD_OUT = 0.1
#: The corners of the mouth in the face mesh.
_CORNERS = (61, 291)


def collect(avatar: Avatar) -> Pack:
    """Everything a training needs of ``avatar``; the last tenth is held out.

    Raises:
        AvatarError: it has no features of its own sound, or no face-mesh landmarks (``lipwright prepare`` makes both).
    """
    features, landmarks = avatar.features, avatar.landmarks
    if features is None:
        raise AvatarError(f"{avatar.path} has no features of its own sound: make it again with `lipwright prepare`")
    if landmarks is None or landmarks.shape[1] != MESH_POINTS:
        raise AvatarError(f"{avatar.path} has no {MESH_POINTS} landmarks: make it again with `lipwright prepare`")
    count = avatar.frame_count
    seen = np.isfinite(landmarks).all(axis=(1, 2)) & (avatar.rects[:, 0] >= 0)
    points = np.nan_to_num(roi_points(landmarks[..., :2], avatar.rects))
    return Pack(
        rois=rois(avatar),
        landmarks=points,
        still=np.array(POSE_POINTS),
        lips=np.array(LIPS),
        mouth=np.nan_to_num(mouth_code(landmarks)),
        features=features.astype(np.float16)[None],
        held_out=(count - round(count * HELD_OUT), count),
        unusable=tuple(int(k) for k in np.flatnonzero(~seen)),
    )


def rois(avatar: Avatar) -> UInt8Array:
    """[N, 320, 320, 3] BGR; black where there is no face."""
    found = np.zeros((avatar.frame_count, ROI_SIZE, ROI_SIZE, 3), np.uint8)
    with VideoReader(avatar.template) as film:
        for k, picture in zip(range(avatar.frame_count), film, strict=False):
            if avatar.rect(k).usable:
                found[k] = patch.roi(patch.crop(picture, avatar.rect(k), avatar.manifest.resize))
    return found


def roi_points(points: FloatArray, rects: np.ndarray[tuple[int, ...], np.dtype[np.int32]]) -> FloatArray:
    """[N, P, 2] pixels of the frame to pixels of the ROI."""
    side = np.maximum(rects[:, 2] - rects[:, 0], 1)
    moved = (points - rects[:, None, :2]) * (CROP_SIZE / side)[:, None, None] - BORDER
    return np.asarray(moved, dtype=np.float32)


def mouth_code(landmarks: FloatArray) -> FloatArray:
    """[N, 2]: how far the lips are open (of the face's height), how wide the mouth is (of the face's width)."""
    left, right = (landmarks[:, k, :2] for k in _CORNERS)
    width = np.linalg.norm(right - left, axis=1) / face_width(landmarks)
    return np.stack([lip_gap(landmarks), width], axis=1).astype(np.float32)
