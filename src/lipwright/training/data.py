"""What the network is shown: target, reference and sound of one sample.

The reference comes from another moment with nearly the same pose, moved onto the target's pose. So it shows in
training what it shows in use (this person, from here) and cannot betray the target's mouth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lipwright import patch
from lipwright.contract import AUDIO_SHAPE, ROI_SIZE, WINDOW_FUTURE, WINDOW_PAST, FloatArray, UInt8Array
from lipwright.training.pack import Pack

Frames = npt.NDArray[np.int64]
Picture = npt.NDArray[np.integer[Any] | np.floating[Any]]


@dataclass(frozen=True)
class Batch:
    """B samples at side S."""

    x: Tensor
    """[B, 6, S, S] float32 0..1 BGR: reference, masked target."""
    y: Tensor
    """[B, 3, S, S] float32 0..1 BGR: the target."""
    weight: Tensor
    """[B, 1, S, S] float32: how much each pixel counts; its mean is about 1."""
    mouth: Tensor
    """[B, K] float32 mouth code."""
    audio: Tensor
    """[B, 32, 16, 16] float32 window."""


class References:
    """For each frame, other moments with nearly the same pose, and the similarity that moves them onto it."""

    def __init__(self, pack: Pack, allowed: Frames, nearest: int = 24, apart: int = 12) -> None:
        self._pack = pack
        self._allowed = allowed
        self._nearest = nearest
        self._apart = apart
        self._pose = pack.landmarks[:, pack.still].reshape(len(pack.landmarks), -1)

    def candidates(self, frame: int) -> Frames:
        """The allowed frames nearest in pose, none within ``apart`` frames in time, nearest first."""
        far = self._allowed[np.abs(self._allowed - frame) > self._apart]
        distance = np.square(self._pose[far] - self._pose[frame]).mean(axis=1)
        return far[np.argsort(distance)[: self._nearest]]

    def picture(self, frame: int, reference: int) -> UInt8Array:
        """The ROI of ``reference`` moved onto the pose of ``frame``: [320, 320, 3]."""
        still = self._pack.still
        source, target = self._pack.landmarks[reference, still], self._pack.landmarks[frame, still]
        matrix = similarity(source, target)
        moved = cv2.warpAffine(
            self._pack.rois[reference],
            matrix,
            (ROI_SIZE, ROI_SIZE),
            flags=cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return np.asarray(moved, dtype=np.uint8)


def similarity(source: FloatArray, target: FloatArray) -> FloatArray:
    """[2, 3] least-squares similarity from points [n, 2] to points [n, 2] (Umeyama 1991, without reflection)."""
    mean_s, mean_t = source.mean(axis=0), target.mean(axis=0)
    s, t = source - mean_s, target - mean_t
    norm = np.square(s).sum()
    a = (s * t).sum() / norm
    b = (s[:, 0] * t[:, 1] - s[:, 1] * t[:, 0]).sum() / norm
    linear = np.array([[a, -b], [b, a]])
    matrix = np.concatenate([linear, (mean_t - linear @ mean_s)[:, None]], axis=1)
    return np.asarray(matrix, dtype=np.float32)


def pixel_weight(lips: FloatArray, mouth_weight: float) -> FloatArray:
    """[320, 320] weight: 1 elsewhere, ``mouth_weight`` at the lips [n, 2], smooth between, divided by its mean."""
    centre, size = (lips.max(axis=0) + lips.min(axis=0)) / 2, np.ptp(lips, axis=0)
    sigma = np.maximum(size, ROI_SIZE / 12) * [0.6, 0.9]
    grid = np.arange(ROI_SIZE, dtype=np.float32)
    bumps = [np.exp(-0.5 * np.square((grid - c) / s) ** 2) for c, s in zip(centre, sigma, strict=True)]
    weight = 1 + (mouth_weight - 1) * np.outer(bumps[1], bumps[0])
    return np.asarray(weight / weight.mean(), dtype=np.float32)


def windows(
    features: npt.NDArray[np.floating[Any]], frames: Frames, future: Frames, first: Frames | int, last: Frames | int
) -> FloatArray:
    """The windows [B, 32, 16, 16] of ``frames`` [B] when only ``future`` [B] features are known.

    Beyond ``first`` and ``last`` (inclusive, of the sound the frame belongs to) the end is repeated.
    """
    steps = np.arange(-WINDOW_PAST, WINDOW_FUTURE + 1)
    positions = frames[:, None] + np.minimum(steps[None], future[:, None])
    picked = features[np.clip(positions.T, first, last).T]
    return np.asarray(picked, dtype=np.float32).reshape(-1, *AUDIO_SHAPE)


def balanced(pack: Pack, frames: Frames) -> npt.NDArray[np.float64]:
    """How likely each of ``frames`` is drawn: wide open and firmly closed mouths are rare and count more.

    Inverse square root of how many frames open the lips alike, over ten equal steps of their height.
    """
    height = np.ptp(pack.landmarks[frames][:, pack.lips, 1], axis=1)
    step = np.minimum(10 * (height - height.min()) / (np.ptp(height) + 1e-6), 9).astype(int)
    chance = np.bincount(step, minlength=10)[step] ** -0.5
    return np.asarray(chance / chance.sum())


class Sampler:
    """Draws batches from a pack. What a step gets depends on the seed and the step alone, so training can resume."""

    def __init__(self, pack: Pack, frames: Frames, seed: int, mouth_weight: float = 8.0) -> None:
        self._pack = pack
        self._frames = frames
        self._seed = seed
        references = References(pack, pack.training_frames())
        self._references = references
        self._candidates = {int(k): references.candidates(int(k)) for k in frames}
        self._mouth_weight = mouth_weight
        self._chance = balanced(pack, frames)

    def batch(self, step: int, count: int, size: int) -> Batch:
        """The batch of ``step``: ``count`` random samples at side ``size``."""
        rng = np.random.default_rng((self._seed, step))
        return self.samples(rng.choice(self._frames, count, p=self._chance), size, rng)

    def samples(self, frames: Frames, size: int, rng: np.random.Generator) -> Batch:
        """These frames as a batch: random reference, sound version and look-ahead."""
        pack = self._pack
        inputs, targets, weights = [], [], []
        for k in frames:
            reference = self._references.picture(int(k), int(rng.choice(self._candidates[int(k)])))
            inputs.append(shrink(np.concatenate([reference, patch.masked(pack.rois[k])], axis=2), size))
            targets.append(shrink(pack.rois[k], size))
            weights.append(shrink(pixel_weight(pack.landmarks[k, pack.lips], self._mouth_weight), size))
        count = len(frames)
        version = pack.features[rng.integers(len(pack.features))]
        future = np.where(rng.random(count) < 0.5, WINDOW_FUTURE, rng.integers(0, WINDOW_FUTURE + 1, count))
        return Batch(
            x=to_tensor(np.stack(inputs)),
            y=to_tensor(np.stack(targets)),
            weight=torch.from_numpy(np.stack(weights))[:, None],
            mouth=torch.from_numpy(pack.mouth[frames]),
            audio=torch.from_numpy(windows(version, frames, future, 0, len(version) - 1)),
        )


def shrink(picture: Picture, size: int) -> Picture:
    """A picture [320, 320, ...] at side ``size``, averaged over areas."""
    if size == picture.shape[0]:
        return picture
    return np.asarray(cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA))


def to_tensor(pictures: Picture) -> Tensor:
    """uint8 [B, S, S, C] to float32 [B, C, S, S] 0..1, channels last in memory."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
