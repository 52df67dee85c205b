"""A generator as the renderer asks it: ROIs in 8 bits in, ROIs in 8 bits out.

Masking, scaling and rounding take a processor core longer than a graphics card takes to draw. A runtime that can do
them where it computes has a method ``redraw`` of its own, whose answers are the same to a level.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

from lipwright import patch
from lipwright.contract import AUDIO, ROI, FloatArray, UInt8Array
from lipwright.errors import ContractError
from lipwright.runtimes.base import Kind, Runtime, probe_inputs


@dataclass(frozen=True, slots=True)
class Redrawn:
    """What a generator has drawn."""

    rois: UInt8Array
    """[B, 320, 320, 3] BGR; of no use where ``finite`` is False."""
    finite: npt.NDArray[np.bool_]
    """[B] whether all values of a picture were numbers."""

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Several answers, one after the other."""
        if len(parts) == 1:
            return parts[0]
        return cls(np.concatenate([part.rois for part in parts]), np.concatenate([part.finite for part in parts]))


@runtime_checkable
class Redraws(Protocol):
    """A runtime that masks, scales and rounds where it computes."""

    def redraw(self, rois: UInt8Array, windows: FloatArray) -> Redrawn:
        """As the function ``redraw``: uint8 [B, 320, 320, 3] and float32 [B, 32, 16, 16], at least one frame."""


def redraw(generator: Runtime, rois: UInt8Array, windows: FloatArray) -> Redrawn:
    """New mouths for ROIs, each its own reference.

    Args:
        generator: ready to run.
        rois: [B, 320, 320, 3] uint8 BGR.
        windows: [B, 32, 16, 16] float32.

    Raises:
        ContractError: an array has the wrong shape or dtype.
    """
    ROI.check(rois)
    AUDIO.check(windows)
    if len(rois) != len(windows):
        raise ContractError(f"{len(rois)} ROIs and {len(windows)} windows: each frame needs one of both")
    if not len(rois):
        return Redrawn(rois, np.ones(0, np.bool_))
    return generator.redraw(rois, windows) if isinstance(generator, Redraws) else _redraw_here(generator, rois, windows)


def _redraw_here(generator: Runtime, rois: UInt8Array, windows: FloatArray) -> Redrawn:
    """By numpy around ``run``."""
    outputs = generator.run(np.stack([patch.to_input(roi, roi) for roi in rois]), windows)
    drawn = np.stack([patch.from_output(np.nan_to_num(output)) for output in outputs])
    return Redrawn(drawn, np.array([np.isfinite(output).all() for output in outputs]))


def in_batches(
    rois: UInt8Array, windows: FloatArray, size: int, forward: Callable[[UInt8Array, FloatArray], Redrawn]
) -> Redrawn:
    """``forward`` with ``size`` frames a call; a call too short is filled by repeating the last frame.

    ``rois`` uint8 [B, 320, 320, 3] and ``windows`` float32 [B, 32, 16, 16], any number of them.
    """
    last, parts = len(rois) - 1, []
    for begin in range(0, len(rois), size):
        rows = np.minimum(np.arange(begin, begin + size), last)
        answer = forward(rois[rows], windows[rows])
        count = min(size, last + 1 - begin)
        parts.append(Redrawn(answer.rois[:count], answer.finite[:count]))
    return Redrawn.joined(parts)


def probe(runtime: Runtime, kind: Kind) -> FloatArray:
    """What a network makes of noise, asked as it will be later: a generator by ROIs in 8 bits. The same each time.

    Returns:
        float32: a feature [1, 512], or an ROI [1, 320, 320, 3], 0..1 BGR; NaN where a picture
        holds values that are no numbers.
    """
    if kind == "encoder":
        return runtime.run(*probe_inputs(kind))
    image, windows = probe_inputs(kind)
    rois = np.stack([patch.from_output(picture) for picture in image[:, :3]])
    answer = redraw(runtime, rois, windows)
    return np.where(answer.finite[:, None, None, None], answer.rois / np.float32(255), np.float32(np.nan))
