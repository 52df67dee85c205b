"""torch: reads the family's ``.pth`` weights, or those in an ONNX file that lipwright exported; on the processor or on
CUDA, f32, bf16 or f16.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lipwright import patch
from lipwright.contract import FloatArray, UInt8Array
from lipwright.errors import AvatarError, ContractError, MissingExtraError, RuntimeUnavailableError
from lipwright.runtimes.base import NETWORKS, Binding, Kind, Precision, cpu_has, require_file
from lipwright.runtimes.redrawing import Redrawn
from lipwright.runtimes.stored import stored_weights

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from lipwright.models.audio_encoder import AudioEncoder
    from lipwright.models.generator import Generator, Width

Array = npt.NDArray[np.generic]
Compute = Callable[["Sequence[Tensor]"], "Sequence[Tensor]"]
WEIGHTS = (".pth", ".pt")
PROVIDERS = ("cpu", "cuda")
#: Where an avatar keeps the weights of which of its networks, in the same folder. They are those of no other network.
_BESIDE = {"model_best.onnx": "best_trainloss.pth"}
#: Keys under which training programs store the weights of one network among other things.
_WRAPPERS: dict[Kind, tuple[str, ...]] = {
    "generator": ("state_dict", "model", "generator"),
    "encoder": ("state_dict", "model", "audio_encoder"),
}
#: Its shape tells the width of a generator: the first block's projection, [channels, hidden, 1, 1]. An exported one
#: has none; there a reader of the stem tells it.
_STEM = "inc.inconv.0.conv.6.weight"
_LAST = "down1.maxpool_conv.0.double_conv.0.conv.6.weight"
_ENCODER_PREFIX = "audio_encoder."
#: Keys named in an error message before it is cut off.
_NAMED = 4
#: Exported networks name their weights as the trained ones do; those of other programs do not.
_EXPORTED = ("audio_model.conv7.conv.6.weight", f"{_ENCODER_PREFIX}12.conv_block.0.weight")
#: Batch sizes of which the recordings are kept on a card, and calls before one is recorded.
MOST_RECORDED = 4
_BEFORE_RECORDING = 3


class TorchRuntime:
    """A network of ``lipwright.models`` with weights from a file. See ``Runtime``.

    ``threads`` sets torch's number of threads for the whole process: torch has no other. On CUDA each batch size is
    recorded once as a graph and then replayed as a whole, from page-locked memory to page-locked memory: a network of
    so many small layers would wait for its own calls otherwise. What ``redraw`` sends to the card and back are the
    pictures in 8 bits, an eighth and a quarter of their bytes in float32.
    """

    name = "torch"
    lanes = 1

    def __init__(
        self, model: Path, kind: Kind, provider: str = "cpu", precision: Precision = "auto", threads: int | None = None
    ) -> None:
        """Open ``model``: .pth weights, or an .onnx file with the same network's weights beside it or in it.

        Raises:
            AvatarError: no such file, or it is damaged.
            ContractError: not the weights of this network.
            MissingExtraError: torch, or onnx to read such a file, is not installed.
            RuntimeUnavailableError: no such device or precision, or no weights for an .onnx file.
        """
        torch = library()
        self._device = _device(torch, provider)
        if provider == "cuda":  # for the whole process: torch has no other switches
            torch.backends.cudnn.benchmark = True  # the quickest kernels for shapes that stay as they are
            torch.backends.cudnn.allow_tf32 = False  # f32 shall be f32
        weights = find_weights(model)
        active = _precision(provider, precision)
        self._dtype = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}[active]
        if threads:
            torch.set_num_threads(threads)
        network = _load_lean(weights, kind)
        self._network = network.to(self._device, self._dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if kind == "generator":
            _end_in_f32(self._network)
            self._visible = torch.from_numpy(patch.visible()).to(self._device)
        self._records = provider == "cuda"
        self.recorded: OrderedDict[tuple[str, int], Recorded] = OrderedDict()
        contract = NETWORKS[kind]
        positions = tuple(range(len(contract.inputs)))
        self._binding = Binding(contract, contract.inputs, positions, contract.output, 0, None)
        self.inputs, self.outputs = contract.inputs, (contract.output,)
        workers = torch.get_num_threads()
        where = f"{workers} thread{'s' if workers > 1 else ''}" if provider == "cpu" else _untested(torch)
        self.detail = f"torch {provider.upper()} {active}, {where}, weights {weights.name}"

    def run(self, *arrays: FloatArray) -> FloatArray:
        """As ``Runtime.run``: float32 [B, ...] of every input to float32 [B, ...] of the output."""
        return self._binding.run(arrays, self._forward)

    def redraw(self, rois: UInt8Array, windows: FloatArray) -> Redrawn:
        """As ``redraw``: uint8 [B, 320, 320, 3] and float32 [B, 32, 16, 16]; all of it is done on the device."""
        return Redrawn(*self._computed("redraw", self._redrawn, [rois, windows]))

    def _forward(self, arrays: Sequence[FloatArray]) -> FloatArray:
        output: FloatArray = self._computed("run", lambda given: [self._answer(*given).contiguous()], arrays)[0]
        return output

    def _computed(self, name: str, compute: Compute, arrays: Sequence[Array]) -> list[Any]:
        """The arrays that ``compute`` makes of ``arrays``; on CUDA what was recorded of it is replayed."""
        import torch

        try:
            with torch.inference_mode():
                if self._records:
                    return self._recording((name, len(arrays[0])), compute, arrays)(arrays)
                # torch.tensor copies: the caller's array may be read-only, which from_numpy does not respect.
                return [answer.numpy() for answer in compute([torch.tensor(a) for a in arrays])]
        except RuntimeError as error:
            reason = str(error).partition("\n")[0]
            raise RuntimeUnavailableError(f"torch cannot run this network on {self._device}: {reason}") from error

    def _answer(self, *given: Tensor) -> Tensor:
        """float32 tensors on any device to float32 on the network's own."""
        import torch

        ready = [t.to(self._device, self._dtype).contiguous(memory_format=torch.channels_last) for t in given]
        answer: Tensor = self._network(*ready).float()
        return answer

    def _redrawn(self, given: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """``patch.to_inputs``, the network, ``patch.from_outputs``: ROIs, and whether all their values are numbers."""
        import torch

        rois, windows = given
        picture = rois.permute(0, 3, 1, 2).to(torch.float32) / 255
        output = self._answer(torch.cat([picture, picture * self._visible], 1), windows)
        levels = (output.clamp(0, 1) * 255).round().to(torch.uint8)
        return levels.permute(0, 2, 3, 1).contiguous(), output.isfinite().flatten(1).all(1)

    def _recording(self, key: tuple[str, int], compute: Compute, arrays: Sequence[Array]) -> Recorded:
        """What was recorded for this computation and batch size; of each computation those used last are kept."""
        if key not in self.recorded:
            alike = [other for other in self.recorded if other[0] == key[0]]
            for oldest in alike[: len(alike) + 1 - MOST_RECORDED]:
                del self.recorded[oldest]
            self.recorded[key] = Recorded(compute, arrays, self._device)
        self.recorded.move_to_end(key)
        return self.recorded[key]


class Recorded:
    """A computation on CUDA for arrays of one shape: recorded once as a graph, then replayed by a single call.

    Args:
        compute: tensors on the card to tensors on the card, without a look at their values.
        arrays: such as will be given.
        device: the card.
    """

    def __init__(self, compute: Compute, arrays: Sequence[Array], device: torch.device) -> None:
        import torch

        self._locked = [torch.tensor(array).pin_memory() for array in arrays]
        self._there = [locked.to(device) for locked in self._locked]
        beside = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        beside.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(beside):  # libraries choose their kernels in the first calls, which cannot be recorded
            for _ in range(_BEFORE_RECORDING):
                compute(self._there)
        torch.cuda.current_stream(device).wait_stream(beside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._results = compute(self._there)
        self._answers = [torch.empty_like(result, device="cpu", pin_memory=True) for result in self._results]
        self._device = device

    def __call__(self, arrays: Sequence[Array]) -> list[Any]:
        """The answers to other arrays of the same shapes and types, owned by the caller."""
        import torch

        for array, locked, there in zip(arrays, self._locked, self._there, strict=True):
            np.copyto(locked.numpy(), array)
            there.copy_(locked, non_blocking=True)
        self.replay()
        for answer, result in zip(self._answers, self._results, strict=True):
            answer.copy_(result, non_blocking=True)
        torch.cuda.current_stream(self._device).synchronize()
        return [answer.numpy().copy() for answer in self._answers]

    def replay(self) -> None:
        """Compute once more on what lies on the card; nothing is copied or waited for."""
        self._graph.replay()


def _end_in_f32(generator: nn.Module) -> None:
    """Let the last layer, and the sigmoid behind it, compute in f32: bf16 has 128 steps between 0.5 and 1.

    The layer is small: 16 channels to 3.
    """
    last = generator.get_submodule("outc").float()
    last.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),))


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
    """``model`` itself if it is a weights file or lipwright exported it, else the weights beside the .onnx file.

    Raises:
        MissingExtraError: the weights must come out of an .onnx file, and onnx is not installed.
        RuntimeUnavailableError: there are none.
    """
    if model.suffix.lower() in WEIGHTS:
        require_file(model, WEIGHTS, "torch")
        return model
    found = weights_beside(model) or (model if _exported_state(model) else None)
    if found is None:
        raise RuntimeUnavailableError(
            f"torch reads .pth weights, or .onnx files that lipwright exported, and there are none beside {model}: "
            f"put {_names_beside(model)[-1]} there, or use --runtime onnxruntime or openvino"
        )
    return found


