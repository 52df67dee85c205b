"""Weights stored in fewer bytes: what the file gives back, what it costs, and that no runtime pays for it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from avatars import save_graph
from lipwright.contract import FloatArray
from lipwright.errors import AvatarError
from lipwright.runtimes.choice import is_installed
from lipwright.runtimes.openvino import count_out, library
from lipwright.runtimes.stored import Store, round_graph, rounded, stored_weights

#: An expanding, a depthwise and a 3 x 3 convolution: the kinds of weights that generators have.
SHAPES = {"expand.weight": (48, 64, 1, 1), "depth.weight": (48, 1, 3, 3), "last.weight": (16, 48, 3, 3)}

QUESTION = np.random.default_rng(6).standard_normal((2, 64, 12, 12)).astype(np.float32)


@pytest.fixture(scope="module")
def weights() -> dict[str, FloatArray]:
    """Each output channel with a size of its own, one of them silent."""
    rng = np.random.default_rng(5)
    made = {}
    for name, shape in SHAPES.items():
        sizes = 10 ** rng.uniform(-3, 0, (shape[0], 1, 1, 1))
        made[name] = (rng.standard_normal(shape) * sizes).astype(np.float32)
        made[name][1] = 0
        made[name.replace("weight", "bias")] = rng.standard_normal(shape[0]).astype(np.float32)
    return made


def write(path: Path, weights: dict[str, FloatArray]) -> Path:
    nodes = [
        helper.make_node("Conv", ["x", "expand.weight", "expand.bias"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "depth.weight", "depth.bias"], ["c"], group=48, pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Conv", ["d", "last.weight", "last.bias"], ["y"], pads=[1, 1, 1, 1]),
    ]
    return save_graph(path, nodes, dict(weights), [("x", ["n", 64, 12, 12])], [("y", ["n", 16, 12, 12])])


def stored(folder: Path, weights: dict[str, FloatArray], store: Store) -> Path:
    path = write(folder / f"{store}.onnx", weights)
    round_graph(path, store)
    return path


def answer(path: Path) -> FloatArray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": QUESTION})[0])


def test_eight_bits_are_at_most_half_a_step_off(weights: dict[str, FloatArray]) -> None:
    for name in ("expand.weight", "last.weight"):
        largest = np.abs(weights[name]).max(axis=(1, 2, 3), keepdims=True)
        off = np.abs(rounded(weights[name], "int8") - weights[name])
        assert (off <= largest / 127 / 2 * (1 + 1e-5)).all(), "each channel has a step of its own"
        assert off.max() > 0
        assert not rounded(weights[name], "int8")[1].any(), "a silent channel stays silent"


def test_what_is_not_worth_eight_bits(weights: dict[str, FloatArray]) -> None:
    depth, bias = weights["depth.weight"], weights["last.bias"]
    np.testing.assert_array_equal(rounded(depth, "int8"), depth.astype(np.float16).astype(np.float32))
    for store in ("f32", "f16", "int8"):
        np.testing.assert_array_equal(rounded(bias, store), bias)
    np.testing.assert_array_equal(rounded(depth, "f32"), depth)


@pytest.mark.parametrize(
    ("store", "smallest", "largest"), [("f32", 0.99, 1.01), ("f16", 0.5, 0.56), ("int8", 0.25, 0.35)]
)
def test_the_file_gives_the_rounded_weights(
    store: Store, smallest: float, largest: float, weights: dict[str, FloatArray], tmp_path: Path
) -> None:
    plain = write(tmp_path / "plain.onnx", weights)
    file = stored(tmp_path, weights, store)
    assert smallest < file.stat().st_size / plain.stat().st_size < largest
    expected = {name: rounded(values, store) for name, values in weights.items()}
    found = stored_weights(file)
    assert found.keys() == expected.keys()
    for name, values in found.items():
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, expected[name])
    np.testing.assert_allclose(answer(file), answer(write(tmp_path / "rounded.onnx", expected)), atol=1e-5)


def test_eight_bits_change_what_is_drawn_a_little(weights: dict[str, FloatArray], tmp_path: Path) -> None:
    plain, coarse = answer(write(tmp_path / "plain.onnx", weights)), answer(stored(tmp_path, weights, "int8"))
    apart = np.sqrt(np.square(coarse - plain).mean() / np.square(plain).mean())
    assert 1e-4 < apart < 0.02


def test_onnxruntime_keeps_nothing_of_it(weights: dict[str, FloatArray], tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    file = stored(tmp_path, weights, "int8")
    onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    assert Counter(node.op_type for node in onnx.load(file).graph.node) >= Counter({"Cast": 3, "Mul": 2})
    kinds = {node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node}
    assert not kinds & {"Cast", "Mul"}


def test_openvino_gets_plain_weights_and_draws_the_same_in_two_streams(
    weights: dict[str, FloatArray], tmp_path: Path
) -> None:
    """Left to itself it computes them in every stream at once, and one time in four the network answers nonsense."""
    if not is_installed("openvino"):
        return
    file = stored(tmp_path, weights, "int8")
    core = library().Core()
    graph = core.read_model(str(file))
    assert "i8" in {node.output(0).get_element_type().to_string() for node in graph.get_ordered_ops() if node.outputs()}
    count_out(graph)
    nodes = [node for node in graph.get_ordered_ops() if node.outputs()]
    assert "i8" not in {node.output(0).get_element_type().to_string() for node in nodes}
    assert "Multiply" not in {node.get_type_name() for node in nodes}
    compiled = core.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 2})
    np.testing.assert_allclose(compiled([QUESTION])[0], answer(file), rtol=1e-3, atol=1e-3)


def test_what_is_no_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AvatarError, match=r"no\.onnx cannot be read as ONNX"):
        stored_weights(tmp_path / "no.onnx")
    (tmp_path / "other.onnx").write_bytes(b"no network")
    with pytest.raises(AvatarError, match=r"other\.onnx cannot be read as ONNX"):
        stored_weights(tmp_path / "other.onnx")
