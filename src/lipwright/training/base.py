"""Weights to start from: a whole generator, as trained or as exported, or its ear (the audio branch) alone.

An exported network has its batch norms folded into the convolutions, and what begins from a base is trained without
them (`lipwright.training.folded`). The stem's last convolution, which `models.lean` folds into its readers, comes back
as one that hands its input on.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lipwright.errors import AvatarError, LipwrightError
from lipwright.models.generator import CHANNELS, Generator, Width
from lipwright.runtimes.stored import stored_weights
from lipwright.runtimes.torch import load_generator
from lipwright.training.folded import fold
from lipwright.training.loop import MouthMap, Student
from lipwright.training.pack import Pack
from lipwright.training.speech import SpeechSampler

log = logging.getLogger(__name__)

Start = Literal["none", "ear", "whole generator"]
Weights = dict[str, npt.NDArray[np.float16]]

#: The audio branch's names begin with it.
EAR = "audio_model."
#: The stem, and who reads it, by their names.
_STEM = "inc.inconv.0.conv"
_STEM_READERS = ("down1.maxpool_conv.0.double_conv.0.conv.0", "up5.conv.double_conv.0.conv.0")
#: What only a generator that was not folded has.
_UNFOLDED = ".running_mean"
#: Ridge of the fit of the mouth map to what the ear says, as a share of the code's variance.
_RIDGE = 0.1
#: Windows of the person's own sound that the mouth map is fitted to.
_FIT_WINDOWS = 192


def exported_weights(model: Path) -> Weights:
    """The folded weights of an exported generator (ONNX file) by their names, rounded to fp16.

    Raises:
        AvatarError: the file is no generator that lipwright exported.
        MissingExtraError: onnx is not installed.
    """
    found = stored_weights(model)
    stored = {name: values for name, values in found.items() if name.endswith((".weight", ".bias"))}
    if not any(name.startswith(EAR) for name in stored):
        raise AvatarError(f"{model} was not exported by lipwright: its weights have other names")
    return {name: values.astype(np.float16) for name, values in stored.items()}


def whole_weights(weights: Path) -> dict[str, npt.NDArray[Any]]:
    """All weights of a generator from its ``.pth`` file, by their names.

    Raises:
        AvatarError: the file is missing or damaged.
        ContractError: it holds something else.
    """
    return {name: value.numpy() for name, value in load_generator(weights).state_dict().items()}


def ear_of(base: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """What a base holds of the audio branch: the start of those who shall learn to draw from nothing."""
    return {name: values for name, values in base.items() if name.startswith(EAR)}


def is_whole(base: Mapping[str, npt.NDArray[Any]]) -> bool:
    """Whether a base is a whole generator and not an ear alone."""
    return any(not name.startswith(EAR) for name in base)


def same(one: Mapping[str, npt.NDArray[Any]], other: Mapping[str, npt.NDArray[Any]]) -> bool:
    """Whether two bases are the same weights."""
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def base_width(base: Mapping[str, npt.NDArray[Any]]) -> Width:
    """How wide the generator is that a base comes from.

    Raises:
        LipwrightError: no generator is so wide.
    """
    channels = base[f"{EAR}conv7.conv.6.weight"].shape[0]
    for width, each in CHANNELS.items():
        if each[-1] == channels:
            return width
    raise LipwrightError(f"the base ends in {channels} channels; known are {[c[-1] for c in CHANNELS.values()]}")


def start(base: Mapping[str, npt.NDArray[Any]], width: Width) -> Start:
    """From what a generator of this width begins.

    Raises:
        LipwrightError: no generator is as wide as the base.
    """
    if not base or base_width(base) != width:
        return "none"
    return "whole generator" if is_whole(base) else "ear"


def begin(pack: Pack, width: Width, voices: SpeechSampler) -> Student:
    """A student of this person that has taken the pack's base, if its width is the base's, and its mouth map with it.

    What it took has no batch norms (`lipwright.training.folded`).

    Raises:
        LipwrightError: the base lacks weights.
    """
    student = Student(pack, width)
    if start(pack.base, width) != "none":
        go_on(student, pack.base, voices)
    elif pack.base:
        log.info("the base is %s and not %s: starting from nothing", base_width(pack.base), width)
    return student


def go_on(student: Student, base: Mapping[str, npt.NDArray[Any]], voices: SpeechSampler) -> None:
    """Give a student a base, and fit its mouth map to what that says of these voices.

    Raises:
        LipwrightError: the base is of another width or lacks weights.
    """
    take(student.generator, base)
    speak_like(student.mouth_map, student.generator, *voices.batch(0, _FIT_WINDOWS))


def take(generator: Generator, base: Mapping[str, npt.NDArray[Any]]) -> None:
    """Give ``generator`` a base, without batch norms; what the base does not hold stays as it is.

    Args:
        generator: of the base's width; changed in place.
        base: as `exported_weights` or `whole_weights` gives it.

    Raises:
        LipwrightError: the base is of another width or lacks weights.
    """
    whole = is_whole(base)
    network: nn.Module = generator if whole else generator.audio_model
    weights = base if whole else {name.removeprefix(EAR): value for name, value in base.items()}
    if any(name.endswith(_UNFOLDED) for name in base):
        _take_unfolded(network, weights, generator.width)
    else:
        _take_folded(network, _with_stem(generator, weights) if whole else weights)


def _take_unfolded(network: nn.Module, base: Mapping[str, npt.NDArray[Any]], width: Width) -> None:
    try:
        network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in base.items()})
    except RuntimeError as error:
        raise LipwrightError(f"the base does not fit a generator of width {width}: {error}") from error
    fold(network)


def _take_folded(network: nn.Module, base: Mapping[str, npt.NDArray[Any]]) -> None:
    fold(network)
    state = network.state_dict()
    for name, mine in state.items():
        state[name] = _stored(base, name)
        if state[name].shape != mine.shape:
            raise LipwrightError(f"the base does not fit: {name} is {list(state[name].shape)}, not {list(mine.shape)}")
    network.load_state_dict(state)


def _with_stem(generator: Generator, base: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """A folded base with the stem's last convolution in its place again.

    It hands its inputs on in its first channels; the others keep what a new generator has there, and nobody listens to
    them yet, so the network says the same as before.
    """
    whole = dict(base)
    last = f"{_STEM}.6.weight"
    if last in whole:
        return whole
    for part in ("weight", "bias"):
        whole[f"{_STEM}.3.{part}"] = whole.pop(f"{_STEM}.2.{part}")
    passing = generator.state_dict()[last].cpu().numpy().copy()
    channels, handed_on = passing.shape[:2]
    passing[:handed_on] = np.eye(handed_on)[:, :, None, None]
    whole[last], whole[f"{_STEM}.6.bias"] = passing, np.zeros(channels, np.float32)
    for name in _STEM_READERS:
        weight = whole[f"{name}.weight"]
        whole[f"{name}.weight"] = np.pad(weight, ((0, 0), (0, channels - handed_on), (0, 0), (0, 0)))
    return whole


def _stored(base: Mapping[str, npt.NDArray[Any]], name: str) -> Tensor:
    if name not in base:
        raise LipwrightError(f"the base lacks {name}: give an avatar that lipwright exported")
    return torch.from_numpy(base[name].astype(np.float32))


@torch.no_grad()
def speak_like(mouth_map: MouthMap, generator: Generator, audio: Tensor, mouth: Tensor) -> None:
    """Begin the mouth map where the ear speaks already: ridge regression of what it says on the mouth code."""
    generator.eval()
    said = generator.audio_model(audio).mean(dim=(2, 3)).double()
    generator.train()
    code = ((mouth - mouth_map.mean) / mouth_map.spread).double()
    middle, level = code.mean(dim=0), said.mean(dim=0)
    x, y = code - middle, said - level
    gram = x.T @ x + _RIDGE * len(x) * torch.eye(x.shape[1], dtype=torch.double)
    weights = torch.linalg.solve(gram, x.T @ y)
    mouth_map.linear.weight.copy_(weights.T)
    mouth_map.linear.bias.copy_(level - middle @ weights)
