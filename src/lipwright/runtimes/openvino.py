"""OpenVINO: the fastest on processors that multiply bfloat16 natively."""

from __future__ import annotations

import sys
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import Any

import numpy as np

from lipwright import patch
from lipwright.contract import AUDIO, ROI, FloatArray, TensorSpec, UInt8Array
from lipwright.errors import RuntimeUnavailableError
from lipwright.runtimes.base import Binding, Kind, Precision, bind, in_pieces, isa_allows, require_file
from lipwright.runtimes.redrawing import Redrawn

#: The sum of a picture's 307,200 values, 0..1, times this stays far below 65,504, where f16 ends.
_SMALL = 2.0**-11
_DTYPES = {"f32": "float32", "f16": "float16"}
#: Their precision says what the network is really computed in; the others only move data.
_HEAVY_LAYERS = ("Convolution", "GroupConvolution", "FullyConnected", "MatMul", "Deconvolution")


class OpenVinoRuntime:
    """A model in OpenVINO on the processor. See ``Runtime``."""

    name = "openvino"

    def __init__(
        self,
        model: Path,
        kind: Kind,
        provider: str = "cpu",
        precision: Precision = "auto",
        threads: int | None = None,
        lanes: int = 1,
    ) -> None:
        """Open ``model`` (.onnx); ``precision`` auto: bf16 where the processor has it, else f32.

        ``threads`` are shared by the ``lanes``, the calls that may be under way at once.

        Raises:
            AvatarError: no such file.
            ContractError: not the network it should be.
            RuntimeUnavailableError: no such library or device, the model does not compile, or the processor computes
                in another precision than the one asked for.
        """
        require_file(model, (".onnx",), self.name)
        if provider != "cpu":
            raise RuntimeUnavailableError(f"openvino runs on cpu here, not on {provider!r}")
        self._model, self._config, self.lanes = model, _config(precision, threads, lanes), lanes
        self._marked = _mark(model)
        graph = _read(model, kind)
        self._binding = bind(model, kind, _ports(graph.inputs), _ports(graph.outputs))
        self.inputs, self.outputs = self._binding.network.inputs, (self._binding.network.output,)
        self._first = self._compiled(graph if kind == "encoder" else _between_pictures(graph, self._binding))
        # A generator compiled twice takes twice the memory: in float it is compiled when somebody asks for that.
        self._float = self._first if kind == "encoder" else None
        self._opening = Lock()
        compiled = self._first.compiled
        active, workers = executed_precision(compiled), int(compiled.get_property("INFERENCE_NUM_THREADS"))
        if precision not in ("auto", active):
            raise RuntimeUnavailableError(
                f"openvino was asked for {precision} and computes in {active} on this processor: "
                f"use --precision {active} or auto"
            )
        side_by_side = f", {lanes} frames at once" if lanes > 1 else ""
        self.detail = f"openvino CPU {active}, {workers} thread{'s' if workers > 1 else ''}{side_by_side}"

    def run(self, *arrays: FloatArray) -> FloatArray:
        """As ``Runtime.run``: float32 [B, ...] of every input to float32 [B, ...] of the output."""
        self.open_float()
        network = self._float
        assert network is not None

        def forward(given: Sequence[FloatArray]) -> FloatArray:
            # Ports are addressed by position: a model may leave them without names.
            answer: FloatArray = network(dict(zip(self._binding.positions, given, strict=True)))[self._binding.result]
            return answer

        return self._binding.run(arrays, forward)

    def redraw(self, rois: UInt8Array, windows: FloatArray) -> Redrawn:
        """As ``redraw``: uint8 [B, 320, 320, 3] and float32 [B, 32, 16, 16]; all of it is one network."""
        parts = []
        for rows, asked in in_pieces((rois, windows), self._binding.batch or 1):
            pictures, sums = self._first([np.ascontiguousarray(array) for array in rows])
            parts.append(Redrawn(pictures[:asked], np.isfinite(sums[:asked])))
        return Redrawn.joined(parts)

    def open_float(self) -> None:
        """Compile the network as the contract has it, for ``run``.

        Raises:
            RuntimeUnavailableError: the file is another one by now.
        """
        with self._opening:
            if self._float is None:
                if _mark(self._model) != self._marked:
                    raise RuntimeUnavailableError(f"{self._model} was replaced since it was opened: open it again")
                self._float = self._compiled(_read(self._model, "generator"))

    def _compiled(self, graph: Any) -> _Lanes:
        try:
            count_out(graph)
            return _Lanes(library().Core().compile_model(graph, "CPU", self._config), self.lanes, self._model)
        except RuntimeError as error:
            raise RuntimeUnavailableError(f"openvino cannot open {self._model}: {_last_line(error)}") from error


