"""Teach the sync expert one person, and find out how far it can be trusted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lipwright.contract import UInt8Array
from lipwright.models.sync_expert import EXPERT_FRAMES, MOUTH_PLACE, MOUTH_SIZE, SyncExpert, sync_loss
from lipwright.training.data import SHIFTS, Frames, another_moment
from lipwright.training.pack import Pack

#: An expert that is right less often than this is not used.
TRUSTED = 0.75
#: Share of the samples whose wrong sound comes from another film, where there is one.
_OTHER_FILM = 0.25
#: Random changes of the mouth pictures: pixels they are moved by, brightness they are multiplied by.
_MOVE = 2
_BRIGHTNESS = 0.1

Features = npt.NDArray[np.floating]


def mouths(rois: Iterable[UInt8Array]) -> UInt8Array:
    """N ROIs [320, 320, 3] to [N, 48, 48, 3] mouth pictures, as ``models.sync_expert.mouth_pictures`` makes them."""
    left, top, side = MOUTH_PLACE
    size = (MOUTH_SIZE, MOUTH_SIZE)
    small = [cv2.resize(r[top : top + side, left : left + side], size, interpolation=cv2.INTER_AREA) for r in rois]
    return np.asarray(np.stack(small), np.uint8)


class SyncSampler:
    """Draws mouths with their own sound and another one; what a step gets depends on the seed and the step alone."""

    def __init__(self, pack: Pack, seed: int, others: Sequence[Features] = ()) -> None:
        """``others`` are features [M, 512] of other films, whose sound never belongs to these lips."""
        self._pack = pack
        self._seed = seed
        self._others = [other for other in others if len(other) >= EXPERT_FRAMES]
        self._frames = pack.training_frames()
        self._starts = pack.clips(self._frames, EXPERT_FRAMES)
        self._mouths = mouths(pack.rois)

    @property
    def possible(self) -> bool:
        """Whether the film has stretches long enough to learn from."""
        return len(self._starts) > 0

    def batch(self, step: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Mouths [count, 5, 3, 48, 48] 0..1, own sound and another sound [count, 5, 512]."""
        rng = np.random.default_rng((self._seed, step))
        chosen = rng.choice(self._starts, count)
        other = another_moment(rng, chosen, int(self._frames[0]), int(self._frames[-1]) - EXPERT_FRAMES + 1)
        version = rng.integers(0, self._pack.trained_versions, count)
        steps = np.arange(EXPERT_FRAMES)
        own, wrong = (
            self._pack.features[version[:, None], k[:, None] + steps].astype(np.float32) for k in (chosen, other)
        )
        for k in np.flatnonzero(rng.random(count) < _OTHER_FILM) if self._others else []:
            film = self._others[int(rng.integers(len(self._others)))]
            first = int(rng.integers(len(film) - EXPERT_FRAMES + 1))
            wrong[k] = film[first : first + EXPERT_FRAMES]
        pictures = np.stack([self._varied(rng, int(k)) for k in chosen])
        return as_clips(pictures), torch.from_numpy(own), torch.from_numpy(wrong)

    def _varied(self, rng: np.random.Generator, start: int) -> npt.NDArray[np.uint8]:
        """[5, 48, 48, 3]: mirrored or not, a little beside its place, a little brighter or darker."""
        clip = self._mouths[start : start + EXPERT_FRAMES]
        clip = clip[:, :, ::-1] if rng.random() < 0.5 else clip
        clip = np.roll(clip, rng.integers(-_MOVE, _MOVE + 1, 2), axis=(1, 2))
        return np.asarray(np.clip(clip * (1 + rng.uniform(-_BRIGHTNESS, _BRIGHTNESS)), 0, 255), np.uint8)


def as_clips(pictures: npt.NDArray[np.uint8]) -> Tensor:
    """uint8 [B, 5, 48, 48, 3] to float [B, 5, 3, 48, 48] 0..1."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 1, 4, 2, 3).float() / 255


def expert_loss(sampler: SyncSampler, count: int, device: torch.device) -> Callable[[SyncExpert, int], Tensor]:
    """Loss of a step of the expert's own training."""

    def loss(expert: SyncExpert, step: int) -> Tensor:
        batch = [part.to(device) for part in sampler.batch(step, count)]
        return sync_loss(expert.preference(*batch).float())

    return loss


@torch.inference_mode()
def accuracy(expert: SyncExpert, shown: UInt8Array, features: Features, starts: Frames, device: torch.device) -> float:
    """How often the expert finds the sound that belongs to some lips, beside the same sound 3 to 15 frames away.

    Every clip is compared with every shift whose sound lies inside the same stretch of time; 0.5 is guessing.

    Args:
        expert: in eval mode.
        shown: [n, 48, 48, 3] mouths of n frames in a row.
        features: [n, 512] their sound.
        starts: indices of clips of five frames, all of them usable.
        device: where the expert is.

    Returns:
        0..1; NaN where there is nothing to compare.
    """
    steps = np.arange(EXPERT_FRAMES)
    last = len(shown) - EXPERT_FRAMES
    heard = torch.from_numpy(np.asarray(features, np.float32)).to(device)
    right: list[bool] = []
    for start in starts.tolist():
        shifts = [s for a in range(SHIFTS[0], SHIFTS[1] + 1) for s in (-a, a) if 0 <= start + s <= last]
        if not shifts:
            continue
        moments = start + np.array([0, *shifts])
        clip = as_clips(shown[start + steps][None]).to(device).expand(len(moments), -1, -1, -1, -1)
        scores = expert(clip, heard[torch.from_numpy(moments[:, None] + steps).to(device)])
        right += (scores[0] > scores[1:]).tolist()
    return float(np.mean(right)) if right else float("nan")


def held_accuracy(expert: SyncExpert, pack: Pack, device: torch.device, version: int = 0) -> float:
    """The accuracy on the held-out time, with negatives from that time alone."""
    first, last = pack.held_out
    starts = pack.clips(pack.held_frames(), EXPERT_FRAMES) - first
    features = pack.features[version, first:last]
    return accuracy(expert, mouths(pack.rois[k] for k in range(first, last)), features, starts, device)
