"""Converts MediaPipe's two face networks to ONNX: once, by a maintainer; the results are in the repository.

Needs an environment of its own, because tensorflow is no dependency of the project:

    python3.11 -m venv /tmp/convert
    /tmp/convert/bin/pip install tf2onnx==1.17.0 tensorflow-cpu==2.21.0 onnxruntime opencv-python-headless
    /tmp/convert/bin/python tools/face/convert.py src/lipwright/data/face --picture tests/data/face/open.jpg

The networks come out of the wheel of mediapipe 0.10.21, the last that holds them.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import tensorflow as tf
from onnx import helper, numpy_helper

WHEEL = "mediapipe==0.10.21"
OPSET = 17
#: Largest difference from the tflite interpreter that passes: input pixels for coordinates, logits for scores.
TOLERANCE = 0.02

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Network:
    """One network to convert."""

    member: str
    """Its path in the wheel."""
    name: str
    """File name of the result, without suffix."""
    size: int
    """Side of its square RGB input."""
    low: float
    """The input's value for black; white is 1."""


NETWORKS = (
    Network("mediapipe/modules/face_detection/face_detection_short_range.tflite", "blaze_face_short_range", 128, -1.0),
    Network("mediapipe/modules/face_landmark/face_landmark.tflite", "face_mesh", 192, 0.0),
)


def fetch_wheel(folder: Path) -> Path:
    """Download the wheel alone, without what it would drag in."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), WHEEL]
    subprocess.run(command, check=True)
    return next(folder.glob("mediapipe-*.whl"))


def to_onnx(tflite: Path, target: Path) -> onnx.ModelProto:
    """The network as tf2onnx writes it: float32 weights, channels last at the border as in tflite."""
    command = [sys.executable, "-m", "tf2onnx.convert", "--tflite", str(tflite), "--output", str(target)]
    subprocess.run([*command, "--opset", str(OPSET)], check=True, capture_output=True)
    return onnx.load(target)


def store_weights_as_fp16(model: onnx.ModelProto) -> None:
    """Replace every large float32 weight by its fp16 rounding and a Cast back: half the file, float32 arithmetic.

    MediaPipe's own files hold these weights in fp16, so the rounding loses nothing.
    """
    casts = []
    for weight in model.graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.dtype != np.float32 or values.size < 16:
            continue
        half = f"{weight.name}__fp16"
        casts.append(helper.make_node("Cast", [half], [weight.name], to=onnx.TensorProto.FLOAT))
        weight.CopyFrom(numpy_helper.from_array(values.astype(np.float16), half))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def settle_names(model: onnx.ModelProto) -> None:
    """Name and order everything by its first use, so that converting again gives the same file; say where it is from.

    The converter numbers its values in the order of a hash, which changes from call to call.
    """
    graph = model.graph
    kept = {value.name for value in (*graph.input, *graph.output)}
    names: dict[str, str] = {"": ""}
    for node in graph.node:
        for value in (*node.input, *node.output):
            names.setdefault(value, value if value in kept else f"v{len(names)}")
    for i, node in enumerate(graph.node):
        inputs, outputs = ([names[value] for value in side] for side in (node.input, node.output))
        node.input[:], node.output[:], node.name, node.doc_string = inputs, outputs, f"n{i}", ""
    for weight in graph.initializer:
        weight.name = names[weight.name]
    weights = sorted(graph.initializer, key=lambda weight: int(weight.name[1:]))
    del graph.initializer[:], graph.value_info[:]
    graph.initializer.extend(weights)
    graph.name, graph.doc_string = "face", ""
    model.doc_string = "MediaPipe face network, Copyright The MediaPipe Authors, Apache-2.0; converted from tflite"


def inputs_to_compare(network: Network, picture: Path | None) -> dict[str, FloatArray]:
    """Noise over the input's range and, if given, a picture of a face; float32 [1, size, size, 3] RGB."""
    shape = (1, network.size, network.size, 3)
    found = {"noise": np.random.default_rng(0).uniform(network.low, 1.0, shape).astype(np.float32)}
    if picture is not None:
        opened = np.asarray(cv2.imread(str(picture)), dtype=np.uint8)
        image = cv2.resize(opened, shape[1:3], interpolation=cv2.INTER_AREA)[None, :, :, ::-1]
        found["picture"] = (network.low + image.astype(np.float32) / 255 * (1 - network.low)).astype(np.float32)
    return found


def run_tflite(tflite: Path, image: FloatArray) -> list[FloatArray]:
    """Every output of the original network."""
    interpreter = tf.lite.Interpreter(str(tflite))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    return [interpreter.get_tensor(output["index"]) for output in interpreter.get_output_details()]


def largest_difference(tflite: Path, model: Path, image: FloatArray) -> float:
    """Largest difference over all outputs, which are matched by their size (no two are alike)."""
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    ours = {array.size: array.ravel() for array in session.run(None, {session.get_inputs()[0].name: image})}
    return max(float(np.abs(array.ravel() - ours[array.size]).max()) for array in run_tflite(tflite, image))


def convert(network: Network, wheel: zipfile.ZipFile, scratch: Path, out: Path, picture: Path | None) -> None:
    """Convert, store as fp16, compare with the original and print what came out; exits when they differ."""
    tflite = Path(wheel.extract(network.member, scratch))
    model = to_onnx(tflite, scratch / f"{network.name}.onnx")
    settle_names(model)
    store_weights_as_fp16(model)
    onnx.checker.check_model(model)
    target = out / f"{network.name}.onnx"
    onnx.save(model, target)
    for what, image in inputs_to_compare(network, picture).items():
        difference = largest_difference(tflite, target, image)
        print(f"{target.name}: max abs difference from tflite on {what}: {difference:.2e}")
        if difference > TOLERANCE:
            raise SystemExit(f"{target.name} differs from its original by more than {TOLERANCE}")
    digest = hashlib.sha256(target.read_bytes()).hexdigest()
    print(f"{target.name}: {target.stat().st_size} bytes, sha256 {digest}")


def main() -> None:
    """Write both networks and their licence into the folder named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for the two files and the licence")
    parser.add_argument("--wheel", type=Path, help="a wheel of mediapipe 0.10.21 that is already here")
    parser.add_argument("--picture", type=Path, help="a picture filled by a face, to compare on real input too")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with zipfile.ZipFile(options.wheel or fetch_wheel(folder)) as wheel:
            for network in NETWORKS:
                convert(network, wheel, folder, options.out, options.picture)
            licence = next(name for name in wheel.namelist() if name.endswith("dist-info/LICENSE"))
            (options.out / "LICENSE").write_bytes(wheel.read(licence))


if __name__ == "__main__":
    main()
