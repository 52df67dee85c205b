"""What every runtime shares: the Protocol, the two networks' signatures, and finding a model's ports by their shape."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt

from lipwright.contract import AUDIO, FEATURE, INPUT, MEL, OUTPUT, FloatArray, TensorSpec
from lipwright.errors import AvatarError, ContractError

Kind = Literal["generator", "encoder"]
Rows = npt.NDArray[Any]
Precision = Literal["auto", "f32", "bf16", "f16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
#: Instruction sets (Linux' names), any of which makes a precision native.
NATIVE = {
    "bf16": frozenset({"avx512_bf16", "amx_bf16", "bf16"}),
    "f16": frozenset({"avx512_fp16", "amx_fp16", "asimdhp"}),
}
#: oneDNN's names of instruction sets begin so where they have a precision natively.
_NATIVE_ISA = {
    "bf16": ("AVX512_CORE_BF16", "AVX512_CORE_FP16", "AVX512_CORE_AMX", "AVX10"),
    "f16": ("AVX512_CORE_FP16", "AVX512_CORE_AMX_FP16", "AVX10"),
}
#: The environment variable that limits oneDNN to older instruction sets than the processor has.
ISA_LIMIT = "ONEDNN_MAX_CPU_ISA"
#: Beyond so many frames at once, encoding the film is what takes the time.
MOST_LANES = 4
#: What a model may take and give; anything but float32 is converted at its border.
PORT_DTYPES = ("float32", "float16")


class Runtime(Protocol):
    """One network, opened by one library and ready to run.

    An object may be used from any thread, by as many at a time as it has lanes.
    """

    name: str
    """onnxruntime, openvino or torch."""
    detail: str
    """What is really active, for people: library, device, precision, threads, and why it was chosen."""
    lanes: int
    """How many calls of ``run`` may be under way at once."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The arrays ``run`` takes, in the contract's order whatever the order in the file."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The one array ``run`` gives."""

    def run(self, *arrays: FloatArray) -> FloatArray:
        """Run the network on a batch of any size.

        Args:
            arrays: float32, one for each of ``inputs``, all with the same batch size B (0 is allowed).
                Generator: image [B, 6, 320, 320] 0..1 BGR, audio [B, 32, 16, 16]. Encoder: mel [B, 1, 80, 16].

        Returns:
            float32 [B, 3, 320, 320] 0..1 BGR (generator) or [B, 512] (encoder), owned by the caller.

        Raises:
            ContractError: an array, or what the network made of it, has the wrong shape or dtype.
        """


@dataclass(frozen=True, slots=True)
class Network:
    """The contract's side of a model."""

    inputs: tuple[TensorSpec, ...]
    output: TensorSpec


NETWORKS: dict[Kind, Network] = {
    "generator": Network((INPUT, AUDIO), OUTPUT),
    "encoder": Network((MEL,), FEATURE),
}


def probe_inputs(kind: Kind, batch: int = 1) -> tuple[FloatArray, ...]:
    """Reproducible noise 0..1 in the shapes a network takes, to warm it up and to time it."""
    rng = np.random.default_rng(0)
    return tuple(rng.random((batch, *spec.shape[1:]), dtype=np.float32) for spec in NETWORKS[kind].inputs)


@dataclass(frozen=True, slots=True)
class Binding:
    """A model's own ports, matched to the contract."""

    network: Network
    inputs: tuple[TensorSpec, ...]
    """The model's inputs in contract order, under the model's own names."""
    positions: tuple[int, ...]
    """Where each of ``inputs`` stands in the model's own list."""
    output: TensorSpec
    result: int
    """Where ``output`` stands in the model's own list."""
    batch: int | None
    """The only batch size the model takes; None: any."""

    def run(self, arrays: Sequence[FloatArray], forward: Callable[[Sequence[FloatArray]], FloatArray]) -> FloatArray:
        """Check ``arrays``, hand them to ``forward`` in batches the model takes, and check what comes back.

        ``forward`` gets contiguous float32 arrays [B, ...] in contract order and returns one, [B, ...], that it will
        not touch again.
        """
        count = self._check(arrays)
        spec = self.network.output
        if count == 0:
            return np.empty((0, *spec.shape[1:]), np.float32)
        parts = [
            np.asarray(forward(self._ready(rows)), dtype=np.float32)[:asked]
            for rows, asked in in_pieces(arrays, self.batch or count)
        ]
        output = parts[0] if len(parts) == 1 else np.concatenate(parts)
        spec.check(output)
        if len(output) != count:
            raise ContractError(f"{spec.name}: {count} frames went in and {len(output)} came out of the network")
        return output

    def _check(self, arrays: Sequence[FloatArray]) -> int:
        """The batch size, after shapes and dtypes were found right."""
        specs = self.network.inputs
        if len(arrays) != len(specs):
            raise ContractError(f"expected {len(specs)} arrays ({describe(specs)}), got {len(arrays)}")
        for spec, array in zip(specs, arrays, strict=True):
            spec.check(array)
        counts = {spec.name: len(array) for spec, array in zip(specs, arrays, strict=True)}
        if len(set(counts.values())) > 1:
            raise ContractError(f"batch sizes differ: {counts}")
        return len(arrays[0])

    def _ready(self, arrays: Sequence[FloatArray]) -> list[FloatArray]:
        """As the model's ports take them."""
        return [np.ascontiguousarray(a, dtype=p.dtype) for a, p in zip(arrays, self.inputs, strict=True)]