def has_weights(model: Path) -> bool:
    """Whether torch can run a model: by weights beside it or in it. False too where onnx, which reads it, is missing.

    It does not need torch.
    """
    try:
        return weights_beside(model) is not None or bool(_exported_state(model))
    except MissingExtraError:
        return False


def weights_beside(model: Path) -> Path | None:
    """The .pth file of the same name or of the name avatars give it, in the folder of ``model``."""
    return next((p for name in _names_beside(model) if (p := model.with_name(name)).is_file()), None)


def _names_beside(model: Path) -> list[str]:
    return [f"{model.stem}.pth", *([_BESIDE[model.name]] if model.name in _BESIDE else [])]


# --- weights --------------------------------------------------------------------------------------------------------


def _load_lean(weights: Path, kind: Kind) -> nn.Module:
    """The network of a ``.pth`` or exported ``.onnx`` file, for use alone: with all layers folded that can be."""
    from lipwright.models.audio_encoder import AudioEncoder
    from lipwright.models.lean import lean

    if weights.suffix.lower() in WEIGHTS:
        return lean(load_generator(weights) if kind == "generator" else load_audio_encoder(weights))
    import torch

    state = {name: torch.from_numpy(values) for name, values in _exported_state(weights).items()}
    network = lean((_empty_generator(state, _LAST, weights) if kind == "generator" else AudioEncoder()).eval())
    _load(network, state, weights)
    return network


