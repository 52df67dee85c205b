"""The same networks with fewer layers, for use: equal but for the last bits, and not to be trained any further."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from lipwright.models.generator import Generator, InvertedResidual


def lean(network: nn.Module) -> nn.Module:
    """Fold every layer that can be folded into its neighbour, in place. Needs eval mode."""
    fold_batch_norm(network)
    if isinstance(network, Generator):
        fold_stem(network)
    return network


def fold_batch_norm(network: nn.Module) -> None:
    """Fold each batch norm into the convolution before it, in place: a third of the layers less.

    Every batch norm of these networks is registered right after its convolution.
    """
    children = list(network.named_children())
    for (name, child), (after, norm) in pairwise(children):
        if isinstance(child, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            setattr(network, name, fuse_conv_bn_eval(child, norm))
            setattr(network, after, nn.Identity())
    for _, child in children:
        fold_batch_norm(child)


def fold_stem(generator: Generator) -> None:
    """Fold the stem's last convolution into the two that read its answer, in place, after the batch norms.

    It is 1 x 1 and nothing stands between, so its 12 input channels can be read instead of its 32 output channels, at
    full resolution, where a channel costs most: a frame takes 9 % less on a processor core.
    """
    stem = _block(generator, "inc.inconv.0")
    *body, last = (part for part in stem.conv if not isinstance(part, nn.Identity))
    stem.conv = nn.Sequential(*body)
    for name in ("down1.maxpool_conv.0.double_conv.0", "up5.conv.double_conv.0"):
        reader = _block(generator, name)
        reader.conv[0] = _after(reader.conv[0], last)


def _block(generator: Generator, name: str) -> InvertedResidual:
    block = generator.get_submodule(name)
    assert isinstance(block, InvertedResidual)
    return block


@torch.no_grad()
def _after(reader: nn.Module, folded: nn.Module) -> nn.Conv2d:
    """``reader``, whose last input channels are what ``folded`` answers, reading the inputs of ``folded`` instead."""
    assert isinstance(reader, nn.Conv2d) and isinstance(folded, nn.Conv2d)
    own = reader.in_channels - folded.out_channels
    mixes, mixed = _matrix(reader), _matrix(folded)
    result = nn.Conv2d(own + folded.in_channels, reader.out_channels, 1)
    result.weight.copy_(torch.cat([mixes[:, :own], mixes[:, own:] @ mixed], dim=1)[:, :, None, None])
    _bias(result).copy_(_bias(reader) + mixes[:, own:] @ _bias(folded))
    return result


def _matrix(conv: nn.Conv2d) -> Tensor:
    """[out, in] weights of a 1 x 1 convolution."""
    return conv.weight[:, :, 0, 0]


def _bias(conv: nn.Conv2d) -> Tensor:
    assert conv.bias is not None
    return conv.bias
