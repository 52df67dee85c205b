"""Write the two small networks with which onnxruntime masks, scales and rounds on a card (``runtimes.onnx_card``).

    python -m tools.make_borders src/lipwright/data/borders

They hold no weights: the mask comes from ``contract``. A test compares what lies there with what this writes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from lipwright import patch
from lipwright.contract import INPUT, OUTPUT, ROI

#: The oldest that every onnxruntime lipwright runs with reads, and has all that is wanted.
_OPSET, _IR = 17, 8


def to_inputs() -> onnx.ModelProto:
    """``patch.to_inputs``: rois uint8 [B, 320, 320, 3] to inputs float32 [B, 6, 320, 320], 0..1."""
    rows, columns = np.nonzero(patch.visible() == 0)
    hidden = (rows.max() - rows.min() + 1, columns.max() - columns.min() + 1)
    height, width = patch.visible().shape
    rim = [rows.min(), columns.min(), height - 1 - rows.max(), width - 1 - columns.max()]
    nodes = [
        helper.make_node("Transpose", ["rois"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["planes"], ["levels"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["levels", "white"], ["picture"]),
        helper.make_node("ConstantOfShape", ["hidden"], ["under the mask"]),
        helper.make_node("Pad", ["under the mask", "rim", "shown"], ["visible"]),
        helper.make_node("Mul", ["picture", "visible"], ["masked"]),
        helper.make_node("Concat", ["picture", "masked"], ["inputs"], axis=1),
    ]
    constants = {
        "white": np.float32(255),
        "hidden": np.array(hidden, np.int64),
        "rim": np.array(rim, np.int64),
        "shown": np.float32(1),
    }
    ports = [_port("rois", TensorProto.UINT8, ROI.shape)], [_port("inputs", TensorProto.FLOAT, INPUT.shape)]
    return _model("to_inputs", nodes, constants, *ports)


def from_outputs() -> onnx.ModelProto:
    """``patch.from_outputs``: outputs float32 [B, 3, 320, 320] to rois uint8 [B, 320, 320, 3], and their sums [B]."""
    nodes = [
        helper.make_node("Clip", ["outputs", "black", "white"], ["clipped"]),
        helper.make_node("Mul", ["clipped", "most"], ["levels"]),
        helper.make_node("Round", ["levels"], ["rounded"]),
        helper.make_node("Cast", ["rounded"], ["planes"], to=TensorProto.UINT8),
        helper.make_node("Transpose", ["planes"], ["rois"], perm=[0, 2, 3, 1]),
        helper.make_node("ReduceSum", ["outputs", "all but the batch"], ["sums"], keepdims=0),
    ]
    constants = {
        "black": np.float32(0),
        "white": np.float32(1),
        "most": np.float32(255),
        "all but the batch": np.array([1, 2, 3], np.int64),
    }
    results = [_port("rois", TensorProto.UINT8, ROI.shape), _port("sums", TensorProto.FLOAT, (-1,))]
    return _model("from_outputs", nodes, constants, [_port("outputs", TensorProto.FLOAT, OUTPUT.shape)], results)


def _port(name: str, dtype: int, shape: tuple[int, ...]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, ["B" if size < 0 else size for size in shape])


def _model(
    name: str, nodes: list[Any], constants: dict[str, Any], inputs: list[Any], outputs: list[Any]
) -> onnx.ModelProto:
    tensors = [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()]
    graph = helper.make_graph(nodes, name, inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
    onnx.checker.check_model(model, full_check=True)
    return model


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    for model in (to_inputs(), from_outputs()):
        onnx.save(model, folder / f"{model.graph.name}.onnx")


if __name__ == "__main__":
    main()
