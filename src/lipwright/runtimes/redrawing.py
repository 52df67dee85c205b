"""A generator as the renderer asks it: ROIs in 8 bits in, ROIs in 8 bits out.

Masking, scaling and rounding take a processor core longer than a graphics card takes to draw. A runtime that can do
them where it computes has a method ``redraw`` of its own, whose answers are the same to a level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, runtime_checkable

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


@runtime_checkable
class OpensFloat(Protocol):
    """A runtime for which ``run`` is another network than ``redraw``, opened at the first call."""

    def open_float(self) -> None:
        """Open it now; from any thread."""


def open_float(generator: Runtime) -> None:
    """Let ``run`` be as quick the first time as later, where opening is still to be done."""
    if isinstance(generator, OpensFloat):
        generator.open_float()


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
    return (
        generator.redraw(rois, windows) if isinstance(generator, Redraws) else redraw_by_numpy(generator, rois, windows)
    )


def redraw_by_numpy(generator: Runtime, rois: UInt8Array, windows: FloatArray) -> Redrawn:
    """As ``redraw``, by numpy around ``run``: uint8 [B, 320, 320, 3] and float32 [B, 32, 16, 16]."""
    outputs = generator.run(patch.to_inputs(rois), windows)
    finite = np.array([np.isfinite(output).all() for output in outputs])
    outputs[~finite] = 0
    return Redrawn(patch.from_outputs(outputs), finite)


class Probe:
    """Noise that a network is asked, in the way it will be asked later: a generator by ROIs in 8 bits."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        first, *self._rest = probe_inputs(kind)
        self._first: Any = patch.from_outputs(first[:, :3]) if kind == "generator" else first

    def ask(self, runtime: Runtime) -> Redrawn | FloatArray:
        """One call with a batch of one: a feature float32 [1, 512], or an ROI uint8 [1, 320, 320, 3]."""
        asked = (self._first, *self._rest)
        return redraw(runtime, *asked) if self._kind == "generator" else runtime.run(*asked)


def comparable(answer: Redrawn | FloatArray) -> FloatArray:
    """A feature [1, 512] as it is, an ROI as float32 [1, 320, 320, 3], 0..1 BGR: all NaN if a value is no number."""
    if not isinstance(answer, Redrawn):
        return answer
    return np.where(answer.finite[:, None, None, None], answer.rois / np.float32(255), np.float32(np.nan))
