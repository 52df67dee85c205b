"""Confidence intervals by a bootstrap over blocks of a second."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lipwright.contract import FPS

DoubleArray = npt.NDArray[np.float64]

#: Frames that are drawn together: neighbours are no independent observations.
BLOCK = FPS
DRAWS = 2000
CONFIDENCE = (2.5, 97.5)


def in_blocks(counts: npt.NDArray[np.generic]) -> DoubleArray:
    """[n, k] figures of frames, summed over the blocks: [blocks, k], the last block may be short."""
    return np.add.reduceat(counts.astype(np.float64), np.arange(0, len(counts), BLOCK))


def drawn(blocks: int) -> DoubleArray:
    """[DRAWS, blocks] how often each block is in each bootstrap sample."""
    return np.random.default_rng(0).multinomial(blocks, np.full(blocks, 1 / blocks), DRAWS).astype(np.float64)


def interval(values: DoubleArray) -> tuple[DoubleArray, DoubleArray]:
    """Lower and upper end of the 95 % confidence interval over the first axis."""
    low, high = np.percentile(values, CONFIDENCE, axis=0)
    return low, high