class _Lanes:
    """A compiled network that as many threads may use at once as it has lanes; the others wait in line.

    A thread that has just been served goes to the end of the line: a queue of the standard library lets it barge in,
    and of four films at once one got a third more frames than its share.
    """

    def __init__(self, compiled: Any, lanes: int, model: Path) -> None:
        self.compiled, self._model = compiled, model
        self._idle = [compiled.create_infer_request() for _ in range(lanes)]
        self._line: deque[SimpleQueue[Any]] = deque()
        self._changing = Lock()

    def __call__(self, arrays: Any) -> list[Any]:
        """All outputs, owned by the caller."""
        request = self._take()
        try:
            outputs = request.infer(arrays)
            # The request writes its next answer into the same memory.
            return [outputs[port].copy() for port in self.compiled.outputs]
        except RuntimeError as error:
            raise RuntimeUnavailableError(f"openvino cannot run {self._model}: {_last_line(error)}") from error
        finally:
            self._give_back(request)

    def _take(self) -> Any:
        """An idle request; where there is none, the one that comes back when everybody before us has had his."""
        with self._changing:
            if self._idle:
                return self._idle.pop()
            place: SimpleQueue[Any] = SimpleQueue()
            self._line.append(place)
        return place.get()

    def _give_back(self, request: Any) -> None:
        with self._changing:
            if self._line:
                self._line.popleft().put(request)
            else:
                self._idle.append(request)


def library() -> Any:
    """The openvino module.

    Raises:
        RuntimeUnavailableError: it is not installed or does not load.
    """
    # At every import openvino reports to its makers through this package, unasked; without it, it does not.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError as error:
        raise RuntimeUnavailableError(f"openvino cannot be loaded ({error}): pip install openvino") from error
    return openvino


def executed_precision(compiled: Any) -> str:
    """What the compiled model really computes in, read from its execution graph (a hint may be ignored)."""
    infos = [node.get_rt_info() for node in compiled.get_runtime_model().get_ordered_ops()]
    layers = [(str(i["layerType"].astype(str)), str(i["runtimePrecision"].astype(str))) for i in infos]
    counts = Counter(precision for layer, precision in layers if layer in _HEAVY_LAYERS)
    if counts:
        return counts.most_common(1)[0][0]
    return str(compiled.get_property("INFERENCE_PRECISION_HINT").to_string())


def devices() -> dict[str, tuple[str, ...]]:
    """What OpenVINO sees on this machine: device -> its full name, then its precisions and abilities."""
    core = library().Core()
    return {
        device: (core.get_property(device, "FULL_DEVICE_NAME"), *core.get_property(device, "OPTIMIZATION_CAPABILITIES"))
        for device in core.available_devices
    }


def _config(precision: Precision, threads: int | None, lanes: int) -> dict[str, Any]:
    config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY" if lanes == 1 else "THROUGHPUT", "NUM_STREAMS": lanes}
    if precision != "auto":  # left alone, OpenVINO takes bf16 only where the processor has it natively
        config["INFERENCE_PRECISION_HINT"] = precision
    elif not isa_allows("bf16"):  # of which it knows nothing: it would take bf16 and fail
        config["INFERENCE_PRECISION_HINT"] = "f32"
    if threads:
        config["INFERENCE_NUM_THREADS"] = threads
    return config


def _mark(model: Path) -> tuple[int, int]:
    """What changes when a file is replaced."""
    found = model.stat()
    return found.st_mtime_ns, found.st_size


