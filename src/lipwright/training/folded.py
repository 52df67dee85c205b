"""Training without batch norms, where a network has learnt already.

On processors batch norms take two fifths of a step's time. A network that begins from nothing needs them; one that goes
on from a base keeps their last word as plain numbers, folded into the convolutions before them (Jacob et al. 2018,
arXiv:1712.05877, section 3.2). Then what is trained and what is used are also the same network.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from lipwright.models.generator import Generator


def fold(network: nn.Module) -> None:
    """Take the batch norms out, in place; the network, or the part of one, says what it said in eval mode before."""
    for parent_name, conv_name, norm_name in list(_normed(network)):
        parent = network.get_submodule(parent_name)
        conv, norm = parent.get_submodule(conv_name), parent.get_submodule(norm_name)
        assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None and norm.running_var is not None
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        # The norm's shift was learnt, and so is what it becomes: torch gives a convolution that had no bias a dead one.
        conv.bias.requires_grad_(conv.weight.requires_grad)
        setattr(parent, norm_name, nn.Identity())


def unfolded(generator: Generator) -> Generator:
    """The family's network that says the same as one that was folded, or whose ear was.

    The batch norms that were folded come back as ones that only add the biases; the others are as they were.
    """
    whole = Generator(generator.width)
    state, weights = whole.state_dict(), generator.state_dict()
    for parent, conv, norm in _normed(whole):
        path = f"{parent}." if parent else ""
        if f"{path}{norm}.running_var" in weights:
            continue
        state[f"{path}{norm}.bias"] = weights.pop(f"{path}{conv}.bias")
        state[f"{path}{norm}.running_var"].fill_(1 - nn.BatchNorm2d(1).eps)
        if f"{path}{conv}.bias" in state:
            state[f"{path}{conv}.bias"].zero_()
    whole.load_state_dict(state | weights)
    return whole.eval()


def amplify(generator: Generator, rest: Tensor, gain: float) -> None:
    """From now on what the ear of a folded generator says beyond ``rest`` counts ``gain`` times; in place.

    An ear that is unsure says the mean of its guesses, and the lips move too little. The audio map enters the picture
    by one convolution, so the gain is a change of its weights: W (rest + gain (map - rest)).

    Args:
        generator: without batch norms (`fold`).
        rest: [C] what the ear says when nobody speaks.
        gain: 1 changes nothing.
    """
    entry = generator.get_submodule("fuse_conv.0.double_conv.0.conv.0")
    assert isinstance(entry, nn.Conv2d) and entry.bias is not None
    with torch.no_grad():
        heard = entry.weight[:, -len(rest) :, 0, 0]
        entry.bias += (1 - gain) * (heard @ rest)
        heard *= gain


def _normed(network: nn.Module) -> Iterator[tuple[str, str, str]]:
    """Names of every module that holds a batch norm right behind a convolution, and of these two in it."""
    for name, parent in network.named_modules():
        for (conv_name, conv), (norm_name, norm) in pairwise(parent.named_children()):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                yield name, conv_name, norm_name
