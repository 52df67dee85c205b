"""The encoder that a new one follows, so that generators taught with the old one understand the new one.

What the teacher says of clean sound the new one learns to say of every copy of it (knowledge distillation, Hinton et
al. 2015, https://arxiv.org/abs/1503.02531, on features instead of classes): it gets better at voices and rooms without
learning another language.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor, nn

from lipwright.models.audio_encoder import AudioEncoder
from lipwright.runtimes.stored import stored_weights
from lipwright.runtimes.torch import load_audio_encoder


def load_encoder(path: Path) -> AudioEncoder:
    """An encoder from its ``.pth`` file or, where onnx is installed, out of an ``.onnx`` or an avatar; in eval mode.

    Raises:
        AvatarError: the file is missing or damaged.
        ContractError: it holds something else.
        MissingExtraError: onnx is not installed.
    """
    if path.is_dir():
        # an avatar's room wants more than a training has on a bare machine with a graphics card
        from lipwright.avatar import ENCODER

        return load_encoder(path / ENCODER)
    if path.suffix != ".onnx":
        return _frozen(load_audio_encoder(path))
    encoder = AudioEncoder()
    for _, norm in _layers(encoder):
        nn.init.constant_(norm.weight, (1 + norm.eps) ** 0.5)  # an export has folded its norms: these change nothing
    weights = {name: torch.from_numpy(values.copy()) for name, values in stored_weights(path).items()}
    encoder.load_state_dict(encoder.state_dict() | weights)
    return _frozen(encoder)


def _frozen(encoder: AudioEncoder) -> AudioEncoder:
    encoder.eval().requires_grad_(False)
    return encoder


@torch.no_grad()
def heir(teacher: AudioEncoder, mel: Tensor) -> AudioEncoder:
    """A copy that says the same and can learn: its batch norms know how [B, 1, 80, 16] slices such as these scatter.

    They keep to that and do not follow each batch (eval mode), as those of a network that is only refined may.
    """
    encoder = copy.deepcopy(teacher).eval()
    encoder.requires_grad_(True)
    for block, (conv, norm) in zip(encoder.audio_encoder, _layers(encoder), strict=True):
        _settle(norm, conv(mel))
        mel = block(mel)
    return encoder


def _layers(encoder: AudioEncoder) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Every convolution with the norm behind it."""
    convolutions = [layer for layer in encoder.modules() if isinstance(layer, nn.Conv2d)]
    norms = [layer for layer in encoder.modules() if isinstance(layer, nn.BatchNorm2d)]
    return list(zip(convolutions, norms, strict=True))


def _settle(norm: nn.BatchNorm2d, given: Tensor) -> None:
    """Make ``norm`` do what it does through the mean and variance of what it is given; in place."""
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None and variance is not None
    scale = norm.weight / torch.sqrt(variance + norm.eps)
    offset = norm.bias - scale * mean
    mean.copy_(given.mean((0, 2, 3)))
    variance.copy_(given.var((0, 2, 3)))
    norm.weight.copy_(scale * torch.sqrt(variance + norm.eps))
    norm.bias.copy_(offset + scale * mean)


def unlikeness(said: Tensor, wanted: Tensor) -> Tensor:
    """Mean squared difference of features [B, 512] over the variance of those that are ``wanted``; 2 if unrelated."""
    return (said - wanted).square().mean() / wanted.var(0).mean()
