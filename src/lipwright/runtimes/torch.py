"""torch: reads the family's ``.pth`` weights, runs them on the processor or on CUDA, f32, bf16 or f16."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lipwright.contract import FloatArray
from lipwright.errors import AvatarError, ContractError, MissingExtraError, RuntimeUnavailableError
from lipwright.runtimes.base import NETWORKS, Binding, Kind, Precision, cpu_has, require_file

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from lipwright.models.audio_encoder import AudioEncoder
    from lipwright.models.generator import Generator, Width

WEIGHTS = (".pth", ".pt")
PROVIDERS = ("cpu", "cuda")
#: Where an avatar keeps its generator's weights, beside the ONNX file.
_BESIDE = "best_trainloss.pth"
#: Keys under which training programs store the weights of one network among other things.
_WRAPPERS: dict[Kind, tuple[str, ...]] = {
    "generator": ("state_dict", "model", "generator"),
    "encoder": ("state_dict", "model", "audio_encoder"),
}
#: Its shape tells the width of a generator: the first block's projection, [channels, hidden, 1, 1].
_STEM = "inc.inconv.0.conv.6.weight"
_ENCODER_PREFIX = "audio_encoder."
#: Keys named in an error message before it is cut off.
_NAMED = 4


class TorchRuntime:
    """A network of ``lipwright.models`` with weights from a file. See ``Runtime``.

    ``threads`` sets torch's number of threads for the whole process: torch has no other.
    """

    name = "torch"
    lanes = 1

    def __init__(
        self, model: Path, kind: Kind, provider: str = "cpu", precision: Precision = "auto", threads: int | None = None
    ) -> None:
        """Open ``model``: .pth weights, or an .onnx file with the same network's weights beside it.

        Raises:
            AvatarError: no such file, or it is damaged.
            ContractError: not the weights of this network.
            MissingExtraError: torch is not installed.
            RuntimeUnavailableError: no such device or precision, or no weights beside an .onnx file.
        """
        torch = library()
        from lipwright.models.lean import lean

        self._device = _device(torch, provider)
        weights = find_weights(model)
        active = _precision(torch, provider, precision)
        self._dtype = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}[active]
        if threads:
            torch.set_num_threads(threads)
        network = lean(load_generator(weights) if kind == "generator" else load_audio_encoder(weights))
        self._network = network.to(self._device, self._dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        contract = NETWORKS[kind]
        positions = tuple(range(len(contract.inputs)))
        self._binding = Binding(contract, contract.inputs, positions, contract.output, 0, None)
        self.inputs, self.outputs = contract.inputs, (contract.output,)
        workers = torch.get_num_threads()
        where = f"{workers} thread{'s' if workers > 1 else ''}" if provider == "cpu" else _untested(torch)
        self.detail = f"torch {provider.upper()} {active}, {where}, weights {weights.name}"

    def run(self, *arrays: FloatArray) -> FloatArray:
        return self._binding.run(arrays, self._forward)

    def _forward(self, arrays: Sequence[FloatArray]) -> FloatArray:
        import torch

        try:
            with torch.inference_mode():
                # torch.tensor copies: the caller's array may be read-only, which from_numpy does not respect.
                ready = [torch.tensor(a, device=self._device).to(self._dtype) for a in arrays]
                ready = [t.contiguous(memory_format=torch.channels_last) for t in ready]
                output: FloatArray = self._network(*ready).float().contiguous().cpu().numpy()
        except RuntimeError as error:
            reason = str(error).partition("\n")[0]
            raise RuntimeUnavailableError(f"torch cannot run this network on {self._device}: {reason}") from error
        return output


@dataclass(frozen=True, slots=True)
class TorchState:
    """What torch has on this machine."""

    version: str
    threads: int
    cuda: str | None
    """Name of the CUDA device; None without one."""


def describe() -> TorchState:
    """Look at the installed torch.

    Raises:
        MissingExtraError: torch is not installed.
    """
    torch = library()
    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return TorchState(torch.__version__, torch.get_num_threads(), cuda)


def library() -> Any:
    """The torch module.

    Raises:
        MissingExtraError: torch is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError("torch", "train") from error
    return torch


def find_weights(model: Path) -> Path:
    """``model`` itself if it is a weights file, else the weights beside the .onnx file.

    Raises:
        RuntimeUnavailableError: there are none.
    """
    if model.suffix.lower() in WEIGHTS:
        require_file(model, WEIGHTS, "torch")
        return model
    found = weights_beside(model)
    if found is None:
        raise RuntimeUnavailableError(
            f"torch reads .pth weights and there are none beside {model}: put {_BESIDE} there, "
            "or use --runtime onnxruntime or openvino"
        )
    return found


def weights_beside(model: Path) -> Path | None:
    """The .pth file of the same name or of the name avatars give it, in the folder of ``model``."""
    return next((p for p in (model.with_suffix(".pth"), model.with_name(_BESIDE)) if p.is_file()), None)


# --- weights --------------------------------------------------------------------------------------------------------


