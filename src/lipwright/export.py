"""torch to ONNX, and the proof that both draw the same.

The graph is the network with all that can be folded (`models.lean`), opset 17, free batch size, always computed
in f32. Stored weights may be rounded to fp16, which halves the file: a Cast behind each of them is folded away by
onnxruntime and OpenVINO when they load it, so it costs no speed.
"""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lipwright.contract import FloatArray
from lipwright.errors import AvatarError, ContractError, LipwrightError, MissingExtraError
from lipwright.runtimes.base import NETWORKS, Kind, Runtime, probe_inputs
from lipwright.runtimes.onnx import OnnxRuntime
from lipwright.runtimes.onnx import library as onnxruntime_library
from lipwright.runtimes.torch import library as torch_library
from lipwright.runtimes.torch import load_audio_encoder, load_generator

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "OPSET",
    "PARITY_LIMIT",
    "ROUNDING_LIMIT",
    "ParityRecord",
    "export_audio_encoder",
    "export_generator",
    "load_audio_encoder",
    "load_generator",
]

OPSET = 17
#: torch against onnxruntime, both in f32 and with the same weights: the largest difference of any value.
PARITY_LIMIT = 1e-4
#: Weights rounded to fp16 against the same unrounded: two steps of an 8-bit picture.
ROUNDING_LIMIT = 2 / 255
#: Inputs compared in one go; bounds the memory, and the last, smaller batch proves that the batch is free.
_BATCH = 4


@dataclass(frozen=True, slots=True)
class ParityRecord:
    """What the comparison found; for the manifest.

    Differences are the largest absolute ones over all values and inputs. Where outputs are larger than 1 (features of
    an audio encoder) they are divided by the largest output; a generator's never are.
    """

    max_abs_f32: float
    """torch against the ONNX graph in onnxruntime, unrounded weights."""
    max_abs_rounded: float | None
    """The same with weights rounded to fp16 on both sides; None if the file keeps them in f32."""
    rounded_vs_unrounded: float | None
    """The ONNX graph with rounded against the one with unrounded weights; None likewise."""
    opset: int
    n_inputs: int
    torch: str
    """Version that exported."""
    onnxruntime: str
    """Version that compared."""


def export_generator(
    weights: Path | nn.Module, out: Path, images: FloatArray, windows: FloatArray, half: bool = True
) -> ParityRecord:
    """Write a generator as ONNX (``input``, ``audio`` -> ``output``) after comparing it with torch.

    Args:
        weights: a ``.pth`` file or the module itself, which stays as it is.
        out: the .onnx file; replaced only when everything was found right.
        images: float32 [n, 6, 320, 320] 0..1 BGR, real pairs of ROIs.
        windows: float32 [n, 32, 16, 16], real windows of features.
        half: store the weights rounded to fp16.

    Raises:
        AvatarError: ``out`` cannot be written, or the weights not read.
        ContractError: the weights are of another network, or the arrays have wrong shapes.
        LipwrightError: a difference exceeds its limit.
        MissingExtraError: torch or onnx is not installed.
    """
    network = load_generator(weights) if isinstance(weights, Path) else weights
    return _export(network, "generator", out, (images, windows), half)


def export_audio_encoder(weights: Path | nn.Module, out: Path, mels: FloatArray, half: bool = True) -> ParityRecord:
    """Write an audio encoder as ONNX (``mel`` -> ``feature``); ``mels`` float32 [n, 1, 80, 16], else as above."""
    network = load_audio_encoder(weights) if isinstance(weights, Path) else weights
    return _export(network, "encoder", out, (mels,), half)


def _export(network: nn.Module, kind: Kind, out: Path, inputs: Sequence[FloatArray], half: bool) -> ParityRecord:
    from lipwright.models.lean import lean

    _check_inputs(kind, inputs)
    original = copy.deepcopy(network).cpu().float().eval()
    folded = lean(copy.deepcopy(original))
    try:
        with tempfile.TemporaryDirectory(prefix=f".{out.stem}-", dir=out.parent) as folder:
            plain = Path(folder) / "plain.onnx"
            _write_graph(folded, kind, plain)
            unrounded = _run_onnx(plain, kind, inputs)
            same = _compare(_run_torch(original, inputs), unrounded)
            _refuse(same, PARITY_LIMIT, "torch and onnxruntime differ by")
            rounded_same = rounding = None
            if half:
                rounded_same, rounding = _round(folded, kind, plain, inputs, unrounded)
            plain.replace(out)
    except OSError as error:
        raise AvatarError(
            f"{out} cannot be written ({error.strerror or error}): check the folder and its free space"
        ) from error
    version, compared = torch_library().__version__, onnxruntime_library().__version__
    return ParityRecord(same, rounded_same, rounding, OPSET, len(inputs[0]), version, compared)