def _read(model: Path, kind: Kind) -> Any:
    """The network's graph, with all sizes known."""
    try:
        graph = library().Core().read_model(str(model))
        _one_frame_a_call(graph, bind(model, kind, _ports(graph.inputs), _ports(graph.outputs)))
    except RuntimeError as error:
        raise RuntimeUnavailableError(f"openvino cannot open {model}: {_last_line(error)}") from error
    return graph


def _one_frame_a_call(graph: Any, binding: Binding) -> None:
    """Fix the sizes that a model leaves free: with all of them known beforehand OpenVINO plans its memory once.

    That is 4 to 5 % of a frame's processor time. A batch gains nothing on a processor: its frames are drawn one by one.
    """
    if binding.batch is None:
        specs = zip(binding.positions, binding.network.inputs, strict=True)
        graph.reshape({position: [1, *spec.shape[1:]] for position, spec in specs})


def _between_pictures(graph: Any, binding: Binding) -> Any:
    """A generator's graph with ``patch.to_inputs`` before it and ``patch.from_outputs`` behind it.

    It takes rois uint8 [B, 320, 320, 3] and windows float32 [B, 32, 16, 16], and gives the new ROIs and the sum of each
    picture times ``_SMALL``, which tells whether all were numbers.
    """
    op, count = library().opset13, binding.batch or 1
    image, audio = (graph.inputs[position] for position in binding.positions)
    rois = op.parameter([count, *ROI.shape[1:]], np.uint8, name="rois")
    windows = op.parameter([count, *AUDIO.shape[1:]], np.float32, name="windows")
    picture = op.divide(op.convert(op.transpose(rois, [0, 3, 1, 2]), "f32"), np.float32(255))
    pair = op.concat([picture, op.multiply(picture, patch.visible())], 1)
    for port, given in ((image, pair), (audio, windows)):
        ready = op.convert(given, port.get_element_type().to_string())
        for reader in port.get_target_inputs():
            reader.replace_source_output(ready.output(0))
    output = op.convert(graph.outputs[binding.result].get_node().input(0).get_source_output(), "f32")
    levels = op.round(op.multiply(op.clamp(output, 0, 1), np.float32(255)), "half_to_even")
    drawn = op.transpose(op.convert(levels, "u8"), [0, 2, 3, 1])
    sums = op.reduce_sum(op.multiply(output, np.float32(_SMALL)), [1, 2, 3])
    return library().Model([op.result(drawn), op.result(sums)], [rois, windows], "redraw")


def count_out(graph: Any) -> None:
    """Turn weights in 8 bits (`runtimes.stored`) into float32 before OpenVINO sees them.

    It would do so itself, while it compiles; with several streams they do it at the same time, and one time in four the
    network answered nonsense from then on (OpenVINO 2026.4, f32, two streams; tests/test_stored.py).
    """
    constant = library().opset13.constant
    for node in graph.get_ordered_ops():
        if node.get_type_name() != "Multiply":
            continue
        numbers, step = (port.get_source_output().get_node() for port in node.inputs())
        if numbers.get_type_name() != "Convert" or step.get_type_name() != "Constant":
            continue
        stored = numbers.input(0).get_source_output().get_node()
        if stored.get_type_name() == "Constant" and stored.get_element_type().to_string() == "i8":
            values = stored.data.astype("float32") * step.data
            node.output(0).replace(constant(values).output(0))


def _last_line(error: Exception) -> str:
    """OpenVINO's messages begin with the places in its own source and end with the reason."""
    return next((line for line in reversed(str(error).splitlines()) if line.strip()), "no reason given").strip()


def _ports(nodes: Any) -> list[TensorSpec]:
    return [_port(node, f"port {i}") for i, node in enumerate(nodes)]


def _port(node: Any, place: str) -> TensorSpec:
    shape, dtype = node.get_partial_shape(), node.get_element_type().get_type_name()
    sizes = tuple(d.get_length() if d.is_static else -1 for d in shape) if shape.rank.is_static else ()
    return TensorSpec(min(node.get_names(), default=place), sizes, _DTYPES.get(dtype, dtype))