def load_generator(path: Path) -> Generator:
    """A generator with the weights of a ``.pth`` file, in eval mode; its width is read from the shapes.

    Raises:
        AvatarError: the file is missing or damaged.
        ContractError: it holds other keys or shapes than a generator has, or values that are no numbers.
        MissingExtraError: torch is not installed.
    """
    library()
    from lipwright.models.generator import CHANNELS, Generator

    state = read_state(path, "generator")
    if _STEM not in state:
        raise ContractError(f"{path} holds no generator: it has no {_STEM}, but {_some(state)}")
    channels = int(state[_STEM].shape[0])
    widths: dict[int, Width] = {c[0]: width for width, c in CHANNELS.items()}
    if channels not in widths:
        known = ", ".join(f"{width} ({c})" for c, width in widths.items())
        raise ContractError(f"{path}: no generator begins with {channels} channels; known are {known}")
    generator = Generator(widths[channels])
    _load(generator, state, path)
    return generator


def load_audio_encoder(path: Path) -> AudioEncoder:
    """An audio encoder with the weights of a ``.pth`` file, in eval mode; keys with or without ``audio_encoder.``.

    Raises:
        AvatarError: the file is missing or damaged.
        ContractError: it holds other keys or shapes than an audio encoder has, or values that are no numbers.
        MissingExtraError: torch is not installed.
    """
    library()
    from lipwright.models.audio_encoder import AudioEncoder

    state = read_state(path, "encoder")
    encoder = AudioEncoder()
    if not any(key.startswith(_ENCODER_PREFIX) for key in state):
        state = {_ENCODER_PREFIX + key: value for key, value in state.items()}
    _load(encoder, state, path)
    return encoder


def read_state(path: Path, kind: Kind) -> dict[str, Tensor]:
    """The tensors of a ``.pth`` file by name, unwrapped and without the ``module.`` of parallel training.

    It is read with ``weights_only=True``: a file that would run code is refused.

    Raises:
        AvatarError: the file is missing, damaged or holds more than numbers.
        ContractError: there is no ``state_dict`` in it.
    """
    import torch

    require_file(path, WEIGHTS, "torch")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError) as error:
        raise AvatarError(
            f"{path} is damaged or holds more than weights, which is never loaded: save its state_dict alone"
        ) from error
    return {key.removeprefix("module."): value for key, value in _unwrap(content, path, kind).items()}


def _unwrap(content: object, path: Path, kind: Kind) -> Mapping[str, Tensor]:
    import torch

    while isinstance(content, Mapping):
        wrapper = next((k for k in _WRAPPERS[kind] if isinstance(content.get(k), Mapping)), None)
        if wrapper is None:
            break
        content = content[wrapper]
    if not isinstance(content, Mapping) or not content:
        raise ContractError(f"{path} holds {type(content).__name__}, not a state_dict")
    strange = [str(k) for k, v in content.items() if not isinstance(k, str) or not isinstance(v, torch.Tensor)]
    if strange:
        raise ContractError(f"{path} holds more than a state_dict of a {kind}: {_some(strange)}")
    return content


def _load(network: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Strict, but for the counters of batch norm, which nothing here reads."""
    import torch

    wanted = network.state_dict()
    missing = [k for k in wanted if k not in state and not k.endswith("num_batches_tracked")]
    shapes = [k for k in state if k in wanted and state[k].shape != wanted[k].shape]
    problems = {"unknown": [k for k in state if k not in wanted], "missing": missing, "of another shape": shapes}
    told = [f"{what}: {_some(keys)}" for what, keys in problems.items() if keys]
    if told:
        raise ContractError(f"{path} holds no {type(network).__name__}; {'; '.join(told)}")
    broken = [k for k, v in state.items() if not torch.isfinite(v).all()]
    if broken:
        raise ContractError(f"{path} holds values that are no numbers: {_some(broken)}")
    network.load_state_dict(state, strict=False)
    network.eval()


def _some(keys: Sequence[str] | Mapping[str, object]) -> str:
    names = list(keys)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


# --- devices --------------------------------------------------------------------------------------------------------


def _device(torch: Any, provider: str) -> torch.device:
    if provider not in PROVIDERS:
        raise RuntimeUnavailableError(f"torch has no provider {provider!r} here: {', '.join(PROVIDERS)}")
    if provider == "cuda" and not torch.cuda.is_available():
        raise RuntimeUnavailableError(
            f"torch {torch.__version__} finds no CUDA device: install an NVIDIA driver and a CUDA build of torch "
            "(pytorch.org, Get Started), or use --runtime auto"
        )
    return torch.device(provider)  # type: ignore[no-any-return]


def _precision(torch: Any, provider: str, precision: Precision) -> Precision:
    """``auto`` is bf16 where it is native, else f32; f16 only when asked for, because its range is small.

    Raises:
        RuntimeUnavailableError: the processor would have to emulate it, which takes many times as long as f32.
    """
    if precision == "auto":
        native = torch.cuda.is_bf16_supported(including_emulation=False) if provider == "cuda" else cpu_has("bf16")
        return "bf16" if native else "f32"
    if provider == "cpu" and not cpu_has(precision):
        raise RuntimeUnavailableError(f"this processor has no {precision} of its own: use --precision f32 or auto")
    return precision


def _untested(torch: Any) -> str:
    return f"{torch.cuda.get_device_name()} (a device this project does not test; its f32 convolutions may use TF32)"