def _round(
    folded: nn.Module, kind: Kind, file: Path, inputs: Sequence[FloatArray], unrounded: FloatArray
) -> tuple[float, float]:
    """Round the weights of ``folded`` and of ``file``, both in place; compare them, and with ``unrounded``."""
    _round_module(folded)
    _round_graph(file)
    rounded = _run_onnx(file, kind, inputs)
    same = _compare(_run_torch(folded, inputs), rounded)
    _refuse(same, PARITY_LIMIT, "with rounded weights torch and onnxruntime differ by")
    rounding = _compare(unrounded, rounded)
    _refuse(
        rounding,
        ROUNDING_LIMIT,
        "storing the weights as fp16 (export with half=False to keep them) changes the output by",
    )
    return same, rounding


def _check_inputs(kind: Kind, inputs: Sequence[FloatArray]) -> None:
    for spec, array in zip(NETWORKS[kind].inputs, inputs, strict=True):
        spec.check(array)
        if not np.isfinite(array).all():
            raise ContractError(f"{spec.name}: the inputs for the comparison hold values that are no numbers")
    counts = [len(array) for array in inputs]
    if not counts[0] or len(set(counts)) > 1:
        raise ContractError(f"the comparison needs at least one input and as many of each kind, got {counts}")


# --- the graph ------------------------------------------------------------------------------------------------------


def _write_graph(network: nn.Module, kind: Kind, file: Path) -> None:
    """Trace ``network`` into ``file``.

    torch's older exporter: the graph is the same as that of the new one and equally fast, but it needs no second
    package, takes a quarter of the time and writes no places of this machine's source code into the file.
    """
    torch = torch_library()
    onnx = _onnx()
    specs = NETWORKS[kind]
    names = [spec.name for spec in specs.inputs]
    sample = tuple(torch.from_numpy(array) for array in probe_inputs(kind, batch=2))
    with warnings.catch_warnings():
        # That exporter is deprecated, and sizes that are fixed by the contract become constants, as they should.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
        torch.onnx.export(
            network,
            sample,
            str(file),
            input_names=names,
            output_names=[specs.output.name],
            opset_version=OPSET,
            dynamic_axes={name: {0: "batch"} for name in (*names, specs.output.name)},
            dynamo=False,
        )
    onnx.checker.check_model(str(file), full_check=True)


def _onnx() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError("onnx", "train") from error
    return onnx


def _round_graph(file: Path) -> None:
    """Store every weight (not the biases, which are few) as fp16, with a Cast to f32 behind it."""
    onnx = _onnx()
    model = onnx.load(file)
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) > 1:
            values, name = onnx.numpy_helper.to_array(tensor), tensor.name
            stored = f"{name}.fp16"
            tensor.CopyFrom(onnx.numpy_helper.from_array(_to_half(values), stored))
            casts.append(onnx.helper.make_node("Cast", [stored], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, file)
    onnx.checker.check_model(str(file), full_check=True)


def _round_module(network: nn.Module) -> None:
    """The same rounding in torch."""
    torch = torch_library()
    with torch.no_grad():
        for weight in network.parameters():
            if weight.dim() > 1:
                weight.copy_(torch.from_numpy(_to_half(weight.numpy()).astype(np.float32)))


def _to_half(values: FloatArray) -> np.ndarray[Any, np.dtype[np.float16]]:
    """Values beyond fp16's range become infinite without a warning: the comparison then refuses them."""
    with np.errstate(over="ignore"):
        return values.astype(np.float16)


# --- the proof ------------------------------------------------------------------------------------------------------


def _run_onnx(file: Path, kind: Kind, inputs: Sequence[FloatArray]) -> FloatArray:
    runtime: Runtime = OnnxRuntime(file, kind)
    return np.concatenate([runtime.run(*batch) for batch in _batches(inputs)])


def _run_torch(network: nn.Module, inputs: Sequence[FloatArray]) -> FloatArray:
    torch = torch_library()
    with torch.inference_mode():
        outputs = [network(*(torch.tensor(array) for array in batch)).numpy() for batch in _batches(inputs)]
    return np.concatenate(outputs)


def _batches(inputs: Sequence[FloatArray]) -> list[list[FloatArray]]:
    return [[array[i : i + _BATCH] for array in inputs] for i in range(0, len(inputs[0]), _BATCH)]


def _compare(expected: FloatArray, got: FloatArray) -> float:
    """Largest absolute difference, relative to the largest output where that exceeds 1; NaN stays NaN."""
    return float(np.abs(expected - got).max()) / max(1.0, float(np.abs(expected).max()))


def _refuse(difference: float, limit: float, what: str) -> None:
    if not difference <= limit:
        raise LipwrightError(f"not exported: {what} {difference:.2e}, the limit is {limit:.2e}")
