"""How the weights of an exported network lie in its ONNX file: in float32, or rounded to fewer bytes.

- ``f16``: an fp16 initializer and a Cast to float32 behind it; half the size.
- ``int8``: whole numbers -127..127, a Cast to float32 and a Mul by the step of each output channel (axis 0), float32;
  a quarter of the size. Weights with too few values in a channel are stored as f16: their steps would cost what the
  bytes save.

onnxruntime computes both once, when it loads the file; `runtimes.openvino` does it before OpenVINO loads it. Nothing of
it is left in what they run.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lipwright.contract import FloatArray
from lipwright.errors import AvatarError, MissingExtraError

Store = Literal["f32", "f16", "int8"]

#: Whole numbers on either side of 0; -128 stays unused, so that the steps are symmetric.
_STEPS = 127
#: An output channel of fewer weights is not worth a step of its own.
_FEWEST = 32
#: What follows a weight's name where it is stored rounded: the numbers themselves, their steps, the numbers as float32.
_SUFFIX: dict[Store, str] = {"f16": ".fp16", "int8": ".int8"}
_STEP, _COUNTED = ".step", ".counted"


def library() -> Any:
    """The onnx module.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError("onnx", "train") from error
    return onnx


def rounded(weights: FloatArray, store: Store) -> FloatArray:
    """What a file stored in this way gives for ``weights``, float32 [...] both; biases (one dimension) stay so.

    Values beyond fp16's range become infinite: a comparison of what the networks draw then refuses them.
    """
    way = _way(weights.shape, store)
    if way == "int8":
        counted, step = _counted(weights)
        return counted.astype(np.float32) * step
    return _half(weights).astype(np.float32) if way == "f16" else weights


def round_graph(file: Path, store: Store) -> None:
    """Store the float32 weights of an ONNX file in another way, in place."""
    onnx = library()
    model = onnx.load(file)
    initializers, nodes = [], []
    for tensor in model.graph.initializer:
        way = _way(tuple(tensor.dims), store) if tensor.data_type == onnx.TensorProto.FLOAT else "f32"
        if way == "f32":
            initializers.append(tensor)
        else:
            values = onnx.numpy_helper.to_array(tensor)
            more, behind = _as_half(tensor.name, values) if way == "f16" else _as_bytes(tensor.name, values)
            initializers += more
            nodes += behind
    nodes += model.graph.node
    for field, content in ((model.graph.initializer, initializers), (model.graph.node, nodes)):
        kept = [type(item).FromString(item.SerializeToString()) for item in content]
        del field[:]
        field.extend(kept)
    onnx.save(model, file)
    onnx.checker.check_model(str(file), full_check=True)


def stored_weights(model: Path) -> dict[str, FloatArray]:
    """Every weight and bias of an ONNX file as float32 [...] by its name, whichever way it is stored.

    Raises:
        AvatarError: the file is missing or damaged.
        MissingExtraError: onnx is not installed.
    """
    onnx = library()
    from google.protobuf.message import DecodeError

    try:
        graph = onnx.load(str(model)).graph
    except (OSError, ValueError, DecodeError) as error:
        raise AvatarError(f"{model} cannot be read as ONNX: {error}") from error
    kinds = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.INT8
    found = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer if t.data_type in kinds}
    weights = {}
    for name, values in found.items():
        if name.endswith(_SUFFIX["int8"]):
            plain = name.removesuffix(_SUFFIX["int8"])
            weights[plain] = values.astype(np.float32) * found[plain + _STEP]
        elif not name.endswith(_STEP):
            weights[name.removesuffix(_SUFFIX["f16"])] = values.astype(np.float32)
    return weights


def _way(shape: Sequence[int], store: Store) -> Store:
    """How a tensor of this shape is stored where ``store`` was asked for."""
    if len(shape) < 2:
        return "f32"
    return "f16" if store == "int8" and prod(shape[1:]) < _FEWEST else store


def _half(weights: FloatArray) -> np.ndarray[Any, np.dtype[np.float16]]:
    with np.errstate(over="ignore"):
        return weights.astype(np.float16)


def _counted(weights: FloatArray) -> tuple[np.ndarray[Any, np.dtype[np.int8]], FloatArray]:
    """Whole numbers of steps, and the step of each output channel in as many dimensions as the weights have."""
    largest = np.abs(weights).max(axis=tuple(range(1, weights.ndim)), keepdims=True)
    step = np.where(largest > 0, largest / _STEPS, 1).astype(np.float32)
    return np.rint(weights / step).astype(np.int8), step


def _as_half(name: str, values: FloatArray) -> tuple[list[Any], list[Any]]:
    """Initializers and nodes that give the tensor ``name``."""
    onnx, stored = library(), name + _SUFFIX["f16"]
    cast = onnx.helper.make_node("Cast", [stored], [name], to=onnx.TensorProto.FLOAT)
    return [onnx.numpy_helper.from_array(_half(values), stored)], [cast]


def _as_bytes(name: str, values: FloatArray) -> tuple[list[Any], list[Any]]:
    """Initializers and nodes that give the tensor ``name``."""
    onnx = library()
    stored, steps, counted = name + _SUFFIX["int8"], name + _STEP, name + _COUNTED
    numbers, step = _counted(values)
    tensors = [onnx.numpy_helper.from_array(numbers, stored), onnx.numpy_helper.from_array(step, steps)]
    cast = onnx.helper.make_node("Cast", [stored], [counted], to=onnx.TensorProto.FLOAT)
    return tensors, [cast, onnx.helper.make_node("Mul", [counted, steps], [name])]
