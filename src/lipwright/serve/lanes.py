"""A generator that draws several frames side by side, where the measurement at the start says that this is faster.

One thread decides what is drawn next, in the order of deadlines; only a call for several frames is spread over lanes,
so nothing of that order changes. A single frame keeps all cores for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from lipwright.contract import FloatArray, TensorSpec, UInt8Array
from lipwright.runtimes import Redrawn, Runtime, open_float, redraw

Answer = TypeVar("Answer")


class SideBySide:
    """One frame by ``alone``; as many as ``spread`` names by a second network, a frame a lane. See ``Runtime``.

    Args:
        alone: the generator, opened for one call at a time.
    """

    lanes = 1

    def __init__(self, alone: Runtime) -> None:
        self._alone = alone
        self._wide: Runtime | None = None
        self._counts: frozenset[int] = frozenset()
        self._threads: ThreadPoolExecutor | None = None
        self.name, self.detail = alone.name, alone.detail

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self._alone.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self._alone.outputs

    def spread(self, wide: Runtime, counts: Collection[int]) -> None:
        """From now on draw so many frames at once by the lanes of ``wide``, which is the same network."""
        self.close()
        self._wide, self._counts = wide, frozenset(counts)
        self._threads = ThreadPoolExecutor(wide.lanes, "lipwright-lane")
        self.detail = f"{self._alone.detail}; up to {max(counts)} frames side by side"

    def run(self, *arrays: FloatArray) -> FloatArray:
        """As ``Runtime.run``."""
        return np.concatenate(self._drawn(lambda network, *some: network.run(*some), *arrays))

    def redraw(self, rois: UInt8Array, windows: FloatArray) -> Redrawn:
        """As ``runtimes.redraw``."""
        return Redrawn.joined(self._drawn(redraw, rois, windows))

    def open_float(self) -> None:
        """As ``runtimes.open_float``."""
        for network in filter(None, (self._alone, self._wide)):
            open_float(network)

    def _drawn(self, draw: Callable[..., Answer], *arrays: npt.NDArray[Any]) -> list[Answer]:
        """What ``draw`` makes of a network and the arrays: of all at once, or of one frame a lane."""
        count, wide = len(arrays[0]), self._wide
        if count not in self._counts or wide is None or self._threads is None:
            return [draw(self._alone, *arrays)]
        calls = [self._threads.submit(draw, wide, *(array[k : k + 1] for array in arrays)) for k in range(count)]
        wait(calls)  # also those beside one that has failed: the next call shall find all lanes free
        return [call.result() for call in calls]

    def close(self) -> None:
        """End the threads; single calls go on."""
        if self._threads is not None:
            self._threads.shutdown()
        self._wide, self._threads, self._counts = None, None, frozenset()
        self.detail = self._alone.detail
