"""A generator that has learnt nothing begins by copying: the target outside the mask, the reference inside it.

So its first lesson is what a mouth does, and not what a face is. The copy passes through layers that are there
anyway: the stem, the skip connection at full size, the last two blocks and the last convolution. Everything else in
these layers, and all that lies below, begins by chance as usual.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lipwright.models.generator import SMALL_SIZE, InvertedResidual
from lipwright.training.data import Sampler
from lipwright.training.loop import Student

#: Samples that tell how bright the film is.
_SAMPLES = 8
_COLOURS = 3
#: Darkens the reference where the target can be seen: black, wherever the target is not black itself.
_HIDES = 8.0
#: Steepness of a line that is near the inverse of the last sigmoid over 0..1.
_STEEP = 4.5
#: Share of the last convolution's weights that those who do not copy keep: they shall not cover the copy at once.
_FAINT = 0.1


@torch.no_grad()
def begin_by_copying(student: Student, sampler: Sampler) -> None:
    """Make a new generator draw, nearly, the reference in place of the mask.

    Args:
        student: its generator has batch norms; it is changed in place, and in training mode afterwards.
        sampler: its first samples set the batch norms, so that they hand on what is copied.
    """
    generator, shown = student.generator, sampler.batch(0, _SAMPLES, SMALL_SIZE)
    stem = generator.get_submodule("inc.inconv.0")
    first, second = generator.up5.conv.double_conv.children()
    assert isinstance(stem, InvertedResidual) and isinstance(first, InvertedResidual)
    assert isinstance(second, InvertedResidual)
    norms = [*_copying_stem(stem), *_passing(first)]
    _convolution(second, 6).weight[:_COLOURS] = 0
    _shown(generator.outc.conv)
    hooks = [norm.register_forward_pre_hook(_handing_on(channels)) for norm, channels in norms]
    generator.train().draw(shown.x, student.mouth_map(shown.mouth))
    for hook in hooks:
        hook.remove()


def _copying_stem(stem: InvertedResidual) -> list[tuple[nn.Module, int]]:
    """Put the target, and the reference where the target is masked, into the first channels: see `_carry`."""
    same, nothing = torch.eye(_COLOURS), torch.zeros(_COLOURS, _COLOURS)
    target, reference = torch.cat([nothing, same], dim=1), torch.cat([same, nothing - _HIDES], dim=1)
    return _carry(stem, torch.cat([target, reference]), torch.cat([same, same], dim=1))


def _passing(block: InvertedResidual) -> list[tuple[nn.Module, int]]:
    """Hand on what the stem copied, in the second half of the input: see `_carry`."""
    inputs = _convolution(block, 0).in_channels
    same, skipped = torch.eye(_COLOURS), torch.zeros(_COLOURS, inputs)
    skipped[:, inputs // 2 : inputs // 2 + _COLOURS] = same
    return _carry(block, skipped, same)


def _carry(block: InvertedResidual, taken: Tensor, given: Tensor) -> list[tuple[nn.Module, int]]:
    """Carry channels through a block, pixel by pixel.

    Args:
        block: its first channels are changed.
        taken: [n, in] what the first n channels inside take of the input.
        given: [3, n] what the first three channels of the answer take of these.

    Returns:
        The batch norms on the way, and how many of their channels are carried.
    """
    wide, around, narrow = (_convolution(block, k) for k in (0, 3, 6))
    inside = len(taken)
    wide.weight[:inside] = taken[:, :, None, None]
    around.weight[:inside] = 0
    around.weight[:inside, 0, 1, 1] = 1
    narrow.weight[:_COLOURS] = 0
    narrow.weight[:_COLOURS, :inside, 0, 0] = given
    return [(block.conv[1], inside), (block.conv[4], inside), (block.conv[7], _COLOURS)]


def _shown(last: nn.Conv2d) -> None:
    """What the first three channels hold comes out of the sigmoid."""
    assert last.bias is not None
    last.weight *= _FAINT
    for c in range(_COLOURS):
        last.weight[c, :_COLOURS] = 0
        last.weight[c, c] = _STEEP
    last.bias.fill_(-_STEEP / 2)


def _handing_on(channels: int) -> Callable[[nn.Module, tuple[Tensor]], None]:
    """A hook before a batch norm: gives it the scale and shift with which it changes nothing in its first channels."""

    def hook(norm: nn.Module, seen: tuple[Tensor]) -> None:
        assert isinstance(norm, nn.BatchNorm2d)
        values = seen[0].float()[:, :channels]
        norm.weight[:channels] = (values.var((0, 2, 3), correction=0) + norm.eps).sqrt()
        norm.bias[:channels] = values.mean((0, 2, 3))

    return hook


def _convolution(block: InvertedResidual, place: int) -> nn.Conv2d:
    layer = block.conv[place]
    assert isinstance(layer, nn.Conv2d)
    return layer
