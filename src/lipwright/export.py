"""torch to ONNX, and the proof that both draw the same.

The graph is the network with all that can be folded (`models.lean`), opset 17, free batch size, always computed
in f32. Stored weights may be rounded to fp16 or to 8 bits (`runtimes.stored`): the file is smaller, and as fast.
"""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from lipwright.contract import FloatArray
from lipwright.errors import AvatarError, ContractError, LipwrightError
from lipwright.runtimes.base import NETWORKS, Kind, Runtime, probe_inputs
from lipwright.runtimes.onnx import OnnxRuntime
from lipwright.runtimes.onnx import library as onnxruntime_library
from lipwright.runtimes.stored import Store, round_graph, rounded
from lipwright.runtimes.stored import library as onnx_library
from lipwright.runtimes.torch import library as torch_library
from lipwright.runtimes.torch import load_audio_encoder, load_generator

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "EIGHT_BIT_LIMITS",
    "OPSET",
    "PARITY_LIMIT",
    "ROUNDING_LIMIT",
    "Apart",
    "ParityRecord",
    "Store",
    "export_audio_encoder",
    "export_generator",
    "load_audio_encoder",
    "load_generator",
]

AnyFloats = npt.NDArray[np.floating[Any]]

OPSET = 17
#: torch against onnxruntime, both in f32 and with the same weights: the largest difference of any value.
PARITY_LIMIT = 1e-4
#: A network whose sums cancel is further from itself in f64 than that (a person trained on 20 s: 1.8e-4), and each
#: library errs its own way: so many times as far may they be apart then.
_OWN_ROUNDING = 4
#: Weights rounded to fp16 against the same unrounded: two steps of an 8-bit picture.
ROUNDING_LIMIT = 2 / 255
#: Weights in 8 bits against the same unrounded: mean and 99.9th percentile. What drawing in bf16 may change, too.
EIGHT_BIT_LIMITS = (0.5 / 255, 4 / 255)
#: What a user can do where a way to store changes too much.
_FINER: dict[Store, Store] = {"int8": "f16", "f16": "f32"}
#: Inputs compared in one go; bounds the memory, and the last, smaller batch proves that the batch is free.
_BATCH = 4


@dataclass(frozen=True, slots=True)
class Apart:
    """How far two outputs are apart, over all values and inputs.

    Absolute differences. Where outputs are larger than 1 (features of an audio encoder) they are divided by the largest
    output; a generator's never are.
    """

    max_abs: float
    mean_abs: float
    p999_abs: float
    """99.9th percentile."""

    @classmethod
    def of(cls, expected: AnyFloats, got: AnyFloats) -> Self:
        """Values that are no numbers make NaN of all three."""
        apart = np.abs(expected - got) / max(1.0, float(np.abs(expected).max()))
        return cls(float(apart.max()), float(apart.mean(dtype=np.float64)), float(np.quantile(apart, 0.999)))


@dataclass(frozen=True, slots=True)
class ParityRecord:
    """What the comparison found; for the manifest. Differences are those of ``Apart``."""

    max_abs_f32: float
    """torch against the ONNX graph in onnxruntime, unrounded weights: the largest."""
    max_abs_rounded: float | None
    """The same with rounded weights on both sides; None if the file keeps them in f32."""
    rounded_vs_unrounded: float | None
    """The ONNX graph with rounded against the one with unrounded weights: the largest; None likewise."""
    rounded_mean: float | None
    """The same: the mean."""
    rounded_p999: float | None
    """The same: the 99.9th percentile."""
    stored: Store
    """How the file keeps the weights."""
    opset: int
    n_inputs: int
    torch: str
    """Version that exported."""
    onnxruntime: str
    """Version that compared."""


def export_generator(
    weights: Path | nn.Module, out: Path, images: FloatArray, windows: FloatArray, store: Store = "f16"
) -> ParityRecord:
    """Write a generator as ONNX (``input``, ``audio`` -> ``output``) after comparing it with torch.

    Args:
        weights: a ``.pth`` file or the module itself, which stays as it is.
        out: the .onnx file; replaced only when everything was found right.
        images: float32 [n, 6, 320, 320] 0..1 BGR, real pairs of ROIs.
        windows: float32 [n, 32, 16, 16], real windows of features.
        store: how the file keeps the weights.

    Raises:
        AvatarError: ``out`` cannot be written, or the weights not read.
        ContractError: the weights are of another network, or the arrays have wrong shapes.
        LipwrightError: a difference exceeds its limit.
        MissingExtraError: torch or onnx is not installed.
    """
    network = load_generator(weights) if isinstance(weights, Path) else weights
    return _export(network, "generator", out, (images, windows), store)


