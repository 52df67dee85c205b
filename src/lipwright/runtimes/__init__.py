"""Libraries that run networks, behind one Protocol: onnxruntime, OpenVINO and torch. ``open_runtime`` is the door."""

from __future__ import annotations

import platform
from pathlib import Path

from lipwright.errors import AvatarError, RuntimeUnavailableError
from lipwright.runtimes.base import PRECISIONS, Kind, Precision, Runtime, all_lanes
from lipwright.runtimes.choice import Question, choose, is_installed
from lipwright.runtimes.redrawing import Probe, Redrawn, open_float, redraw

__all__ = [
    "RUNTIMES",
    "Kind",
    "Precision",
    "Redrawn",
    "Runtime",
    "all_lanes",
    "has_nvidia",
    "open_float",
    "open_runtime",
    "redraw",
]

#: The names a user may give; ``:PROVIDER`` may follow, as in ``onnxruntime:cuda`` or ``torch:cuda``.
RUNTIMES = ("auto", "onnxruntime", "openvino", "torch")
#: Accelerators that auto tries where onnxruntime was built with them. Not TensorRT: it builds for minutes.
_AUTO_PROVIDERS = ("cuda", "coreml", "directml")


def open_runtime(
    model: Path,
    kind: Kind,
    runtime: str = "auto",
    precision: Precision = "auto",
    threads: int | None = None,
    lanes: int = 1,
) -> Runtime:
    """Open a network and run it once, so that what does not work shows here.

    Args:
        model: .onnx for onnxruntime and openvino, .pth for torch (also taken from beside an .onnx file, or the weights
            out of that file where lipwright exported it).
        kind: which network of the contract it must be.
        runtime: ``auto``, ``onnxruntime``, ``openvino`` or ``torch``, the latter with ``:PROVIDER`` if wanted; without
            it the processor. ``auto`` times what works on this model and remembers the result for the next start. The
            encoder is so small that opening counts more: there ``auto`` is onnxruntime on the processor.
        precision: what the network is computed in; ``auto`` is bf16 where the device has it natively, else f32. A
            precision that would not really be used is refused.
        threads: None leaves the number to the library.
        lanes: calls that shall be possible at once, each slower than a single one would be, all together faster;
            torch and accelerators have one in any case.

    Raises:
        AvatarError: no such file, or it is damaged.
        ContractError: the file is another network.
        MissingExtraError: torch is not installed.
        RuntimeUnavailableError: what was asked for is not there, or would not really be active.
    """
    if precision not in PRECISIONS:
        raise RuntimeUnavailableError(f"unknown precision {precision!r}: {', '.join(PRECISIONS)}")
    if threads is not None and threads < 1:
        raise RuntimeUnavailableError(f"threads must be 1 or more, not {threads}")
    if not model.is_file():
        raise AvatarError(f"there is no model file {model}")
    if runtime != "auto":
        return _open(model, kind, runtime, precision, threads, lanes)
    candidates = _candidates(model, kind, precision)
    if len(candidates) > 1:
        question = Question(model, kind, precision, threads, candidates)
        return choose(question, lambda name: _open(model, kind, name, precision, threads, lanes))
    opened = _open(model, kind, candidates[0], precision, threads, lanes)
    opened.detail += f" (auto: the only choice for a {kind} in {model.suffix} here)"
    return opened


def _open(model: Path, kind: Kind, runtime: str, precision: Precision, threads: int | None, lanes: int) -> Runtime:
    name, _, provider = runtime.lower().partition(":")
    opened = _construct(name, model, kind, provider or "cpu", precision, threads, lanes)
    Probe(kind).ask(opened)
    return opened


def _construct(
    name: str, model: Path, kind: Kind, provider: str, precision: Precision, threads: int | None, lanes: int
) -> Runtime:
    """Each library's module loads only here, when it is wanted."""
    if name == "onnxruntime":
        from lipwright.runtimes.onnx import OnnxRuntime
        from lipwright.runtimes.onnx_card import CARDS, OnnxOnCard

        if provider in CARDS and kind == "generator":
            return OnnxOnCard(model, kind, provider, precision, threads)
        return OnnxRuntime(model, kind, provider, precision, threads, lanes if provider == "cpu" else 1)
    if name == "openvino":
        from lipwright.runtimes.openvino import OpenVinoRuntime

        return OpenVinoRuntime(model, kind, provider, precision, threads, lanes)
    if name == "torch":
        from lipwright.runtimes.torch import TorchRuntime

        return TorchRuntime(model, kind, provider, precision, threads)
    raise RuntimeUnavailableError(f"unknown runtime {name!r}: {', '.join(RUNTIMES)}, with :PROVIDER if wanted")


def _candidates(model: Path, kind: Kind, precision: Precision) -> tuple[str, ...]:
    """What auto tries. The first that works is the reference the others must agree with."""
    from lipwright.runtimes.torch import WEIGHTS, has_weights

    cuda = ["torch:cuda"] if has_nvidia() and is_installed("torch") else []
    if model.suffix.lower() in WEIGHTS:
        return ("torch:cpu", *cuda)
    if kind == "encoder" and precision in ("auto", "f32"):
        return ("onnxruntime:cpu",)
    openvino = ["openvino"] if is_installed("openvino") else []
    return ("onnxruntime:cpu", *openvino, *_accelerated(), *(cuda if has_weights(model) else []))


def _accelerated() -> list[str]:
    from lipwright.runtimes.onnx import available_providers

    try:
        return [f"onnxruntime:{p}" for p in available_providers() if p in _AUTO_PROVIDERS]
    except RuntimeUnavailableError:
        return []  # onnxruntime:cpu, tried in any case, gives the reason


def has_nvidia() -> bool:
    """A cheap look, so that torch is not loaded for nothing where there is no NVIDIA driver."""
    return platform.system() == "Windows" or Path("/proc/driver/nvidia/version").is_file() or Path("/dev/dxg").exists()
