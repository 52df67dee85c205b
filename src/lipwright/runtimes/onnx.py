"""onnxruntime: runs everywhere, on the processor and through execution providers on accelerators."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lipwright.contract import FloatArray, TensorSpec
from lipwright.errors import AvatarError, RuntimeUnavailableError
from lipwright.runtimes.base import Kind, Precision, bind, require_file, threads_a_lane

#: Provider names users type, and onnxruntime's own. Only the processor is tested by this project.
PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
}
TESTED = ("cpu",)
#: The distribution that brings a provider.
_DISTRIBUTION = {"cuda": "onnxruntime-gpu", "tensorrt": "onnxruntime-gpu", "directml": "onnxruntime-directml"}
_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16"}
#: onnxruntime's severities: 3 = errors. Its warnings about optimisations it skipped tell a user nothing.
_LOG_ERRORS = 3


class OnnxRuntime:
    """A model in onnxruntime. See ``Runtime``."""

    name = "onnxruntime"

    def __init__(
        self,
        model: Path,
        kind: Kind,
        provider: str = "cpu",
        precision: Precision = "auto",
        threads: int | None = None,
        lanes: int = 1,
    ) -> None:
        """Open ``model`` (.onnx) on ``provider``, a key of ``PROVIDERS``.

        ``threads`` None: one for each core; they are shared by the ``lanes``, the calls that may be under way at once.

        Raises:
            AvatarError: no such file, or no ONNX model in it.
            ContractError: not the network it should be.
            RuntimeUnavailableError: library, provider or precision is not there or not really active.
        """
        require_file(model, (".onnx",), self.name)
        self._model = model
        active = _precision(provider, precision)
        self.lanes = lanes
        self._session = open_session(model, provider, active, threads_a_lane(threads, lanes))
        inputs = [_port(p) for p in self._session.get_inputs()]
        self._binding = bind(model, kind, inputs, [_port(p) for p in self._session.get_outputs()])
        self.inputs, self.outputs = self._binding.network.inputs, (self._binding.network.output,)
        workers = f", {threads} thread{'s' if threads > 1 else ''}" if threads else ", a thread for each core"
        untested = "" if provider in TESTED else " (a provider this project does not test)"
        workers += f", {lanes} frames at once" if lanes > 1 else ""
        self.detail = f"onnxruntime {provider.upper()} {active}{workers if provider == 'cpu' else ''}{untested}"

    def run(self, *arrays: FloatArray) -> FloatArray:
        """As ``Runtime.run``: float32 [B, ...] of every input to float32 [B, ...] of the output."""
        return self._binding.run(arrays, self._forward)

    def _forward(self, arrays: Sequence[FloatArray]) -> FloatArray:
        names = [port.name for port in self._binding.inputs]
        try:
            outputs = self._session.run([self._binding.output.name], dict(zip(names, arrays, strict=True)))
        except Exception as error:  # its errors have no other base in common
            raise RuntimeUnavailableError(f"onnxruntime cannot run {self._model}: {first_line(error)}") from error
        result: FloatArray = outputs[0]
        return result


def library() -> Any:
    """The onnxruntime module.

    Raises:
        RuntimeUnavailableError: it is not installed, or two distributions overwrote each other's files.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise RuntimeUnavailableError(f"onnxruntime cannot be loaded ({error}): pip install onnxruntime") from error
    if not hasattr(onnxruntime, "InferenceSession"):
        raise RuntimeUnavailableError(
            "the installation of onnxruntime is broken (onnxruntime and onnxruntime-gpu share one folder): "
            "pip uninstall -y onnxruntime onnxruntime-gpu; then pip install one of the two"
        )
    return onnxruntime


def available_providers() -> tuple[str, ...]:
    """The keys of ``PROVIDERS`` that this build of onnxruntime contains; whether they work only opening one shows."""
    built_in = library().get_available_providers()
    return tuple(key for key, value in PROVIDERS.items() if value in built_in)


def _precision(provider: str, precision: Precision) -> str:
    """What the provider computes in; models are stored in f32 and only TensorRT converts them."""
    if provider not in PROVIDERS:
        raise RuntimeUnavailableError(f"onnxruntime has no provider {provider!r} here: {', '.join(PROVIDERS)}")
    if precision in ("auto", "f32"):
        return "f32"
    if precision == "f16" and provider == "tensorrt":
        return "f16"
    raise RuntimeUnavailableError(f"onnxruntime on {provider} computes in f32, not {precision}: use openvino or torch")


def _remedy(provider: str) -> str:
    """How to get a provider that this build has not."""
    if provider in _DISTRIBUTION:
        return f"pip uninstall -y onnxruntime; pip install {_DISTRIBUTION[provider]}"
    if provider == "coreml":
        return "Apple's own machines alone have it; use --runtime auto"
    return "pip install --force-reinstall onnxruntime"


def open_session(model: Path, provider: str, precision: str, threads: int | None) -> Any:
    """Open a model on this provider and no other; ``threads`` None: one for each core.

    Returns:
        onnxruntime's InferenceSession.

    Raises:
        AvatarError: no ONNX model.
        RuntimeUnavailableError: the provider is not there, or did not start.
    """
    onnxruntime, wanted = library(), PROVIDERS[provider]
    if wanted not in onnxruntime.get_available_providers():
        raise RuntimeUnavailableError(f"this onnxruntime is built without {wanted}: {_remedy(provider)}")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _LOG_ERRORS
    options.intra_op_num_threads = threads or 0
    chain: list[Any] = [(wanted, {"trt_fp16_enable": True} if precision == "f16" else {})]
    if provider == "tensorrt":
        chain.append(PROVIDERS["cuda"])
    if provider != "cpu":
        chain.append(PROVIDERS["cpu"])
    session = _open(onnxruntime, model, options, chain)
    active = session.get_providers()
    if active[0] != wanted:
        raise RuntimeUnavailableError(
            f"{wanted} was asked for and did not start ({', '.join(active)} did): its driver or libraries are missing; "
            "lipwright doctor says more, --runtime auto takes what works"
        )
    return session


def _open(onnxruntime: Any, model: Path, options: Any, providers: list[Any]) -> Any:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    try:
        return onnxruntime.InferenceSession(str(model), options, providers=providers)
    except (state.InvalidProtobuf, state.NoModel) as error:
        raise AvatarError(f"{model} is damaged or no ONNX model: {first_line(error)}") from error
    except Exception as error:  # its errors have no other base in common
        raise RuntimeUnavailableError(f"onnxruntime cannot open {model}: {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """What its errors say before they list the places in its own source."""
    return str(error).strip().partition("\n")[0]


def _port(node: Any) -> TensorSpec:
    """A port of a session, which gives an int for a fixed dimension, a name or None for a free one."""
    shape = tuple(d if isinstance(d, int) else -1 for d in node.shape)
    return TensorSpec(node.name, shape, _DTYPES.get(node.type, node.type))
