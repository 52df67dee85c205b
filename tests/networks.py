"""Networks for tests: the family's shapes with weights from a formula, and models as other programs write them."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from lipwright.contract import FloatArray, UInt8Array

Network = TypeVar("Network", bound=nn.Module)

#: The contract's shapes behind a batch.
IMAGE = (6, 320, 320)
AUDIO = (32, 16, 16)
PICTURE = (3, 320, 320)


def formula_weights(network: Network) -> Network:
    """Fill a network with weights that depend on nothing but their names and shapes, as the golden values have."""
    network.load_state_dict({key: _formula(key, tuple(value.shape)) for key, value in network.state_dict().items()})
    return network.eval()


def _formula(key: str, shape: tuple[int, ...]) -> torch.Tensor:
    n = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape)
    if key.endswith("num_batches_tracked"):
        return torch.tensor(0)
    if key.endswith("running_var"):
        values = 1 + 0.2 * np.abs(n)
    elif len(shape) == 1:
        values = 0.1 * n + (1 if key.endswith("weight") else 0)
    else:
        values = n * 1.4 / np.sqrt(np.prod(shape[1:]))
    values = values * (0.02 if key == "outc.conv.weight" else 1)
    return torch.from_numpy(values.astype(np.float32))


def pictures(count: int) -> FloatArray:
    return np.random.default_rng(7).random((count, *IMAGE), dtype=np.float32)


def rois(count: int) -> UInt8Array:
    return np.random.default_rng(6).integers(0, 256, (count, 320, 320, 3), dtype=np.uint8)


def windows(count: int) -> FloatArray:
    return np.random.default_rng(8).standard_normal((count, *AUDIO)).astype(np.float32)


def mels(count: int) -> FloatArray:
    return np.random.default_rng(9).uniform(-4, 4, (count, 1, 80, 16)).astype(np.float32)


def alien_output(image: FloatArray, audio: FloatArray) -> FloatArray:
    """What ``write_alien`` computes: sigmoid(W image + mean(audio)), W a 1x1 convolution."""
    mixed = np.einsum("oi,nihw->nohw", _alien_weights(), image) + audio.mean((1, 2, 3), keepdims=True)
    result: FloatArray = 1 / (1 + np.exp(-mixed))
    return result.astype(np.float32)


def _alien_weights() -> FloatArray:
    # few bits, so that rounding to fp16 changes nothing
    return ((np.arange(18).reshape(3, 6) - 9) / 16).astype(np.float32)


def write_alien(
    file: Path,
    names: tuple[str, str] = ("visual_input", "audio_input"),
    image: Sequence[int | str] = ("n", *IMAGE),
    audio: Sequence[int | str] = ("n", *AUDIO),
    output: Sequence[int | str] = ("n", *PICTURE),
    audio_first: bool = False,
    store: int = TensorProto.FLOAT,
    extra_output: bool = False,
) -> Path:
    """A tiny generator in ONNX; ``store`` FLOAT16 keeps the weights as fp16 behind a Cast."""
    weights = _alien_weights()[:, :, None, None].astype(np.float16 if store == TensorProto.FLOAT16 else np.float32)
    ports = [_port(names[0], image), _port(names[1], audio)]
    nodes = [
        helper.make_node("Cast", ["stored"], ["weights"], to=TensorProto.FLOAT),
        helper.make_node("Conv", [names[0], "weights"], ["mixed"]),
        helper.make_node("ReduceMean", [names[1]], ["loud"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Add", ["mixed", "loud"], ["sum"]),
        helper.make_node("Sigmoid", ["sum"], ["y"]),
        *([helper.make_node("Relu", ["sum"], ["z"])] if extra_output else []),
    ]
    results = [_port("y", output), *([_port("z", output)] if extra_output else [])]
    stored = numpy_helper.from_array(weights, "stored")
    graph = helper.make_graph(nodes, "alien", ports[::-1] if audio_first else ports, results, [stored])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)
    return file


def _port(name: str, shape: Sequence[int | str]) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))
