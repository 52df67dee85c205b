"""Packs of many people as one thing to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lipwright.contract import FloatArray
from lipwright.errors import LipwrightError
from lipwright.training.data import Batch, Frames, Sampler, balanced, stacked
from lipwright.training.pack import Pack


def wholly(pack: Pack) -> Pack:
    """The pack with nothing held out."""
    return replace(pack, held_out=(len(pack.rois), len(pack.rois)), gap=0)


class CrowdSampler(Sampler):
    """Draws batches from the packs of many people; references are always of the same person.

    Every batch holds as many people as it can. What a step gets depends on the seed, the step and the packs' order
    alone, so training can resume.
    """

    def __init__(self, packs: Sequence[Pack], seed: int) -> None:
        """Raises LipwrightError where a pack has nothing to learn from."""
        self._packs = packs
        self._each = [pack.training_frames() for pack in packs]
        if not all(map(len, self._each)):
            raise LipwrightError("one of the packs has no frames to learn from: leave it out")
        self._seed = seed
        self._samplers = [
            Sampler(p, f, seed=seed + 1 + k) for k, (p, f) in enumerate(zip(packs, self._each, strict=True))
        ]
        self._chances = [balanced(pack, frames) for pack, frames in zip(packs, self._each, strict=True)]

    def batch(self, step: int, count: int, size: int) -> Batch:
        """The batch of ``step``: ``count`` random samples at side ``size``."""
        rng = np.random.default_rng((self._seed, step))
        people = self._drawn(rng, np.arange(len(self._packs)), count)
        parts = []
        for k, rows in zip(*np.unique(people, return_counts=True), strict=True):
            frames = rng.choice(self._each[k], rows, p=self._chances[k])
            parts.append(self._samplers[k].samples(frames, size, rng))
        return stacked(parts)

    def samples(self, frames: Frames, size: int, rng: np.random.Generator) -> Batch:
        """These frames, counted through all packs one after the other, as a batch."""
        ends = np.cumsum([len(pack.rois) for pack in self._packs])
        owners = np.searchsorted(ends, frames, side="right")
        starts = ends - [len(pack.rois) for pack in self._packs]
        each = [
            self._samplers[k].samples(np.array([f - starts[k]]), size, rng) for f, k in zip(frames, owners, strict=True)
        ]
        return stacked(each)

    def clips(self, step: int, count: int, size: int, length: int) -> Batch | None:
        """``count // length`` stretches of ``length`` consecutive frames, each of another person; None without any."""
        able = [k for k, (p, f) in enumerate(zip(self._packs, self._each, strict=True)) if len(p.clips(f, length))]
        if not able:
            return None
        rng = np.random.default_rng((self._seed, length, step))
        people = self._drawn(rng, np.array(able), max(count // length, 1))
        parts = []
        for k, stretches in zip(*np.unique(people, return_counts=True), strict=True):
            part = self._samplers[k].clips(step, int(stretches) * length, size, length)
            parts += [part] if part else []
        return stacked(parts)

    @staticmethod
    def _drawn(rng: np.random.Generator, among: Frames, count: int) -> Frames:
        """``count`` people, nobody twice before everybody was drawn once."""
        rounds = [rng.permutation(among) for _ in range(-(-count // len(among)))]
        return np.concatenate(rounds)[:count]


def mouth_scale(packs: Sequence[Pack]) -> tuple[FloatArray, FloatArray]:
    """Mean and spread [K] of the mouth code over all people: the scale of the mouth map that they share.

    Raises:
        LipwrightError: the packs have different codes.
    """
    channels = {pack.mouth.shape[1] for pack in packs}
    if len(channels) > 1:
        raise LipwrightError(f"the packs' mouth codes have {sorted(channels)} channels: make all of them in one way")
    code = np.concatenate([pack.mouth[pack.training_frames()] for pack in packs])
    return code.mean(axis=0), code.std(axis=0) + np.float32(1e-6)
