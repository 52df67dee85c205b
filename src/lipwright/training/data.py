"""What the network is shown: target, reference and sound of one sample.

The reference comes from another moment with nearly the same pose, moved onto the target's pose. So it shows in
training what it shows in use (this person, from here) and cannot betray the target's mouth: among the moments alike in
pose it is drawn so that over the film the two mouths tell nothing of each other (`unlike`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lipwright import patch
from lipwright.contract import AUDIO_SHAPE, ROI_SIZE, WINDOW_FUTURE, WINDOW_PAST, FloatArray, UInt8Array
from lipwright.training.pack import Pack

Frames = npt.NDArray[np.int64]
Chances = npt.NDArray[np.float64]
Picture = npt.NDArray[np.integer[Any] | np.floating[Any]]
Item = TypeVar("Item")

#: Share of the samples that hear the sound as it was recorded for certain.
OWN_SOUND = 0.5
#: How many frames away a sound must be, and may be, that does not belong to a picture.
SHIFTS = (3, 15)
#: How hard `unlike` tries: what it gives up rather than draw few references only, and its steps.
_RELUCTANCE, _NEWTON_STEPS = 0.01, 30


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
    clip: int = 1
    """The first rows are clips of so many consecutive frames each; 1: no row belongs to another."""
    heard: Tensor | None = None
    """Of n clips: [n, 2, clip, 512] float32, the features of their own sound and of another moment of it."""

    @property
    def in_clips(self) -> int:
        """How many of the rows, from the first, belong to clips."""
        return 0 if self.heard is None else len(self.heard) * self.clip


def stacked(parts: Sequence[Batch]) -> Batch:
    """Batches one behind the other; those with clips, all as long, must come first."""
    heard = [part.heard for part in parts if part.heard is not None]

    def whole(name: str) -> Tensor:
        return torch.cat([getattr(part, name) for part in parts])

    return Batch(
        x=whole("x"),
        y=whole("y"),
        weight=whole("weight"),
        mouth=whole("mouth"),
        audio=whole("audio"),
        clip=parts[0].clip,
        heard=torch.cat(heard) if heard else None,
    )


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


def full_windows(features: npt.NDArray[np.floating[Any]], frames: Frames) -> FloatArray:
    """The windows [B, 32, 16, 16] of ``frames`` [B] of one sound [M, 512], all of the future known."""
    return windows(features, frames, np.full(len(frames), WINDOW_FUTURE), 0, len(features) - 1)


def unlike(code: FloatArray, frames: Frames, candidates: Sequence[Frames], chance: Chances) -> list[Chances]:
    """How likely each candidate is a reference, so that no channel of its mouth goes with that of its target.

    Somebody who nods as he opens his mouth has like mouths in like poses, and a network that is unsure of the sound
    would learn to copy them. Of all chances under which the two are uncorrelated these are the most even: they fall
    exponentially with the products of the channels, at rates found by Newton's method on the convex dual (Jaynes 1957).

    Args:
        code: [N, K] mouth code.
        frames: [n] targets.
        candidates: for each target the frames that may be its reference.
        chance: [n] how likely each target is drawn.

    Returns:
        For each target the chances of its candidates; they add up to 1.
    """
    z = code - chance @ code[frames]
    z = z / (np.sqrt(chance @ np.square(z[frames])) + 1e-6)
    most = max(len(each) for each in candidates)
    index = np.stack([np.pad(each, (0, most - len(each)), mode="edge") for each in candidates])
    there = np.arange(most) < np.array([len(each) for each in candidates])[:, None]
    products = (z[frames][:, None] * z[index]).astype(np.float64)
    rates = np.zeros(code.shape[1])
    for _ in range(_NEWTON_STEPS):
        weight = _tilted(products, rates, there)
        mean = np.einsum("nc,nck->nk", weight, products)
        spread = np.einsum("n,nc,nck,ncl->kl", chance, weight, products, products, optimize=True)
        spread -= np.einsum("n,nk,nl->kl", chance, mean, mean) - _RELUCTANCE * np.eye(len(rates))
        step = np.linalg.solve(spread, chance @ mean - _RELUCTANCE * rates)
        rates += step / max(1.0, float(np.linalg.norm(step)))
    return [row[: len(each)] for row, each in zip(_tilted(products, rates, there), candidates, strict=True)]


def _tilted(products: Chances, rates: Chances, there: npt.NDArray[np.bool_]) -> Chances:
    """[n, C] chances that fall exponentially with the ``products`` [n, C, K]; each row adds up to 1."""
    power = np.where(there, -products @ rates, -np.inf)
    weight = np.exp(power - power.max(axis=1, keepdims=True))
    return np.asarray(weight / weight.sum(axis=1, keepdims=True))


def balanced(pack: Pack, frames: Frames) -> Chances:
    """How likely each of ``frames`` is drawn: wide open and firmly closed mouths are rare and count more.

    Inverse square root of how many frames open the lips alike, over ten equal steps of their height.
    """
    height = np.ptp(pack.landmarks[frames][:, pack.lips, 1], axis=1)
    step = np.minimum(10 * (height - height.min()) / (np.ptp(height) + 1e-6), 9).astype(int)
    chance = np.bincount(step, minlength=10)[step] ** -0.5
    return np.asarray(chance / chance.sum())


def another_moment(rng: np.random.Generator, frames: Frames, first: int, last: int) -> Frames:
    """For each of ``frames`` one of ``first`` .. ``last`` that lies ``SHIFTS`` frames before or after it.

    Nearer moments sound nearly alike, and those further away are easy to tell. Where neither side has one, the frame
    farthest away.
    """
    shift = rng.integers(SHIFTS[0], SHIFTS[1] + 1, len(frames)) * rng.choice([-1, 1], len(frames))
    moved = frames + shift
    moved = np.where((moved < first) | (moved > last), frames - shift, moved)
    far = np.where(frames - first > last - frames, first, last)
    return np.asarray(np.where((moved < first) | (moved > last), far, moved))


class Sampler:
    """Draws batches from a pack. What a step gets depends on the seed and the step alone, so training can resume.

    Half of the samples hear the sound as it was recorded, the others any version of it, that one too; half of them know
    all seven future features, the others 0 to 7.
    """

    def __init__(self, pack: Pack, frames: Frames, seed: int, mouth_weight: float = 8.0) -> None:
        self._pack = pack
        self._frames = frames
        self._seed = seed
        references = References(pack, pack.training_frames())
        self._references = references
        self._mouth_weight = mouth_weight
        self._chance = balanced(pack, frames)
        candidates = [references.candidates(int(k)) for k in frames]
        self._candidates = dict(zip(frames.tolist(), candidates, strict=True))
        self._likely = dict(zip(frames.tolist(), unlike(pack.mouth, frames, candidates, self._chance), strict=True))

    def batch(self, step: int, count: int, size: int) -> Batch:
        """The batch of ``step``: ``count`` random samples at side ``size``."""
        rng = np.random.default_rng((self._seed, step))
        return self.samples(rng.choice(self._frames, count, p=self._chance), size, rng)

    def samples(self, frames: Frames, size: int, rng: np.random.Generator) -> Batch:
        """These frames as a batch: random reference, sound version and look-ahead for each."""
        references = [self._reference(int(k), rng) for k in frames]
        return self._shown(frames, references, *self._hearing(rng, len(frames)), size)

    def clips(self, step: int, count: int, size: int, length: int) -> Batch | None:
        """``count // length`` stretches of ``length`` consecutive frames; None where the film has no such stretch.

        The frames of a stretch share reference, sound version and look-ahead: what differs between them is speech.
        """
        starts = self._pack.clips(self._frames, length)
        if not len(starts):
            return None
        rng = np.random.default_rng((self._seed, length, step))
        chosen = rng.choice(starts, max(count // length, 1))
        frames = (chosen[:, None] + np.arange(length)).ravel()
        references = np.repeat([self._reference(int(k), rng) for k in chosen], length).tolist()
        versions, future = (np.repeat(values, length) for values in self._hearing(rng, len(chosen)))
        batch = self._shown(frames, references, versions, future, size)
        other = another_moment(rng, chosen, int(self._frames[0]), int(self._frames[-1]) - length + 1)
        heard = self._pack.features[0][np.stack([chosen, other], axis=1)[..., None] + np.arange(length)]
        return replace(batch, clip=length, heard=torch.from_numpy(heard.astype(np.float32)))

    def _reference(self, frame: int, rng: np.random.Generator) -> int:
        """A frame in nearly the same pose, whose mouth does not go with that of ``frame``."""
        return int(rng.choice(self._candidates[frame], p=self._likely[frame]))

    def _hearing(self, rng: np.random.Generator, count: int) -> tuple[Frames, Frames]:
        """Sound version and known future features for ``count`` samples."""
        copies = self._pack.trained_versions
        version = np.where(rng.random(count) < OWN_SOUND, 0, rng.integers(0, copies, count))
        future = np.where(rng.random(count) < 0.5, WINDOW_FUTURE, rng.integers(0, WINDOW_FUTURE + 1, count))
        return version, future

    def _shown(self, frames: Frames, references: list[int], versions: Frames, future: Frames, size: int) -> Batch:
        pack = self._pack
        inputs, targets, weights = [], [], []
        for k, reference in zip(frames.tolist(), references, strict=True):
            moved, target = self._references.picture(k, reference), pack.rois[k]
            inputs.append(shrink(np.concatenate([moved, patch.masked(target)], axis=2), size))
            targets.append(shrink(target, size))
            weights.append(shrink(pixel_weight(pack.landmarks[k, pack.lips], self._mouth_weight), size))
        length = pack.features.shape[1]
        every = pack.features.reshape(-1, pack.features.shape[2])
        first = versions * length
        return Batch(
            x=to_tensor(np.stack(inputs)),
            y=to_tensor(np.stack(targets)),
            weight=torch.from_numpy(np.stack(weights))[:, None],
            mouth=torch.from_numpy(pack.mouth[frames]),
            audio=torch.from_numpy(windows(every, frames + first, future, first, first + length - 1)),
        )


class Ahead(Generic[Item]):
    """Prepares what the next steps need while the present one is trained."""

    def __init__(self, make: Callable[[int], Item], workers: int) -> None:
        """``make(step)`` must depend on its step alone; so many of them run at a time."""
        self._make = make
        self._workers = workers
        self._pool = ThreadPoolExecutor(workers)
        self._coming: dict[int, Future[Item]] = {}

    def __call__(self, step: int) -> Item:
        """What ``step`` needs."""
        for coming in range(step, step + self._workers + 1):
            if coming not in self._coming:
                self._coming[coming] = self._pool.submit(self._make, coming)
        for old in [k for k in self._coming if k < step]:
            del self._coming[old]
        return self._coming.pop(step).result()


def shrink(picture: Picture, size: int) -> Picture:
    """A picture [320, 320, ...] at side ``size``, averaged over areas."""
    if size == picture.shape[0]:
        return picture
    return np.asarray(cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA))


def to_tensor(pictures: Picture) -> Tensor:
    """uint8 [B, S, S, C] to float32 [B, C, S, S] 0..1, channels last in memory."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
