"""Small real avatars that tests make themselves: a film of a moving blob "face", rects, features, tiny networks.

The networks have the contract's shapes and really run, but are a few kB: the generator shows the reference ROI again,
darker or brighter in the mouth by the mean of the audio window, so that a test sees which window a frame was drawn
from; the encoder is one convolution.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from lipwright.avatar import ENCODER, FEATURES, GENERATOR, LANDMARKS, RECTS, TEMPLATE, Avatar, Manifest, Sizes
from lipwright.avatar.manifest import Consent, ModelRecord, Models
from lipwright.contract import AUDIO_SHAPE, FEATURE_DIM, FPS, MEL_WINDOW, N_MELS, ROI_SIZE, FloatArray, Rect, UInt8Array

WIDTH, HEIGHT = 320, 240
#: Side of the blob's rect in pixels.
FACE = 128
SKIN_BGR = (120, 150, 210)
LIPS_BGR = (70, 60, 160)
BACKGROUND_BGR = (90, 110, 80)

#: The tiny generator's mouth is drawn on a grid of so many cells.
MOUTH_CELLS = 16
OPSET = 17
IR_VERSION = 9

#: Name and shape of a network's input or output; a word stands for a free dimension.
Port = tuple[str, Sequence[int | str]]


# --- the film ---------------------------------------------------------------------------------------------------------


def face_rect(frame: int, width: int = WIDTH, height: int = HEIGHT) -> Rect:
    """Where the blob's rect is in a frame: it sways by a few pixels."""
    x = (width - FACE) // 2 + round(12 * np.sin(frame / 7))
    y = (height - FACE) // 2 + round(6 * np.cos(frame / 5))
    return Rect(x, y, x + FACE, y + FACE)


def face_image(frame: int, width: int = WIDTH, height: int = HEIGHT) -> UInt8Array:
    """[height, width, 3] BGR: an oval with two eyes and a mouth that opens and closes."""
    image = np.full((height, width, 3), BACKGROUND_BGR, np.uint8)
    rect = face_rect(frame, width, height)
    x, y = (rect.x1 + rect.x2) // 2, (rect.y1 + rect.y2) // 2
    cv2.ellipse(image, (x, y), (FACE // 2 - 8, FACE // 2 + 8), 0, 0, 360, SKIN_BGR, -1)
    for side in (-1, 1):
        cv2.circle(image, (x + side * 22, y - 24), 7, (40, 40, 40), -1)
    opening = 4 + round(8 * abs(np.sin(frame / 3)))
    cv2.ellipse(image, (x, y + 30), (20, opening), 0, 0, 360, LIPS_BGR, -1)
    return image


def face_images(frames: int, width: int = WIDTH, height: int = HEIGHT) -> list[UInt8Array]:
    return [face_image(k, width, height) for k in range(frames)]


def face_rects(frames: int, width: int = WIDTH, height: int = HEIGHT) -> npt.NDArray[np.int32]:
    """int32 [frames, 4]."""
    rects = [face_rect(k, width, height) for k in range(frames)]
    return np.asarray([[r.x1, r.y1, r.x2, r.y2] for r in rects], np.int32)


def write_film(
    path: Path, images: Iterable[UInt8Array], rate: Fraction | int = FPS, clock: Callable[[int], int] = lambda k: k
) -> Path:
    """An H.264 film of [H, W, 3] BGR pictures, without sound, hardly compressed; ``clock(k)`` / rate is k's time."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(rate), options={"crf": "12", "preset": "ultrafast"})
        stream.pix_fmt = "yuv420p"
        for k, image in enumerate(images):
            if k == 0:
                stream.height, stream.width = image.shape[:2]
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts, frame.time_base = clock(k), 1 / Fraction(rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


# --- the networks -----------------------------------------------------------------------------------------------------


def tiny_generator(
    path: Path,
    *,
    names: tuple[str, str, str] = ("input", "audio", "output"),
    batch: int | str = "batch",
    swap_inputs: bool = False,
    gain: float = 0.05,
) -> Path:
    """A generator of the contract's shapes: the reference ROI, its mouth brightened by gain x mean of the window.

    Args:
        path: where to.
        names: of the inputs and the output, as models in the wild vary them.
        batch: a fixed size, or the name of a free dimension.
        swap_inputs: list the audio before the picture.
        gain: how much the mouth follows the sound.
    """
    image, audio, output = names
    mouth = np.zeros((1, 1, MOUTH_CELLS, MOUTH_CELLS), np.float32)
    mouth[:, :, MOUTH_CELLS // 2 :, MOUTH_CELLS // 4 : 3 * MOUTH_CELLS // 4] = gain
    nodes = [
        helper.make_node("Conv", [image, "reference"], ["picture"]),
        helper.make_node("ReduceMean", [audio], ["loudness"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Resize", ["cells", "", "scales"], ["profile"], mode="nearest"),
        helper.make_node("Mul", ["loudness", "profile"], ["mouth"]),
        helper.make_node("Add", ["picture", "mouth"], ["sum"]),
        helper.make_node("Clip", ["sum", "zero", "one"], [output]),
    ]
    constants = {
        "reference": np.eye(3, 6, dtype=np.float32).reshape(3, 6, 1, 1),
        "cells": mouth,
        "scales": np.asarray([1, 1, ROI_SIZE / MOUTH_CELLS, ROI_SIZE / MOUTH_CELLS], np.float32),
        "zero": np.float32(0),
        "one": np.float32(1),
    }
    inputs: list[Port] = [(image, [batch, 6, ROI_SIZE, ROI_SIZE]), (audio, [batch, *AUDIO_SHAPE])]
    result: Port = (output, [batch, 3, ROI_SIZE, ROI_SIZE])
    if swap_inputs:
        inputs.reverse()
    return save_graph(path, nodes, constants, inputs, [result])


def tiny_encoder(path: Path, *, seed: int = 0, names: tuple[str, str] = ("mel", "feature")) -> Path:
    """An audio encoder of the contract's shapes: one convolution over bands and time, flattened, not negative."""
    channels, kernel = 8, (N_MELS // 8, MEL_WINDOW // 8)
    weights = np.random.default_rng(seed).normal(0, 0.05, (channels, 1, *kernel)).astype(np.float32)
    mel, feature = names
    nodes = [
        helper.make_node("Conv", [mel, "weights"], ["map"], strides=list(kernel)),
        helper.make_node("Flatten", ["map"], ["flat"], axis=1),
        helper.make_node("Relu", ["flat"], [feature]),
    ]
    inputs: list[Port] = [(mel, ["batch", 1, N_MELS, MEL_WINDOW])]
    return save_graph(path, nodes, {"weights": weights}, inputs, [(feature, ["batch", FEATURE_DIM])])


def save_graph(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    constants: dict[str, Any],
    inputs: Sequence[Port],
    outputs: Sequence[Port],
) -> Path:
    """Write an ONNX file of float32 inputs and outputs."""
    graph = helper.make_graph(
        list(nodes),
        "tiny",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)) for name, shape in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)) for name, shape in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opset = [helper.make_opsetid("", OPSET)]
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION), str(path))
    return path