def _exported_state(model: Path) -> dict[str, FloatArray]:
    """The weights of an .onnx file by their names; nothing for files that lipwright did not export."""
    try:
        found = stored_weights(model)
    except AvatarError:
        return {}
    named = {name: values for name, values in found.items() if name.endswith((".weight", ".bias"))}
    return named if any(name in named for name in _EXPORTED) else {}


def _empty_generator(state: Mapping[str, Tensor], stem: str, path: Path) -> Generator:
    """A generator as wide as the first dimension of the weight ``stem`` says."""
    from lipwright.models.generator import CHANNELS, Generator

    if stem not in state:
        raise ContractError(f"{path} holds no generator: it has no {stem}, but {_some(state)}")
    channels = int(state[stem].shape[0])
    widths: dict[int, Width] = {c[0]: width for width, c in CHANNELS.items()}
    if channels not in widths:
        known = ", ".join(f"{width} ({c})" for c, width in widths.items())
        raise ContractError(f"{path}: no generator begins with {channels} channels; known are {known}")
    return Generator(widths[channels])


def load_generator(path: Path) -> Generator:
    """A generator with the weights of a ``.pth`` file, in eval mode; its width is read from the shapes.

    Raises:
        AvatarError: the file is missing or damaged.
        ContractError: it holds other keys or shapes than a generator has, or values that are no numbers.
        MissingExtraError: torch is not installed.
    """
    library()
    state = read_state(path, "generator")
    generator = _empty_generator(state, _STEM, path)
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


def has_bf16(provider: str) -> bool:
    """Whether ``cpu`` or ``cuda`` here multiplies bf16 natively; where it is emulated f32 is quicker."""
    import torch  # slow to import, and may be missing

    return bool(torch.cuda.is_bf16_supported(including_emulation=False)) if provider == "cuda" else cpu_has("bf16")


def _precision(provider: str, precision: Precision) -> Precision:
    """``auto`` is bf16 where it is native, else f32; f16 only when asked for, because its range is small.

    Raises:
        RuntimeUnavailableError: the processor would have to emulate it, which takes many times as long as f32.
    """
    if precision == "auto":
        return "bf16" if has_bf16(provider) else "f32"
    if provider == "cpu" and not cpu_has(precision):
        raise RuntimeUnavailableError(f"this processor has no {precision} of its own: use --precision f32 or auto")
    return precision


def _untested(torch: Any) -> str:
    return f"{torch.cuda.get_device_name()} (a device this project does not test)"