def in_pieces(arrays: Sequence[Rows], size: int) -> Iterator[tuple[list[Rows], int]]:
    """Arrays of equally many rows as pieces of ``size`` rows, each with how many of them were asked for.

    The last piece is filled by repeating its last row: some models take one batch size alone.
    """
    count = len(arrays[0])
    for begin in range(0, count, size):
        asked = min(size, count - begin)
        rows = np.minimum(np.arange(begin, begin + size), count - 1)
        yield [a[begin : begin + size] if asked == size else a[rows] for a in arrays], asked


def bind(model: Path, kind: Kind, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Binding:
    """Match a model's ports to the contract by shape, whatever their names and order; -1 is a free dimension.

    Raises:
        ContractError: the shapes are not those of this kind, or fit in more than one way.
    """
    network = NETWORKS[kind]
    found = f"{model} takes {describe(inputs)} and gives {describe(outputs)}"
    wanted = f"a {kind} takes {describe(network.inputs)} and gives {describe([network.output])}"
    orders = [
        o for o in permutations(range(len(inputs)), len(network.inputs)) if _all_fit(network, [inputs[i] for i in o])
    ]
    results = [i for i, port in enumerate(outputs) if _fits(network.output, port)]
    if len(inputs) != len(network.inputs) or not orders or not results:
        raise ContractError(f"{found}; {wanted}")
    if len(orders) > 1 or len(results) > 1:
        raise ContractError(f"{found}; these cannot be told apart by shape: export it with fixed sizes ({wanted})")
    ports, output = tuple(inputs[i] for i in orders[0]), outputs[results[0]]
    batches = {port.shape[0] for port in (*ports, output)} - {-1}
    if len(batches) > 1:
        raise ContractError(f"{found}; its batch sizes contradict each other")
    return Binding(network, ports, orders[0], output, results[0], next(iter(batches), None))


def _all_fit(network: Network, ports: Sequence[TensorSpec]) -> bool:
    return all(_fits(spec, port) for spec, port in zip(network.inputs, ports, strict=True))


def _fits(spec: TensorSpec, port: TensorSpec) -> bool:
    """Whether a model's port can be this tensor of the contract: every dimension equal, or free on either side."""
    same_rank = len(spec.shape) == len(port.shape)
    pairs = zip(spec.shape, port.shape, strict=False)
    return same_rank and port.dtype in PORT_DTYPES and all(s == p or -1 in (s, p) for s, p in pairs)


def describe(ports: Sequence[TensorSpec]) -> str:
    """Ports for an error message: ``input float32 [N, 6, 320, 320], ...``."""
    return ", ".join(f"{p.name} {p.dtype} [{', '.join('N' if d < 0 else str(d) for d in p.shape)}]" for p in ports)


def require_file(model: Path, suffixes: tuple[str, ...], runtime: str) -> None:
    """Raise unless ``model`` is a file of a type that the runtime reads.

    Raises:
        AvatarError: there is no such file.
        ContractError: it is of another type.
    """
    if not model.is_file():
        raise AvatarError(f"there is no model file {model}")
    if model.suffix.lower() not in suffixes:
        raise ContractError(f"{runtime} reads {' or '.join(suffixes)}, not {model.name}")


def cpu_name() -> str:
    """The processor's name as the system gives it."""
    return next(iter(_cpuinfo("model name")), "") or platform.processor() or platform.machine()


def cpu_flags() -> frozenset[str]:
    """Instruction sets of the processor as Linux names them (``avx2``, ``avx512_bf16``); empty elsewhere."""
    return frozenset(" ".join(_cpuinfo("flags") or _cpuinfo("Features")).split())


def cpu_has(precision: Precision) -> bool:
    """Whether networks run natively in bf16 or f16 on this processor (x86 or Arm); False where Linux does not say."""
    return precision in ("auto", "f32") or (isa_allows(precision) and bool(cpu_flags() & NATIVE[precision]))


def isa_allows(precision: Precision) -> bool:
    """Whether oneDNN, with which torch and OpenVINO compute, may use what a processor has for this precision."""
    allowed = os.environ.get(ISA_LIMIT, "").upper()
    return allowed in ("", "ALL", "DEFAULT") or allowed.startswith(_NATIVE_ISA.get(precision, ""))


def cpu_count() -> int:
    """Logical processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def all_lanes() -> int:
    """Lanes that give the most frames a second on this processor: one a core, up to ``MOST_LANES``.

    Two cores that draw a frame each draw more than two that share one: they never wait for each other.
    """
    return min(cpu_count(), MOST_LANES)


def threads_a_lane(threads: int | None, lanes: int) -> int | None:
    """Threads of each of ``lanes``, from the number for all of them; None: the library decides."""
    return threads if lanes == 1 else max((threads or cpu_count()) // lanes, 1)


def _cpuinfo(field: str) -> list[str]:
    """The field's value for the first processor in Linux' list, or nothing."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []
    values = (line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == field)
    return list(values)[:1]