def export_audio_encoder(weights: Path | nn.Module, out: Path, mels: FloatArray, store: Store = "f16") -> ParityRecord:
    """Write an audio encoder as ONNX (``mel`` -> ``feature``); ``mels`` float32 [n, 1, 80, 16], else as above."""
    network = load_audio_encoder(weights) if isinstance(weights, Path) else weights
    return _export(network, "encoder", out, (mels,), store)


def _export(network: nn.Module, kind: Kind, out: Path, inputs: Sequence[FloatArray], store: Store) -> ParityRecord:
    from lipwright.models.lean import lean

    _check_inputs(kind, inputs)
    original = copy.deepcopy(network).cpu().float().eval()
    folded = lean(copy.deepcopy(original))
    try:
        with tempfile.TemporaryDirectory(prefix=f".{out.stem}-", dir=out.parent) as folder:
            plain = Path(folder) / "plain.onnx"
            _write_graph(folded, kind, plain)
            unrounded = _run_onnx(plain, kind, inputs)
            same = _parity(original, inputs, unrounded, "torch and onnxruntime differ by")
            rounded_same = rounding = None
            if store != "f32":
                rounded_same, rounding = _round(folded, kind, plain, inputs, unrounded, store)
            plain.replace(out)
    except OSError as error:
        raise AvatarError(
            f"{out} cannot be written ({error.strerror or error}): check the folder and its free space"
        ) from error
    return ParityRecord(
        max_abs_f32=same,
        max_abs_rounded=rounded_same,
        rounded_vs_unrounded=rounding.max_abs if rounding else None,
        rounded_mean=rounding.mean_abs if rounding else None,
        rounded_p999=rounding.p999_abs if rounding else None,
        stored=store,
        opset=OPSET,
        n_inputs=len(inputs[0]),
        torch=torch_library().__version__,
        onnxruntime=onnxruntime_library().__version__,
    )


def _round(
    folded: nn.Module, kind: Kind, file: Path, inputs: Sequence[FloatArray], unrounded: FloatArray, store: Store
) -> tuple[float, Apart]:
    """Round the weights of ``folded`` and of ``file``, both in place; compare them, and with ``unrounded``."""
    _round_module(folded, store)
    round_graph(file, store)
    drawn = _run_onnx(file, kind, inputs)
    same = _parity(folded, inputs, drawn, "with rounded weights torch and onnxruntime differ by")
    rounding = Apart.of(unrounded, drawn)
    _refuse_rounding(rounding, store)
    return same, rounding


def _parity(network: nn.Module, inputs: Sequence[FloatArray], drawn: FloatArray, what: str) -> float:
    """Largest difference between ``network`` and what onnxruntime drew; refused beyond what f32 itself explains."""
    said = _run_torch(network, inputs)
    difference = Apart.of(said, drawn).max_abs
    limit = PARITY_LIMIT
    if difference > limit:
        exact = _run_torch(copy.deepcopy(network).double(), [array.astype(np.float64) for array in inputs])
        limit = max(limit, _OWN_ROUNDING * Apart.of(said, exact).max_abs)
    _refuse(difference, limit, what)
    return difference


def _refuse_rounding(rounding: Apart, store: Store) -> None:
    """Each way to store has its limits."""
    mean, p999 = EIGHT_BIT_LIMITS
    limited = {
        "f16": [("largest", rounding.max_abs, ROUNDING_LIMIT)],
        "int8": [("mean", rounding.mean_abs, mean), ("99.9th percentile", rounding.p999_abs, p999)],
    }
    for name, seen, limit in limited[store]:
        what = f"storing the weights as {store} changes the output, by its {name} difference,"
        _refuse(seen, limit, what, f": --store {_FINER[store]} changes it less")


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
    onnx = onnx_library()
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


def _round_module(network: nn.Module, store: Store) -> None:
    """The same rounding in torch as ``round_graph`` does in the file."""
    torch = torch_library()
    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_(torch.from_numpy(rounded(weight.numpy(), store)))


# --- the proof ------------------------------------------------------------------------------------------------------


def _run_onnx(file: Path, kind: Kind, inputs: Sequence[FloatArray]) -> FloatArray:
    runtime: Runtime = OnnxRuntime(file, kind)
    return np.concatenate([runtime.run(*batch) for batch in _batches(inputs)])


def _run_torch(network: nn.Module, inputs: Sequence[AnyFloats]) -> AnyFloats:
    torch = torch_library()
    with torch.inference_mode():
        outputs = [network(*(torch.tensor(array) for array in batch)).numpy() for batch in _batches(inputs)]
    return np.concatenate(outputs)


def _batches(inputs: Sequence[AnyFloats]) -> list[list[AnyFloats]]:
    return [[array[i : i + _BATCH] for array in inputs] for i in range(0, len(inputs[0]), _BATCH)]


def _refuse(difference: float, limit: float, what: str, remedy: str = "") -> None:
    if not difference <= limit:
        raise LipwrightError(f"not exported: {what} {difference:.2e}, the limit is {limit:.2e}{remedy}")