# --- the package ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Parts:
    """What a small avatar is made of; None leaves a part out."""

    frames: int = 12
    width: int = WIDTH
    height: int = HEIGHT
    generator: bool = True
    encoder: bool = True
    features: bool = True
    landmarks: bool = True


def small_features(frames: int) -> FloatArray:
    """float32 [frames, 512], 0..1, the same every time."""
    return np.random.default_rng(3).random((frames, FEATURE_DIM), dtype=np.float32)


def small_landmarks(frames: int, points: int = 110) -> FloatArray:
    """float32 [frames, points, 2]: points spread over the rect."""
    spread = np.random.default_rng(4).random((points, 2), dtype=np.float32) * FACE
    corners = face_rects(frames)[:, None, :2].astype(np.float32)
    return (corners + spread).astype(np.float32)


#: The blob is nobody, so films of it need no mark.
NOBODY = Consent(shown="nobody: a drawing", agreed_by="the test", agreed_on=date(2026, 1, 31), purpose="any")


def make_avatar(
    folder: Path, parts: Parts | None = None, *, name: str = "tiny", consent: Consent | None = NOBODY, **manifest: Any
) -> Avatar:
    """Write ``folder / NAME.avatar`` and open it; ``manifest`` are further fields of the manifest by name."""
    parts = parts or Parts()
    made = folder / f"{name}-parts"
    made.mkdir(parents=True, exist_ok=True)
    contents: dict[str, Any] = {
        TEMPLATE: write_film(made / TEMPLATE, face_images(parts.frames, parts.width, parts.height)),
        RECTS: face_rects(parts.frames, parts.width, parts.height),
    }
    records: dict[str, ModelRecord] = {}
    if parts.generator:
        contents[GENERATOR] = tiny_generator(made / GENERATOR)
        records["generator"] = ModelRecord(file=GENERATOR, licence="CC0-1.0", origin="made by a test", width="mobile")
    if parts.encoder:
        contents[ENCODER] = tiny_encoder(made / ENCODER)
        records["audio_encoder"] = ModelRecord(file=ENCODER, licence="CC0-1.0", origin="made by a test")
    if parts.features:
        contents[FEATURES] = small_features(parts.frames)
    if parts.landmarks:
        contents[LANDMARKS] = small_landmarks(parts.frames)
    sizes = Sizes(width=parts.width, height=parts.height, frames=parts.frames)
    return Avatar.create(
        folder / f"{name}.avatar",
        Manifest.new(name, sizes, models=Models(**records), consent=consent, **manifest),
        contents,
    )


# --- malice -----------------------------------------------------------------------------------------------------------


class Bomb:
    """Unpickling it leaves the folder ``trace`` behind."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)
