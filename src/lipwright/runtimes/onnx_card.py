"""onnxruntime on a card: from ROIs in 8 bits to ROIs in 8 bits without leaving it."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from lipwright.contract import FloatArray, UInt8Array
from lipwright.errors import RuntimeUnavailableError
from lipwright.runtimes.base import Kind, Precision, in_pieces
from lipwright.runtimes.onnx import OnnxRuntime, first_line, open_session
from lipwright.runtimes.redrawing import Redrawn, redraw_by_numpy

#: Providers whose tensors stay on a card from one network to the next, and onnxruntime's name of its memory.
CARDS = {"cuda": "cuda", "tensorrt": "cuda"}
#: TensorRT would build an engine for each of the two small networks; CUDA has their layers ready.
_BORDER_PROVIDER = {"tensorrt": "cuda"}


class OnnxOnCard(OnnxRuntime):
    """A generator in onnxruntime between two small networks that mask and scale before it, and round behind it.

    All three are joined by IO binding: what one has made stays where it is and is the next one's input. Only pictures
    in 8 bits and the sound's windows are sent. ``tools.make_borders`` makes the small ones.
    """

    def __init__(self, model: Path, kind: Kind, provider: str, precision: Precision, threads: int | None) -> None:
        """Open ``model`` and its two neighbours; raises what ``OnnxRuntime`` raises."""
        super().__init__(model, kind, provider, precision, threads)
        self._memory = CARDS.get(provider, "cpu")
        borders = Path(str(files("lipwright").joinpath("data", "borders")))
        beside = _BORDER_PROVIDER.get(provider, provider)
        # One thread where it is the processor after all: two pools of threads would wait for work in each other's way.
        self._before = open_session(borders / "to_inputs.onnx", beside, "f32", 1)
        self._behind = open_session(borders / "from_outputs.onnx", beside, "f32", 1)

    def redraw(self, rois: UInt8Array, windows: FloatArray) -> Redrawn:
        """As ``redraw``: uint8 [B, 320, 320, 3] and float32 [B, 32, 16, 16]; all of it is done on the card."""
        if any(port.dtype != "float32" for port in (*self._binding.inputs, self._binding.output)):
            return redraw_by_numpy(self, rois, windows)
        try:
            pieces = in_pieces((rois, windows), self._binding.batch or len(rois))
            return Redrawn.joined([self._redrawn(rows, asked) for rows, asked in pieces])
        except Exception as error:  # its errors have no other base in common
            raise RuntimeUnavailableError(f"onnxruntime cannot run {self._model}: {first_line(error)}") from error

    def _redrawn(self, rows: list[Any], asked: int) -> Redrawn:
        """The first ``asked`` frames of ROIs and windows that the network takes at once."""
        rois, windows = (np.ascontiguousarray(array) for array in rows)
        image, audio = self._binding.inputs
        (inputs,) = _bound(self._before, {"rois": rois}, ["inputs"], self._memory)
        (outputs,) = _bound(
            self._session, {image.name: inputs, audio.name: windows}, [self._binding.output.name], self._memory
        )
        drawn, sums = _bound(self._behind, {"outputs": outputs}, ["rois", "sums"], "cpu")
        return Redrawn(drawn.numpy()[:asked], np.isfinite(sums.numpy()[:asked]))


def _bound(session: Any, given: dict[str, Any], wanted: list[str], memory: str) -> list[Any]:
    """Run a network; ``given`` are arrays or what ``_bound`` gave, and what comes of it is left in ``memory``."""
    binding = session.io_binding()
    for name, value in given.items():
        if isinstance(value, np.ndarray):
            binding.bind_cpu_input(name, value)
        else:
            binding.bind_ortvalue_input(name, value)
    for name in wanted:
        binding.bind_output(name, memory)
    session.run_with_iobinding(binding)
    results: list[Any] = binding.get_outputs()
    return results
